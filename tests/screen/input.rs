//! The events that a guest's evdev makes of keyboard and mouse.

use viridian::Builder;
use viridian::internals::screen::display;
use viridian::machine::Machine;

use crate::common::patience::grown;
use crate::common::stock::{SOON, engine, image_file};

/// The types of events.
const KEY: u32 = 1;
const REL: u32 = 2;
const ABS: u32 = 3;

/// A running Linux that prints the events of its input devices.
pub struct Linux {
    machine: Machine,
}

impl Linux {
    /// Boots it, and waits until it has keyboard and mouse.
    pub fn boot() -> Self {
        let machine = Builder::new()
            .engine(engine())
            .memory(256 << 20)
            .kernel(image_file("vmlinux"))
            .initrd(image_file("initrd.img"))
            .cmdline("console=ttyS0 quiet panic=-1 run=events")
            .display(display("none,input=on"))
            .capture_console()
            .start()
            .expect("the machine starts");
        let linux = Self { machine };
        linux.expect("watching\r\n");
        linux
    }

    /// Waits for these words on the console, and returns what came up to their end.
    fn expect(&self, words: &str) -> String {
        let console = self.machine.console().expect("it is captured");
        let output = console.wait_for(words, grown(SOON)).unwrap_or_else(|missing| panic!("{missing}"));
        String::from_utf8_lossy(&output).replace('\r', "")
    }

    /// Returns the events up to the release of Escape, which is pressed now, without those of Escape.
    fn events(&self) -> Vec<String> {
        self.machine.screen().press("esc").expect("it is pressed");
        let output = self.expect("keyboard 1 1 0\r\n");
        let lines = output.lines().filter(|line| !line.starts_with("keyboard 1 1 "));
        lines.map(str::to_owned).collect()
    }
}

/// Returns the evdev codes of keys: those of set 1 as they are, and others.
fn keys() -> Vec<(&'static str, u32)> {
    let plain = [
        ("1", 2),
        ("0", 11),
        ("minus", 12),
        ("equal", 13),
        ("backspace", 14),
        ("tab", 15),
        ("q", 16),
        ("p", 25),
        ("left-bracket", 26),
        ("enter", 28),
        ("ctrl", 29),
        ("a", 30),
        ("semicolon", 39),
        ("grave", 41),
        ("shift", 42),
        ("backslash", 43),
        ("z", 44),
        ("slash", 53),
        ("shift-right", 54),
        ("keypad-multiply", 55),
        ("alt", 56),
        ("space", 57),
        ("caps-lock", 58),
        ("f1", 59),
        ("f10", 68),
        ("num-lock", 69),
        ("scroll-lock", 70),
        ("keypad-7", 71),
        ("keypad-dot", 83),
        ("less", 86),
        ("f11", 87),
        ("f12", 88),
    ];
    let extended = [
        ("keypad-enter", 96),
        ("ctrl-right", 97),
        ("keypad-divide", 98),
        ("print-screen", 99),
        ("alt-right", 100),
        ("home", 102),
        ("up", 103),
        ("page-up", 104),
        ("left", 105),
        ("right", 106),
        ("end", 107),
        ("down", 108),
        ("page-down", 109),
        ("insert", 110),
        ("delete", 111),
        ("pause", 119),
        ("super", 125),
        ("super-right", 126),
        ("menu", 127),
    ];
    plain.into_iter().chain(extended).collect()
}

pub fn each_key_is_the_right_one(linux: &Linux) {
    let mut expected = Vec::new();
    for (name, code) in keys() {
        linux.machine.screen().press(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Read before the next key: a reader that is late loses events, as on every machine.
        let events = linux.events();
        expected.extend([1, 0].map(|value| format!("keyboard {KEY} {code} {value}")));
        assert_eq!(events, expected, "{name}");
        expected.clear();
    }
}

pub fn the_pointer_goes_where_it_is_told(linux: &Linux) {
    let screen = linux.machine.screen();
    screen.point(100, 32767, 0, 0).unwrap();
    screen.point(100, 32767, 0b1, 0).unwrap();
    screen.point(32767, 1, 0b1, 0).unwrap();
    screen.point(32767, 1, 0b11110, 0).unwrap();
    screen.point(32767, 1, 0, -3).unwrap();
    let last = format!("mouse {REL} 8 -3\r\n");
    let output = linux.expect(&last);
    let expected = [
        (ABS, 0, 100),
        (ABS, 1, 32767),
        (KEY, 0x110, 1),
        (ABS, 0, 32767),
        (ABS, 1, 1),
        (KEY, 0x110, 0),
        (KEY, 0x111, 1),
        (KEY, 0x112, 1),
        (KEY, 0x113, 1),
        (KEY, 0x114, 1),
        (KEY, 0x111, 0),
        (KEY, 0x112, 0),
        (KEY, 0x113, 0),
        (KEY, 0x114, 0),
        (REL, 8, -3),
    ];
    let expected = expected.map(|(kind, code, value)| format!("mouse {kind} {code} {value}"));
    // Newer kernels also report the wheel with a higher resolution.
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with(&format!("mouse {REL} 11 "))).collect();
    assert_eq!(lines, expected);
}
