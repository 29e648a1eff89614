//! The events that a guest's evdev makes of keyboard and mouse.

use viridian::Builder;
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
            .display("on")
            .capture_console()
            .start()
            .expect("the machine starts");
        let linux = Self { machine };
        // The driver hyperv_fb finds its memory only where there is EFI, or the PCI device of Hyper-V's first generation.
        let gives_up = "hyperv_fb: Unable to find PCI Hyper-V video";
        if !linux.expect("watching\r\n").contains(gives_up) {
            linux.expect(gives_up);
        }
        assert!(linux.machine.screen().picture().is_err(), "a driver that gives up shows nothing");
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

/// All keys of a US keyboard in the order of their codes of set 1, which are evdev's, without Escape. An empty name is no key.
const PLAIN: &str = "1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p left-bracket right-bracket enter ctrl a s d f g h j \
                     k l semicolon apostrophe grave shift backslash z x c v b n m comma dot slash shift-right keypad-multiply alt space \
                     caps-lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num-lock scroll-lock keypad-7 keypad-8 keypad-9 keypad-minus keypad-4 \
                     keypad-5 keypad-6 keypad-plus keypad-1 keypad-2 keypad-3 keypad-0 keypad-dot";

/// The first of them.
const FIRST: u32 = 2;

/// Returns the evdev codes of all keys.
fn keys() -> Vec<(&'static str, u32)> {
    let others = [
        ("f11", 87),
        ("f12", 88),
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
    PLAIN.split_whitespace().zip(FIRST..).chain(others).collect()
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
