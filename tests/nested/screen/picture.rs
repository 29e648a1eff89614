//! What a guest shows on its screen: text, and known pictures.

use std::path::Path;
use std::time::Duration;

use viridian::Builder;
use viridian::machine::{End, Machine, Picture};

use crate::common::patience::{grown, holds_within};
use crate::common::stock::{SOON, engine, image_file};
use crate::rfb::ZRLE;
use crate::vnc::Viewer;

/// The colour of Linux's console.
const GREY: [u8; 3] = [0xaa; 3];

/// A Linux that shows what `draw.c` shows.
struct Linux {
    machine: Machine,
}

impl Linux {
    /// Boots it with these kernel parameters, and these modes to be set one after the other.
    fn boot(display_options: &str, parameters: &str, modes: &str) -> Self {
        Self::boot_with(256 << 20, display_options, parameters, modes)
    }

    fn boot_with(memory: u64, display_options: &str, parameters: &str, modes: &str) -> Self {
        let machine = Builder::new()
            .engine(engine())
            .memory(memory)
            .kernel(image_file("vmlinux"))
            .initrd(image_file("initrd.img"))
            .cmdline(format!("console=ttyS0 quiet panic=-1 {parameters} run=\"draw {modes}\""))
            .display(display_options)
            .capture_console()
            .start()
            .expect("the machine starts");
        Self { machine }
    }

    /// Waits until the guest says that it shows this, and returns what else it says of it.
    fn shown(&self, what: &str) -> String {
        let console = self.machine.console().expect("it is captured");
        let output = console.wait_for(" shown\r\n", grown(SOON)).unwrap_or_else(|missing| panic!("{what}: {missing}"));
        let output = String::from_utf8_lossy(&output).into_owned();
        let line = output.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {output}"));
        line[what.len()..].trim().trim_end_matches("shown").trim().to_owned()
    }

    /// Has the guest show the next thing.
    fn go_on(&self) {
        self.machine.console().expect("it is captured").type_text("\n").expect("it runs");
    }

    fn expect_text(&self, text: &str) {
        let seen = self.machine.screen().wait_for_text(text, grown(SOON));
        seen.unwrap_or_else(|missing| panic!("{missing}"));
    }

    /// Waits until the picture of a size is on the screen.
    fn expect_painted(&self, what: &str, wanted: (u32, u32)) {
        let text = self.shown(what);
        let (width, height) = text.split_once('x').expect("a size");
        assert_eq!((width.parse(), height.parse()), (Ok(wanted.0), Ok(wanted.1)));
        expect(&self.machine, &format!("{what}{text}"), |picture| picture.size() == wanted && is_painted(picture));
    }
}

/// Boots Linux, has it show what `draw.c` shows, and compares the pictures: those of screenshots and those of a VNC viewer.
pub fn each_picture_is_seen_as_it_is_drawn() {
    let socket = std::env::temp_dir().join(format!("viridian-vnc-{}", std::process::id()));
    let options = format!("vnc=unix:{},size=1920x1080", socket.display());
    // The driver's own list has no mode of this size: that of the kernel's parameter is the console's, too.
    let linux = Linux::boot(&options, "video=1152x864", "800x600 1152x864 1920x1080 1280x1024");
    let Linux { machine } = &linux;
    let glyphs = linux.shown("text ");
    expect(machine, "the text", |picture| has_text(picture, &glyphs));
    linux.expect_text("Viridian 123");
    assert_eq!(machine.command("screen", "text", &serde_json::Value::Null), Ok(serde_json::json!(["Viridian 123"])));
    linux.go_on();
    linux.shown("characters");
    let ascii: String = ('!'..='~').collect();
    [&ascii, "red on blue", "black on white", "with a cursor"].into_iter().for_each(|text| linux.expect_text(text));
    let missing = machine.screen().wait_for_text("never shown", Duration::ZERO).expect_err("it is not there");
    assert!(missing.to_string().contains("red on blue"), "{missing}");
    let mut viewer = None;
    linux.go_on();
    linux.expect_painted("fb0 ", (1152, 864));
    look(&mut viewer, &socket, (1152, 864));
    for size in [(800, 600), (1152, 864), (1920, 1080), (1280, 1024)] {
        linux.go_on();
        linux.expect_painted("drm ", size);
        look(&mut viewer, &socket, size);
    }
    saved_pictures_are_waited_for(machine);
    let status = machine.inspect()["devices"]["screen"]["status"].clone();
    assert_eq!((&status["version"], &status["refused-modes"]), (&"3.5".into(), &0.into()), "{status}");
    linux.go_on();
    let end = linux.machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

/// The frame buffer of `hyperv_drm` has the size that the screen is offered with.
pub fn the_frame_buffer_has_each_size() {
    for (width, height) in [(800, 600), (1920, 1080)] {
        let linux = Linux::boot(&format!("on,size={width}x{height}"), "", "");
        for what in ["text ", "characters"] {
            linux.shown(what);
            linux.go_on();
        }
        linux.expect_painted("fb0 ", (width, height));
    }
}

/// The memory of a screen of more than 64 MiB is above all other memory.
pub fn a_large_screen_is_seen() {
    let linux = Linux::boot_with(768 << 20, "on,size=7680x4320", "video=7680x4320", "");
    for what in ["text ", "characters"] {
        linux.shown(what);
        linux.go_on();
    }
    linux.expect_painted("fb0 ", (7680, 4320));
    let status = linux.machine.inspect()["devices"]["screen"]["status"].clone();
    assert!(status["vram-address"].as_u64() >= Some(1 << 32), "{status}");
}

/// `hyperv_fb` draws into memory of the guest, or where that is too large for it, into the window of VMBus.
pub fn the_older_driver_shows_each_size() {
    for (width, height) in [(800, 600), (1152, 864), (1920, 1080)] {
        let size = format!("{width}x{height}");
        let linux = Linux::boot(&format!("on,size={size}"), &format!("video=hyperv_fb:{size}"), "");
        linux.shown("text ");
        linux.expect_text("Viridian 123");
        linux.go_on();
        linux.shown("characters");
        linux.go_on();
        linux.expect_painted("fb0 ", (width, height));
    }
}

/// The file of a screenshot is the picture that is on the screen, and another one is not.
fn saved_pictures_are_waited_for(machine: &Machine) {
    let file = std::env::temp_dir().join(format!("viridian-screen-{}.png", std::process::id()));
    let size = machine.command("screen", "screenshot", &file.to_str().expect("a plain path").into());
    assert_eq!(size, Ok(serde_json::json!([1280, 1024])));
    let seen = machine.screen().wait_for_picture(&file, 0, grown(SOON));
    seen.unwrap_or_else(|missing| panic!("{missing}"));
    std::fs::remove_file(&file).expect("it is there");
}

/// Waits until the screen shows the right picture. The kernel writes some pictures a moment after the program.
fn expect(machine: &Machine, what: &str, is_right: impl Fn(&Picture) -> bool) {
    let right = holds_within(SOON, || machine.screen().picture().is_ok_and(|picture| is_right(&picture)));
    assert!(right, "{what}: {:?}, {}", machine.screen().picture(), machine.inspect()["devices"]["screen"]);
}

/// Waits until a viewer sees the picture of `draw.c`. The viewer comes with the first picture, and sees all others change.
fn look(viewer: &mut Option<Viewer>, socket: &Path, (width, height): (u32, u32)) {
    let viewer = viewer.get_or_insert_with(|| Viewer::new(socket, ZRLE));
    viewer.wait_for((width as usize, height as usize), |x, y| {
        let [red, green, blue] = painted(x as u32, y as u32, width);
        u32::from_be_bytes([0, red, green, blue])
    });
}

/// `draw.c` has the same function.
fn painted(x: u32, y: u32, width: u32) -> [u8; 3] {
    [(x * 7) as u8, (y * 5) as u8, (x ^ y ^ width) as u8]
}

fn is_painted(picture: &Picture) -> bool {
    let (width, height) = picture.size();
    let mut places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    places.all(|(x, y)| picture.pixel(x, y) == Some(painted(x, y, width)))
}

/// Returns `true` if the first line begins with these glyphs, 16 lines of 8 pixels each, and has nothing else.
fn has_text(picture: &Picture, glyphs: &str) -> bool {
    let lines: Vec<_> = (0..glyphs.len() / 2).map(|at| u8::from_str_radix(&glyphs[2 * at..2 * at + 2], 16)).collect();
    assert!(lines.len() == 16 * "Viridian 123".len() && lines.iter().any(|line| *line != Ok(0)), "{glyphs}");
    let width = picture.size().0;
    let mut places = (0..16).flat_map(|y| (0..width).map(move |x| (x, y)));
    places.all(|(x, y)| {
        let line = lines.get((x / 8 * 16 + y) as usize).map_or(0, |line| *line.as_ref().expect("hexadecimal digits"));
        picture.pixel(x, y) == Some(if line >> (7 - x % 8) & 1 == 1 { GREY } else { [0; 3] })
    })
}
