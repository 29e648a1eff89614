//! The events that a guest's evdev makes of keyboard and mouse.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use viridian::Builder;
use viridian::machine::Machine;

use crate::common::patience::{grown, holds_within};
use crate::common::stock::{SOON, engine, image_file};
use crate::rfb::RAW;
use crate::vnc::Viewer;

/// The types of events.
const KEY: u32 = 1;
const REL: u32 = 2;
const ABS: u32 = 3;

/// A running Linux that prints the events of its input devices.
pub struct Linux {
    machine: Machine,
    /// Where viewers connect.
    socket: PathBuf,
}

impl Linux {
    /// Boots it, and waits until it has keyboard and mouse.
    pub fn boot() -> Self {
        let socket = std::env::temp_dir().join(format!("viridian-input-{}", std::process::id()));
        let machine = Builder::new()
            .engine(engine())
            .memory(256 << 20)
            .kernel(image_file("vmlinux"))
            .initrd(image_file("initrd.img"))
            .cmdline("console=ttyS0 quiet panic=-1 run=events")
            .display(&format!("vnc=unix:{}", socket.display()))
            .capture_console()
            .start()
            .expect("the machine starts");
        let linux = Self { machine, socket };
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

    /// Returns the events of the keyboard while `types` runs, each as a code and `+`, `-` or `=`: the key is pressed, released, or
    /// repeated.
    fn noted(&self, types: impl FnOnce()) -> Vec<(u32, char)> {
        let less = || self.machine.screen().press("less").expect("it is pressed");
        less();
        types();
        less();
        self.notes()
    }

    /// Does the same for what a viewer types.
    fn noted_of(&self, viewer: &mut Viewer, types: impl FnOnce(&mut Viewer)) -> Vec<(u32, char)> {
        viewer.key(LESS);
        types(viewer);
        viewer.key(LESS);
        self.notes()
    }

    fn notes(&self) -> Vec<(u32, char)> {
        let output = self.expect("noted ") + &self.expect("\n");
        let (_, noted) = output.rsplit_once("noted ").expect("it is there");
        let noted = noted.trim_end();
        assert!(!noted.contains('!'), "events are lost: {noted}");
        let event = |event: &[u8]| {
            let [code @ .., value] = event else { panic!("{noted}") };
            (u32::from_str_radix(&String::from_utf8_lossy(code), 16).expect("a code"), char::from(*value))
        };
        noted.as_bytes().chunks(3).map(event).collect()
    }
}

/// The code of the key that a US keyboard lacks.
const LESS: u8 = 0x56;

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
    for (x, y, buttons, wheel) in
        [(100, 32767, 0, 0), (100, 32767, 0b1, 0), (32767, 1, 0b1, 0), (32767, 1, 0b11110, 0), (32767, 1, 0, -3)]
    {
        let point = json!({ "x": x, "y": y, "of": [32768, 32768], "buttons": buttons, "wheel": wheel });
        linux.machine.command("mouse", "point", &point).unwrap();
    }
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

/// The characters of a US keyboard with and without Shift, and the codes of their keys in this order.
const CHARACTERS: [(&str, &str, u32); 5] = [
    ("1234567890-=", "!@#$%^&*()_+", 2),
    ("qwertyuiop[]\n", "QWERTYUIOP{}\n", 16),
    ("asdfghjkl;'`", "ASDFGHJKL:\"~", 30),
    ("\\zxcvbnm,./", "|ZXCVBNM<>?", 43),
    (" ", " ", 57),
];
const SHIFT: u32 = 42;

/// Returns the text that these events type. Each key must be released.
fn text(events: &[(u32, char)]) -> String {
    let mut text = String::new();
    let mut down = Vec::new();
    for (code, value) in events {
        match value {
            '+' => down.push(*code),
            '-' => down.retain(|other| other != code),
            _ => panic!("a key repeats: {code}"),
        }
        if *value == '+' && *code != SHIFT {
            let character = CHARACTERS.iter().find_map(|(plain, shifted, first)| {
                let row = if down.contains(&SHIFT) { shifted } else { plain };
                row.chars().nth(code.checked_sub(*first)? as usize)
            });
            text.push(character.unwrap_or_else(|| panic!("the key {code} types nothing")));
        }
    }
    assert!(down.is_empty(), "keys are down: {down:?}");
    text
}

/// A thousand characters: each that a US keyboard has, and some lines.
fn thousand() -> String {
    (' '..='~').chain(['\n']).cycle().take(1000).collect()
}

pub fn a_long_text_arrives_completely(linux: &Linux) {
    let screen = linux.machine.screen();
    let typed = linux.noted(|| screen.type_text(&thousand()).expect("it is typed"));
    assert_eq!(text(&typed), thousand());
    // Without a pause between keys, as no hand and some programs do.
    let mut viewer = Viewer::new(&linux.socket, RAW);
    let typed = linux.noted_of(&mut viewer, |viewer| {
        for character in thousand().chars() {
            let keysym = if character == '\n' { 0xff0d } else { character.into() };
            [true, false].into_iter().for_each(|down| viewer.keysym(keysym, down));
        }
    });
    assert_eq!(text(&typed), thousand());
}

/// The keysyms of the keys that type no characters.
const KEYSYMS: &[(&str, u32)] = &[
    ("backspace", 0xff08),
    ("tab", 0xff09),
    ("enter", 0xff0d),
    ("ctrl", 0xffe3),
    ("shift", 0xffe1),
    ("shift-right", 0xffe2),
    ("alt", 0xffe9),
    ("caps-lock", 0xffe5),
    ("f1", 0xffbe),
    ("f2", 0xffbf),
    ("f3", 0xffc0),
    ("f4", 0xffc1),
    ("f5", 0xffc2),
    ("f6", 0xffc3),
    ("f7", 0xffc4),
    ("f8", 0xffc5),
    ("f9", 0xffc6),
    ("f10", 0xffc7),
    ("f11", 0xffc8),
    ("f12", 0xffc9),
    ("num-lock", 0xff7f),
    ("scroll-lock", 0xff14),
    ("keypad-multiply", 0xffaa),
    ("keypad-0", 0xffb0),
    ("keypad-1", 0xffb1),
    ("keypad-2", 0xffb2),
    ("keypad-3", 0xffb3),
    ("keypad-4", 0xffb4),
    ("keypad-5", 0xffb5),
    ("keypad-6", 0xffb6),
    ("keypad-7", 0xffb7),
    ("keypad-8", 0xffb8),
    ("keypad-9", 0xffb9),
    ("keypad-minus", 0xffad),
    ("keypad-plus", 0xffab),
    ("keypad-dot", 0xffae),
    ("keypad-enter", 0xff8d),
    ("keypad-divide", 0xffaf),
    ("ctrl-right", 0xffe4),
    ("print-screen", 0xff61),
    ("alt-right", 0xffea),
    ("home", 0xff50),
    ("up", 0xff52),
    ("page-up", 0xff55),
    ("left", 0xff51),
    ("right", 0xff53),
    ("end", 0xff57),
    ("down", 0xff54),
    ("page-down", 0xff56),
    ("insert", 0xff63),
    ("delete", 0xffff),
    ("pause", 0xff13),
    ("super", 0xffeb),
    ("super-right", 0xffec),
    ("menu", 0xff67),
];

/// Returns the code of QEMU's key events for a key of evdev.
fn code_of(key: u32) -> u8 {
    match key {
        1..=88 => key as u8,
        96 => 0x9c,
        97 => 0x9d,
        98 => 0xb5,
        99 => 0xb7,
        100 => 0xb8,
        102..=104 => (0xc7 + key - 102) as u8,
        105 => 0xcb,
        106 => 0xcd,
        107..=111 => (0xcf + key - 107) as u8,
        119 => 0xc6,
        125..=127 => (0xdb + key - 125) as u8,
        _ => panic!("no code for {key}"),
    }
}

/// Returns the events of keys that are pressed and released one after the other.
fn each(codes: impl IntoIterator<Item = u32>) -> Vec<(u32, char)> {
    codes.into_iter().flat_map(|code| ['+', '-'].map(|value| (code, value))).collect()
}

pub fn a_viewers_keys_are_the_right_ones(linux: &Linux) {
    let mut viewer = Viewer::new(&linux.socket, RAW);
    let codes = || keys().into_iter().map(|(_, code)| code);
    let typed = linux.noted_of(&mut viewer, |viewer| codes().for_each(|code| viewer.key(code_of(code))));
    assert_eq!(typed, each(codes()));
    let code = |name: &str| keys().iter().find(|(other, _)| *other == name).expect("it is a key").1;
    let typed = linux.noted_of(&mut viewer, |viewer| {
        for (_, keysym) in KEYSYMS {
            [true, false].into_iter().for_each(|down| viewer.keysym(*keysym, down));
        }
    });
    assert_eq!(typed, each(KEYSYMS.iter().map(|(name, _)| code(name))));
    // Modifiers stay down while another key is pressed.
    let [ctrl, alt, a] = ["ctrl", "alt", "a"].map(code);
    let chord = [(ctrl, '+'), (alt, '+'), (a, '+'), (a, '-'), (alt, '-'), (ctrl, '-')];
    let typed = linux.noted_of(&mut viewer, |viewer| {
        let keys = [(0xffe3, true), (0xffe9, true), (0x61, true), (0x61, false), (0xffe9, false), (0xffe3, false)];
        keys.into_iter().for_each(|(keysym, down)| viewer.keysym(keysym, down));
    });
    assert_eq!(typed, chord);
    let typed = linux.noted(|| linux.machine.screen().press("ctrl+alt+a").expect("it is pressed"));
    assert_eq!(typed, chord);
}

/// A key that is pressed again while it is down repeats, as viewers have it. Linux ignores that in the first 125 ms.
pub fn a_key_that_is_held_repeats(linux: &Linux) {
    let event = |value: u32| format!("keyboard {KEY} 30 {value}\r\n");
    let mut viewer = Viewer::new(&linux.socket, RAW);
    let mut by_library = |down: bool| {
        let pressed = linux.machine.command("keyboard", "key", &json!({ "code": 30, "down": down }));
        assert!(pressed.is_ok(), "{pressed:?}");
    };
    let holds: [&mut dyn FnMut(bool); 2] = [&mut |down| viewer.keysym(0x61, down), &mut by_library];
    for hold in holds {
        hold(true);
        linux.expect(&event(1));
        let console = linux.machine.console().expect("it is captured");
        let repeats = || {
            hold(true);
            console.wait_for(&event(2), Duration::from_millis(300)).is_ok()
        };
        assert!(holds_within(SOON, repeats), "the key repeats");
        hold(false);
        linux.expect(&event(0));
    }
}

pub fn a_viewers_pointer_is_where_it_is_seen(linux: &Linux) {
    let mut viewer = Viewer::new(&linux.socket, RAW);
    let (width, height) = viewer.size;
    let point = |viewer: &mut Viewer, x: usize, y: usize, buttons: u8| {
        viewer.send(&[&[5, buttons][..], &(x as u16).to_be_bytes(), &(y as u16).to_be_bytes()].concat());
    };
    let expect = |event: &str| linux.expect(&format!("mouse {event}\r\n"));
    // Each place has another column and another line than the one before, so that both are reported.
    for (x, y) in [(3, 1), (1, 0), (511, 384), (width - 1, height - 2), (width - 2, height - 1)] {
        [0, 1, 0].into_iter().for_each(|buttons| point(&mut viewer, x, y, buttons));
        let events = expect(&format!("{KEY} 272 1"));
        expect(&format!("{KEY} 272 0"));
        let place = [(0, width), (1, height)].map(|(axis, size)| {
            let start = format!("mouse {ABS} {axis} ");
            let at = events.lines().find_map(|line| line.strip_prefix(&start)?.parse::<usize>().ok());
            at.unwrap_or_else(|| panic!("{events}")) * (size - 1) / 32767
        });
        assert_eq!(place, [x, y], "{events}");
    }
    // RFB has the middle button before the right one.
    for (button, code) in [(0b10, 274), (0b100, 273)] {
        [button, 0].into_iter().for_each(|buttons| point(&mut viewer, 5, 5, buttons));
        [1, 0].into_iter().for_each(|value| drop(expect(&format!("{KEY} {code} {value}"))));
    }
    // Turns of the wheel are buttons.
    for (button, turn) in [(0b1000, 1), (0b1_0000, -1)] {
        [button, 0].into_iter().for_each(|buttons| point(&mut viewer, 5, 5, buttons));
        expect(&format!("{REL} 8 {turn}"));
    }
}
