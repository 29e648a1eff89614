//! The keys of a keyboard: their scan codes (set 1, as a PC's keyboard controller reports them), their names, and the X11 keysyms
//! that they have in the US layout.
//!
//! A keysym of Latin-1 is the character's code; others of Unicode are 0x0100_0000 plus the code (X11 protocol, "Keyboards").

/// A key: the set-1 scan code, with the topmost bit set if `E0` precedes it. QEMU's extension of RFB uses the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u8);

impl Key {
    /// The left Shift key.
    pub const SHIFT: Self = Self(0x2a);
    /// The right Shift key.
    pub const RIGHT_SHIFT: Self = Self(0x36);
    /// Keys that make a command of another key: Ctrl, Alt and Super, on both sides.
    pub const COMMANDS: [Self; 6] = [Self(0x1d), Self(0x9d), Self(0x38), Self(0xb8), Self(0xdb), Self(0xdc)];
    /// The Pause key, whose code is a sequence of its own. QEMU's number for it is the one of Ctrl and Pause.
    pub const PAUSE: Self = Self(0xc6);

    /// Returns the key with this code of QEMU's RFB extension, if there can be one: bits 0 to 6 are the set-1 code, and bit 7 says
    /// that `E0` precedes it. Some clients send `E0` as a byte of its own.
    pub fn from_code(code: u32) -> Option<Self> {
        let code = match code {
            0xe001..=0xe07f => code as u8 | 0x80,
            _ => u8::try_from(code).ok()?,
        };
        (code & 0x7f != 0).then_some(Self(code))
    }

    /// Returns the set-1 code without its prefix.
    pub fn code(self) -> u8 {
        self.0 & 0x7f
    }

    /// Returns `true` if `E0` precedes the code.
    pub fn is_extended(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Returns the key with this name, such as `a`, `enter` or `f1`.
    pub fn named(name: &str) -> Option<Self> {
        KEYS.iter().find(|row| row.name == name).map(|row| row.key)
    }

    /// Returns the key's name, `None` if it has none.
    #[cfg(test)]
    pub fn name(self) -> Option<&'static str> {
        KEYS.iter().find(|row| row.key == self).map(|row| row.name)
    }
}

/// A key with or without Shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// The key.
    pub key: Key,
    /// `Some` if it means something only with or without Shift.
    pub shift: Option<bool>,
}

/// Returns the key that has this keysym in the US layout.
pub fn of_keysym(keysym: u32) -> Option<Stroke> {
    // Keysyms of Unicode stand for those of Latin-1 too.
    let keysym = if (0x0100_0020..=0x0100_00ff).contains(&keysym) { keysym & 0xff } else { keysym };
    KEYS.iter().find_map(|row| {
        let Row { key, plain, shifted, .. } = *row;
        let found = keysym != 0 && (plain == keysym || shifted == keysym);
        // Other second keysyms depend on Num Lock, or are the same key by another name.
        let depends = matches!(keysym, 0x20..=0x7e) && shifted != 0;
        found.then_some(Stroke { key, shift: depends.then_some(shifted == keysym) })
    })
}

/// Returns the key that types this character in the US layout.
pub fn of_character(character: char) -> Option<Stroke> {
    match character {
        '\n' | '\r' => of_keysym(0xff0d),
        '\t' => of_keysym(0xff09),
        '\u{8}' => of_keysym(0xff08),
        '\u{1b}' => of_keysym(0xff1b),
        ' '..='~' => of_keysym(character.into()),
        _ => None,
    }
}

/// A row of the table: keysyms are 0 where the key has none.
struct Row {
    name: &'static str,
    key: Key,
    plain: u32,
    shifted: u32,
}

const fn row(name: &'static str, code: u8, plain: u32, shifted: u32) -> Row {
    Row { name, key: Key(code), plain, shifted }
}

/// A key that types characters.
const fn types(name: &'static str, code: u8, plain: u8, shifted: u8) -> Row {
    row(name, code, plain as u32, shifted as u32)
}

/// All keys of a US keyboard, and the two additional keys of other layouts.
const KEYS: &[Row] = &[
    row("esc", 0x01, 0xff1b, 0),
    types("1", 0x02, b'1', b'!'),
    types("2", 0x03, b'2', b'@'),
    types("3", 0x04, b'3', b'#'),
    types("4", 0x05, b'4', b'$'),
    types("5", 0x06, b'5', b'%'),
    types("6", 0x07, b'6', b'^'),
    types("7", 0x08, b'7', b'&'),
    types("8", 0x09, b'8', b'*'),
    types("9", 0x0a, b'9', b'('),
    types("0", 0x0b, b'0', b')'),
    types("minus", 0x0c, b'-', b'_'),
    types("equal", 0x0d, b'=', b'+'),
    row("backspace", 0x0e, 0xff08, 0),
    row("tab", 0x0f, 0xff09, 0xfe20),
    types("q", 0x10, b'q', b'Q'),
    types("w", 0x11, b'w', b'W'),
    types("e", 0x12, b'e', b'E'),
    types("r", 0x13, b'r', b'R'),
    types("t", 0x14, b't', b'T'),
    types("y", 0x15, b'y', b'Y'),
    types("u", 0x16, b'u', b'U'),
    types("i", 0x17, b'i', b'I'),
    types("o", 0x18, b'o', b'O'),
    types("p", 0x19, b'p', b'P'),
    types("left-bracket", 0x1a, b'[', b'{'),
    types("right-bracket", 0x1b, b']', b'}'),
    row("enter", 0x1c, 0xff0d, 0),
    row("ctrl", 0x1d, 0xffe3, 0),
    types("a", 0x1e, b'a', b'A'),
    types("s", 0x1f, b's', b'S'),
    types("d", 0x20, b'd', b'D'),
    types("f", 0x21, b'f', b'F'),
    types("g", 0x22, b'g', b'G'),
    types("h", 0x23, b'h', b'H'),
    types("j", 0x24, b'j', b'J'),
    types("k", 0x25, b'k', b'K'),
    types("l", 0x26, b'l', b'L'),
    types("semicolon", 0x27, b';', b':'),
    types("apostrophe", 0x28, b'\'', b'"'),
    types("grave", 0x29, b'`', b'~'),
    row("shift", 0x2a, 0xffe1, 0),
    types("backslash", 0x2b, b'\\', b'|'),
    types("z", 0x2c, b'z', b'Z'),
    types("x", 0x2d, b'x', b'X'),
    types("c", 0x2e, b'c', b'C'),
    types("v", 0x2f, b'v', b'V'),
    types("b", 0x30, b'b', b'B'),
    types("n", 0x31, b'n', b'N'),
    types("m", 0x32, b'm', b'M'),
    types("comma", 0x33, b',', b'<'),
    types("dot", 0x34, b'.', b'>'),
    types("slash", 0x35, b'/', b'?'),
    row("shift-right", 0x36, 0xffe2, 0),
    row("keypad-multiply", 0x37, 0xffaa, 0),
    row("alt", 0x38, 0xffe9, 0xffe7),
    types("space", 0x39, b' ', 0),
    row("caps-lock", 0x3a, 0xffe5, 0),
    row("f1", 0x3b, 0xffbe, 0),
    row("f2", 0x3c, 0xffbf, 0),
    row("f3", 0x3d, 0xffc0, 0),
    row("f4", 0x3e, 0xffc1, 0),
    row("f5", 0x3f, 0xffc2, 0),
    row("f6", 0x40, 0xffc3, 0),
    row("f7", 0x41, 0xffc4, 0),
    row("f8", 0x42, 0xffc5, 0),
    row("f9", 0x43, 0xffc6, 0),
    row("f10", 0x44, 0xffc7, 0),
    row("num-lock", 0x45, 0xff7f, 0),
    row("scroll-lock", 0x46, 0xff14, 0),
    // The keypad's keysyms with and without Num Lock: either way it is this key that was pressed.
    row("keypad-7", 0x47, 0xffb7, 0xff95),
    row("keypad-8", 0x48, 0xffb8, 0xff97),
    row("keypad-9", 0x49, 0xffb9, 0xff9a),
    row("keypad-minus", 0x4a, 0xffad, 0),
    row("keypad-4", 0x4b, 0xffb4, 0xff96),
    row("keypad-5", 0x4c, 0xffb5, 0xff9d),
    row("keypad-6", 0x4d, 0xffb6, 0xff98),
    row("keypad-plus", 0x4e, 0xffab, 0),
    row("keypad-1", 0x4f, 0xffb1, 0xff9c),
    row("keypad-2", 0x50, 0xffb2, 0xff99),
    row("keypad-3", 0x51, 0xffb3, 0xff9b),
    row("keypad-0", 0x52, 0xffb0, 0xff9e),
    row("keypad-dot", 0x53, 0xffae, 0xff9f),
    row("less", 0x56, 0, 0),
    row("f11", 0x57, 0xffc8, 0),
    row("f12", 0x58, 0xffc9, 0),
    row("keypad-enter", 0x9c, 0xff8d, 0),
    row("ctrl-right", 0x9d, 0xffe4, 0),
    row("keypad-divide", 0xb5, 0xffaf, 0),
    row("print-screen", 0xb7, 0xff61, 0xff15),
    row("alt-right", 0xb8, 0xffea, 0xfe03),
    row("pause", 0xc6, 0xff13, 0xff6b),
    row("home", 0xc7, 0xff50, 0),
    row("up", 0xc8, 0xff52, 0),
    row("page-up", 0xc9, 0xff55, 0),
    row("left", 0xcb, 0xff51, 0),
    row("right", 0xcd, 0xff53, 0),
    row("end", 0xcf, 0xff57, 0),
    row("down", 0xd0, 0xff54, 0),
    row("page-down", 0xd1, 0xff56, 0),
    row("insert", 0xd2, 0xff63, 0),
    row("delete", 0xd3, 0xffff, 0),
    row("super", 0xdb, 0xffeb, 0),
    row("super-right", 0xdc, 0xffec, 0),
    row("menu", 0xdd, 0xff67, 0),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_name_and_keysym_is_in_the_table_once() {
        let keys: BTreeSet<_> = KEYS.iter().map(|row| row.key).collect();
        let names: BTreeSet<_> = KEYS.iter().map(|row| row.name).collect();
        assert_eq!((keys.len(), names.len()), (KEYS.len(), KEYS.len()));
        let keysyms: Vec<_> =
            KEYS.iter().flat_map(|row| [row.plain, row.shifted]).filter(|keysym| *keysym != 0).collect();
        assert_eq!(keysyms.iter().collect::<BTreeSet<_>>().len(), keysyms.len());
        for row in KEYS {
            assert_eq!((Key::named(row.name), row.key.name()), (Some(row.key), Some(row.name)));
            assert_eq!(Key::from_code(row.key.0.into()), Some(row.key));
        }
    }

    #[test]
    fn only_ascii_can_be_typed_and_all_of_it() {
        let typed: BTreeSet<_> = (' '..='~')
            .map(|character| of_character(character).unwrap())
            .map(|stroke| (stroke.key, stroke.shift))
            .collect();
        assert_eq!(typed.len(), 95, "no two characters share a key and a level");
        assert_eq!(of_character('A'), Some(Stroke { key: Key(0x1e), shift: Some(true) }));
        assert_eq!(of_character('\n'), Some(Stroke { key: Key(0x1c), shift: None }));
        assert_eq!([of_character('ä'), of_character('\0'), of_character('\u{7f}')], [None; 3]);
    }

    #[test]
    fn both_forms_of_an_extended_scan_code_are_the_same_key() {
        assert_eq!(Key::from_code(0xe04b), Key::from_code(0xcb));
        assert_eq!([0, 0x80, 0x100, 0xe000, 0xe080, u32::MAX].map(Key::from_code), [None; 6]);
        assert_eq!(of_keysym(0x0100_0041), of_keysym(0x41), "Unicode's A is Latin-1's");
    }
}
