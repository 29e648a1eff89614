//! What kernels show before they have a driver for the screen.

use std::path::Path;
use std::time::Duration;

use viridian::Builder;
use viridian::machine::{End, Machine};

use crate::common::patience::{grown, holds_within};
use crate::common::stock::{SOON, engine, image_file, number};
use crate::rfb::ZRLE;
use crate::vnc::Viewer;

/// Starts a kernel by its own boot protocol, which has a place for the screen. PVH has none.
fn start(display: &str, cmdline: &str, has_initrd: bool) -> Machine {
    let builder = Builder::new().engine(engine()).memory(256 << 20).kernel(image_file("vmlinuz")).display(display);
    let builder = if has_initrd { builder.initrd(image_file("initrd.img")) } else { builder };
    let cmdline = format!("console=tty0 console=ttyS0 vt.global_cursor_default=0 {cmdline}");
    builder.cmdline(cmdline).capture_console().start().expect("the machine starts")
}

fn expect(machine: &Machine, words: &str) {
    let output = machine.console().expect("it is captured").wait_for(words, grown(SOON));
    output.unwrap_or_else(|missing| panic!("{missing}"));
}

fn expect_text(machine: &Machine, text: &str) {
    machine.screen().wait_for_text(text, grown(2 * SOON)).unwrap_or_else(|missing| panic!("{missing}"));
}

/// Waits until a viewer sees what is on the screen.
fn look(machine: &Machine, viewer: &mut Viewer) {
    let picture = machine.screen().picture().expect("it is seen");
    assert_eq!(picture.size(), (800, 600));
    viewer.wait_for((800, 600), |x, y| {
        let [red, green, blue] = picture.pixel(x as u32, y as u32).expect("it is on the screen");
        u32::from_be_bytes([0, red, green, blue])
    });
}

/// Waits until the guest has loaded its driver again `rounds` times. Viewers come and leave meanwhile.
fn expect_reloads(machine: &Machine, socket: &Path, rounds: u32) {
    let console = machine.console().expect("it is captured");
    let mut viewers = 0_u64;
    let is_done = || {
        viewers += 1;
        let mut viewer = Viewer::new(socket, ZRLE);
        viewer.ask(false);
        viewer.take();
        console.wait_for("again shown\r\n", Duration::from_millis(50)).is_ok()
    };
    assert!(holds_within((1 + rounds / 10) * SOON, is_done), "the driver is loaded again {rounds} times");
    expect_text(machine, &format!("The driver was loaded again, {rounds}."));
    look(machine, &mut Viewer::new(socket, ZRLE));
    // hyperv_fb sets one whenever it is told that a viewer has come or left, and each driver a few when it is loaded.
    let situations = machine.inspect()["devices"]["screen"]["status"]["situations"].as_u64();
    let most = 4 * (viewers + 1) + 10 * u64::from(rounds + 1);
    assert!(situations.is_some_and(|situations| situations <= most), "{situations:?} situations, {viewers} viewers");
}

/// The picture is the kernel's own until `hyperv_drm` takes the screen over, also when that is loaded again.
pub fn the_driver_takes_over_what_the_kernel_shows() {
    let socket = std::env::temp_dir().join(format!("viridian-early-{}", std::process::id()));
    let rounds = number("ROUNDS");
    let cmdline = format!("quiet panic=-1 run=\"early {rounds}\"");
    let machine = start(&format!("vnc=unix:{},size=800x600", socket.display()), &cmdline, true);
    let mut viewer = Viewer::new(&socket, ZRLE);
    expect(&machine, "early shown\r\n");
    expect_text(&machine, "No driver has been loaded.");
    assert_eq!(machine.inspect()["devices"]["screen"]["status"]["state"], "closed");
    look(&machine, &mut viewer);
    let go_on = || machine.console().expect("it is captured").type_text("\n").expect("it runs");
    go_on();
    expect(&machine, "driver shown\r\n");
    expect_text(&machine, "The driver has been loaded.");
    let status = machine.inspect()["devices"]["screen"]["status"].clone();
    assert_eq!((&status["version"], &status["mode"]["width"]), (&"3.5".into(), &800.into()), "{status}");
    look(&machine, &mut viewer);
    drop(viewer);
    go_on();
    expect_reloads(&machine, &socket, rounds);
    go_on();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

/// A kernel that is started by kexec shows its messages where the first one did, and then has the screen with its own driver.
pub fn the_next_kernel_has_the_screen() {
    let socket = std::env::temp_dir().join(format!("viridian-again-{}", std::process::id()));
    let machine = start(&format!("vnc=unix:{},size=800x600", socket.display()), "quiet panic=-1 run=again", true);
    let mut viewer = Viewer::new(&socket, ZRLE);
    expect(&machine, "first shown\r\n");
    expect_text(&machine, "The first kernel.");
    let status = || machine.inspect()["devices"]["screen"]["status"].clone();
    assert_eq!((&status()["state"], &status()["watched"]), (&"ready".into(), &true.into()), "{}", status());
    let go_on = || machine.console().expect("it is captured").type_text("\n").expect("it runs");
    go_on();
    expect(&machine, "early shown\r\n");
    assert_eq!(status()["state"], "closed", "{}", status());
    expect_text(&machine, "No driver has been loaded.");
    look(&machine, &mut viewer);
    go_on();
    expect(&machine, "driver shown\r\n");
    expect_text(&machine, "The driver has been loaded.");
    assert_eq!((&status()["state"], &status()["mode"]["width"]), (&"ready".into(), &800.into()), "{}", status());
    look(&machine, &mut viewer);
}

/// A kernel that finds no root panics, and says so on the screen.
pub fn a_panic_is_on_the_screen() {
    let machine = start("on", "root=/dev/none panic=0", false);
    expect_text(&machine, "Kernel panic - not syncing: VFS: Unable to mount root fs");
    assert_eq!(machine.screen().picture().expect("it is seen").size(), (1024, 768));
}

/// `hyperv_fb` is loaded again and again, and shows what the kernel's console has.
pub fn the_older_driver_is_loaded_again() {
    let socket = std::env::temp_dir().join(format!("viridian-older-{}", std::process::id()));
    let rounds = number("ROUNDS");
    let cmdline = format!("quiet panic=-1 video=hyperv_fb:800x600 run=\"reload hyperv_fb {rounds}\"");
    let machine = start(&format!("vnc=unix:{},size=800x600", socket.display()), &cmdline, true);
    expect_reloads(&machine, &socket, rounds);
    let status = machine.inspect()["devices"]["screen"]["status"].clone();
    assert_eq!((&status["version"], &status["mode"]["width"]), (&"3.5".into(), &800.into()), "{status}");
    machine.console().expect("it is captured").type_text("\n").expect("it runs");
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

/// `hyperv_fb` takes the screen over, too.
pub fn the_older_driver_takes_over_what_the_kernel_shows() {
    let machine = start("on,size=800x600", "quiet panic=-1 video=hyperv_fb:800x600 run=draw", true);
    expect(&machine, "text ");
    expect(&machine, " shown\r\n");
    expect_text(&machine, "Viridian 123");
    // The text is that of the console, which may have been efifb's so far.
    let status = || machine.inspect()["devices"]["screen"]["status"].clone();
    let is_taken_over = || status()["state"] == "ready" && status()["mode"]["width"] == 800;
    assert!(holds_within(SOON, is_taken_over), "{}", status());
    expect_text(&machine, "Viridian 123");
}
