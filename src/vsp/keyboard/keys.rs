//! The keys of a keyboard: their scan codes (set 1, as a PC's keyboard controller reports them), their names, and the X11 keysyms
//! of those that type no characters. The others depend on the [`layout`](super::layout); their names are those of a US keyboard.

/// A key: the set-1 scan code, with the topmost bit set if `E0` precedes it. QEMU's extension of RFB uses the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u8);

impl Key {
    /// The left Shift key.
    pub const SHIFT: Self = Self(0x2a);
    /// The right Shift key.
    pub const RIGHT_SHIFT: Self = Self(0x36);
    /// The right Alt key, which is AltGr in most layouts.
    pub const RIGHT_ALT: Self = Self(0xb8);
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

/// Returns the key that has this keysym in every layout.
pub fn of_other_keysym(keysym: u32) -> Option<Key> {
    let has_it = |row: &&Row| row.keysyms.contains(&keysym);
    KEYS.iter().find(has_it).map(|row| row.key).filter(|_| keysym != 0)
}

/// A row of the table: keysyms are 0 where the key has none.
struct Row {
    name: &'static str,
    key: Key,
    keysyms: [u32; 2],
}

const fn row(name: &'static str, code: u8, keysym: u32, other: u32) -> Row {
    Row { name, key: Key(code), keysyms: [keysym, other] }
}

/// A key that types characters.
const fn types(name: &'static str, code: u8) -> Row {
    row(name, code, 0, 0)
}

/// All keys of a US keyboard, and the two additional keys of other layouts.
const KEYS: &[Row] = &[
    row("esc", 0x01, 0xff1b, 0),
    types("1", 0x02),
    types("2", 0x03),
    types("3", 0x04),
    types("4", 0x05),
    types("5", 0x06),
    types("6", 0x07),
    types("7", 0x08),
    types("8", 0x09),
    types("9", 0x0a),
    types("0", 0x0b),
    types("minus", 0x0c),
    types("equal", 0x0d),
    row("backspace", 0x0e, 0xff08, 0),
    row("tab", 0x0f, 0xff09, 0xfe20),
    types("q", 0x10),
    types("w", 0x11),
    types("e", 0x12),
    types("r", 0x13),
    types("t", 0x14),
    types("y", 0x15),
    types("u", 0x16),
    types("i", 0x17),
    types("o", 0x18),
    types("p", 0x19),
    types("left-bracket", 0x1a),
    types("right-bracket", 0x1b),
    row("enter", 0x1c, 0xff0d, 0),
    row("ctrl", 0x1d, 0xffe3, 0),
    types("a", 0x1e),
    types("s", 0x1f),
    types("d", 0x20),
    types("f", 0x21),
    types("g", 0x22),
    types("h", 0x23),
    types("j", 0x24),
    types("k", 0x25),
    types("l", 0x26),
    types("semicolon", 0x27),
    types("apostrophe", 0x28),
    types("grave", 0x29),
    row("shift", 0x2a, 0xffe1, 0),
    types("backslash", 0x2b),
    types("z", 0x2c),
    types("x", 0x2d),
    types("c", 0x2e),
    types("v", 0x2f),
    types("b", 0x30),
    types("n", 0x31),
    types("m", 0x32),
    types("comma", 0x33),
    types("dot", 0x34),
    types("slash", 0x35),
    row("shift-right", 0x36, 0xffe2, 0),
    row("keypad-multiply", 0x37, 0xffaa, 0),
    row("alt", 0x38, 0xffe9, 0xffe7),
    row("space", 0x39, 0x20, 0),
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
    types("less", 0x56),
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
        let keysyms: Vec<_> = KEYS.iter().flat_map(|row| row.keysyms).filter(|keysym| *keysym != 0).collect();
        assert_eq!(keysyms.iter().collect::<BTreeSet<_>>().len(), keysyms.len());
        for row in KEYS {
            assert_eq!((Key::named(row.name), row.key.name()), (Some(row.key), Some(row.name)));
            assert_eq!(Key::from_code(row.key.0.into()), Some(row.key));
        }
    }

    #[test]
    fn both_forms_of_an_extended_scan_code_are_the_same_key() {
        assert_eq!(Key::from_code(0xe04b), Key::from_code(0xcb));
        assert_eq!([0, 0x80, 0x100, 0xe000, 0xe080, u32::MAX].map(Key::from_code), [None; 6]);
        assert_eq!((of_other_keysym(0), of_other_keysym(0xff0d)), (None, Key::named("enter")));
    }
}
