//! What a guest shows on its screen: text, and known pictures.

use std::path::Path;

use viridian::Builder;
use viridian::internals::screen::{Picture, display};
use viridian::machine::{End, Machine};

use crate::common::patience::{grown, holds_within};
use crate::common::stock::{SOON, engine, image_file};
use crate::rfb::ZRLE;
use crate::vnc::Viewer;

/// The colour of Linux's console.
const GREY: [u8; 3] = [0xaa; 3];

/// Boots Linux, has it show what `draw.c` shows, and compares the pictures: those of screenshots and those of a VNC viewer.
pub fn each_picture_is_seen_as_it_is_drawn() {
    let socket = std::env::temp_dir().join(format!("viridian-vnc-{}", std::process::id()));
    let machine = Builder::new()
        .engine(engine())
        .memory(256 << 20)
        .kernel(image_file("vmlinux"))
        .initrd(image_file("initrd.img"))
        .cmdline("console=ttyS0 quiet panic=-1 run=\"draw 800x600 1920x1080 1280x1024\"")
        .display(display(&format!("vnc=unix:{},size=1920x1080", socket.display())))
        .capture_console()
        .start()
        .expect("the machine starts");
    let console = machine.console().expect("it is captured");
    let shown = |what: &str| {
        let output = console.wait_for(" shown\r\n", grown(SOON)).unwrap_or_else(|missing| panic!("{what}: {missing}"));
        let output = String::from_utf8_lossy(&output).into_owned();
        let line = output.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {output}"));
        line[what.len()..].trim().trim_end_matches(" shown").to_owned()
    };
    let glyphs = shown("text ");
    expect(&machine, "the text", |picture| has_text(picture, &glyphs));
    let mut viewer = None;
    for (what, size) in
        [("fb0 ", None), ("drm ", Some((800, 600))), ("drm ", Some((1920, 1080))), ("drm ", Some((1280, 1024)))]
    {
        console.type_text("\n").expect("it runs");
        let text = shown(what);
        let (width, height) = text.split_once('x').expect("a size");
        let wanted = (width.parse().expect("a width"), height.parse().expect("a height"));
        assert!(size.is_none_or(|size| size == wanted), "{wanted:?}");
        expect(&machine, &format!("{what}{text}"), |picture| picture.size() == wanted && is_painted(picture));
        look(&mut viewer, &socket, wanted);
    }
    let status = machine.inspect()["devices"]["screen"]["status"].clone();
    assert_eq!((&status["version"], &status["refused-modes"]), (&"3.5".into(), &0.into()), "{status}");
    console.type_text("\n").expect("it runs");
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
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
