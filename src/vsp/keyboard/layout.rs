//! Keyboard layouts: which key types a character, and what is held down meanwhile.
//!
//! A keyboard sends the codes of keys, and the guest knows what they type. So who types a text, and a viewer that sends keysyms
//! instead of codes, need to know the layout that the guest has chosen.

use std::fmt;
use std::str::FromStr;

use super::keys::{Key, of_other_keysym};

mod tables;

use tables::{CODES, DEAD, LAYOUTS, NONE};

/// A layout of the keyboard.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    name: &'static str,
    /// The keys that type characters: see [`tables`].
    rows: [&'static str; 4],
}

/// A layout that the guest can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenLayout(&'static Layout);

/// The modifiers with which a key types a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// None.
    Plain,
    /// Shift.
    Shift,
    /// The right Alt key, which is called AltGr.
    AltGr,
}

/// The keys that type a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stroke {
    /// The key.
    pub key: Key,
    /// `Some` if it means something only at this level.
    pub level: Option<Level>,
    /// A dead key that is typed before.
    pub after: Option<(Key, Level)>,
}

/// The meaning of a key at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Character(char),
    /// A dead key with this accent.
    Dead(char),
}

/// Characters that a dead key makes of others.
const COMPOSED: &[(char, &str, &str)] = &[
    ('^', "âêîôûÂÊÎÔÛ", "aeiouAEIOU"),
    ('´', "áéíóúýćńśźÁÉÍÓÚÝĆŃŚŹ", "aeiouycnszAEIOUYCNSZ"),
    ('`', "àèìòùÀÈÌÒÙ", "aeiouAEIOU"),
    ('¨', "äëïöüÿÄËÏÖÜ", "aeiouyAEIOU"),
    ('~', "ãñõÃÑÕ", "anoANO"),
    ('°', "åůÅŮ", "auAU"),
    ('¸', "çşÇŞ", "csCS"),
    ('ˇ', "čďěňřšťžČĎĚŇŘŠŤŽ", "cdenrstzCDENRSTZ"),
    ('˝', "őűŐŰ", "ouOU"),
    ('˛', "ąęĄĘ", "aeAE"),
    ('˙', "żŻİ", "zZI"),
    ('˘', "ğĞ", "gG"),
    // Space makes the accent a character of its own. The result differs between systems for others than these.
    ('^', "^", " "),
    ('`', "`", " "),
    ('~', "~", " "),
];

/// The keysyms of dead keys.
const DEAD_KEYSYMS: &[(u32, char)] = &[
    (0xfe50, '`'),
    (0xfe51, '´'),
    (0xfe52, '^'),
    (0xfe53, '~'),
    (0xfe54, '¯'),
    (0xfe55, '˘'),
    (0xfe56, '˙'),
    (0xfe57, '¨'),
    (0xfe58, '°'),
    (0xfe59, '˝'),
    (0xfe5a, 'ˇ'),
    (0xfe5b, '¸'),
    (0xfe5c, '˛'),
];

/// Keysyms from before Unicode, beside those of Latin-1: the characters of the layouts, in the order of their codes.
const OLD_KEYSYMS: &[(u32, char)] = &[
    (0x1a3, 'Ł'),
    (0x1aa, 'Ş'),
    (0x1b1, 'ą'),
    (0x1b3, 'ł'),
    (0x1b6, 'ś'),
    (0x1b9, 'š'),
    (0x1ba, 'ş'),
    (0x1bc, 'ź'),
    (0x1be, 'ž'),
    (0x1bf, 'ż'),
    (0x1d0, 'Đ'),
    (0x1d5, 'Ő'),
    (0x1db, 'Ű'),
    (0x1e6, 'ć'),
    (0x1e8, 'č'),
    (0x1ea, 'ę'),
    (0x1ec, 'ě'),
    (0x1f0, 'đ'),
    (0x1f1, 'ń'),
    (0x1f5, 'ő'),
    (0x1f8, 'ř'),
    (0x1f9, 'ů'),
    (0x1fb, 'ű'),
    (0x2a9, 'İ'),
    (0x2ab, 'Ğ'),
    (0x2b1, 'ħ'),
    (0x2b9, 'ı'),
    (0x2bb, 'ğ'),
    (0x3a2, 'ĸ'),
    (0x3bc, 'ŧ'),
    (0x3bf, 'ŋ'),
    (0x7ec, 'μ'),
    (0x7f0, 'π'),
    (0x8bc, '≤'),
    (0x8bd, '≠'),
    (0x8be, '≥'),
    (0x8fb, '←'),
    (0x8fd, '→'),
    (0x8fe, '↓'),
    (0xaaa, '–'),
    (0xaae, '…'),
    (0xad1, '’'),
    (0xad2, '“'),
    (0xad3, '”'),
    (0xad5, '‰'),
    (0xad6, '′'),
    (0xae6, '•'),
    (0xafd, '‚'),
    (0xafe, '„'),
    (0x13bd, 'œ'),
    (0x20ac, '€'),
];

/// Keysyms of Unicode are its codes plus this.
const UNICODE: u32 = 0x0100_0000;
/// The keysym of AltGr.
const LEVEL3_SHIFT: u32 = 0xfe03;

impl Layout {
    /// Returns the name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns all keys that type characters, with what they stand for at each of their levels.
    fn symbols(&self) -> impl Iterator<Item = (Key, Level, Symbol)> {
        let keys = CODES.iter().zip(self.rows).flat_map(|(codes, row)| codes.iter().zip(row.split(' ')));
        keys.flat_map(|(code, word)| {
            let mut characters = word.chars();
            let symbols = std::iter::from_fn(move || match characters.next()? {
                DEAD => characters.next().map(Symbol::Dead),
                character => Some(Symbol::Character(character)),
            });
            let levels = [Level::Plain, Level::Shift, Level::AltGr].into_iter().zip(symbols);
            levels
                .filter(|(_, symbol)| *symbol != Symbol::Character(NONE))
                .filter_map(|(level, symbol)| Some((Key::from_code((*code).into())?, level, symbol)))
        })
    }

    /// Returns the key with this symbol. Prefers those with fewer modifiers.
    fn find(&self, wanted: Symbol) -> Option<(Key, Level)> {
        let found = self.symbols().filter(|(.., symbol)| *symbol == wanted);
        found.map(|(key, level, _)| (key, level)).min_by_key(|(_, level)| *level)
    }

    /// Returns `true` if the right Alt key is AltGr.
    pub fn has_alt_gr(&self) -> bool {
        self.symbols().any(|(_, level, _)| level == Level::AltGr)
    }

    /// Returns how a character is typed, `None` if the layout lacks it.
    pub fn of_character(&self, character: char) -> Option<Stroke> {
        let key = |keysym| of_other_keysym(keysym).map(|key| Stroke { key, level: None, after: None });
        match character {
            '\n' | '\r' => key(0xff0d),
            '\t' => key(0xff09),
            '\u{8}' => key(0xff08),
            '\u{1b}' => key(0xff1b),
            ' ' => key(0x20),
            DEAD | NONE => None,
            _ => self.of_printable(character),
        }
    }

    fn of_printable(&self, character: char) -> Option<Stroke> {
        if let Some((key, level)) = self.find(Symbol::Character(character)) {
            return Some(Stroke { key, level: Some(level), after: None });
        }
        COMPOSED.iter().find_map(|(accent, composed, bases)| {
            let place = composed.chars().position(|other| other == character)?;
            let dead = self.find(Symbol::Dead(*accent))?;
            match bases.chars().nth(place)? {
                ' ' => Some(Stroke { after: Some(dead), ..self.of_character(' ')? }),
                base => {
                    let (key, level) = self.find(Symbol::Character(base))?;
                    Some(Stroke { key, level: Some(level), after: Some(dead) })
                }
            }
        })
    }

    /// Returns the key that has this keysym (X11 protocol, "Keyboards"), `None` if the layout lacks it.
    pub fn of_keysym(&self, keysym: u32) -> Option<Stroke> {
        if let Some(character) = character_of(keysym) {
            return self.of_character(character);
        }
        if let Some((_, accent)) = DEAD_KEYSYMS.iter().find(|(dead, _)| *dead == keysym) {
            let (key, level) = self.find(Symbol::Dead(*accent))?;
            return Some(Stroke { key, level: Some(level), after: None });
        }
        // Without AltGr, the key of a viewer's AltGr is an Alt key, and a command. What it is held for has a key of its own.
        if keysym == LEVEL3_SHIFT && !self.has_alt_gr() {
            return None;
        }
        of_other_keysym(keysym).map(|key| Stroke { key, level: None, after: None })
    }

    /// Returns how a text is typed. A line ends in one Enter.
    ///
    /// # Errors
    /// Returns the first character that the layout lacks.
    pub fn strokes(&self, text: &str) -> Result<Vec<Stroke>, char> {
        let stroke = |character| self.of_character(character).ok_or(character);
        text.replace("\r\n", "\n").chars().map(stroke).collect()
    }
}

/// Returns the character of a keysym, `None` if it stands for none.
fn character_of(keysym: u32) -> Option<char> {
    match keysym {
        0x20..=0x7e | 0xa0..=0xff => char::from_u32(keysym),
        0x0100_0020..=0x0110_ffff => char::from_u32(keysym - UNICODE),
        _ => OLD_KEYSYMS.iter().find(|(old, _)| *old == keysym).map(|(_, character)| *character),
    }
}

impl Default for ChosenLayout {
    fn default() -> Self {
        Self(&LAYOUTS[0])
    }
}

impl std::ops::Deref for ChosenLayout {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        self.0
    }
}

impl FromStr for ChosenLayout {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || LAYOUTS.iter().map(Layout::name).collect::<Vec<_>>().join(", ");
        let unknown = || format!("there is no layout `{name}`; known are: {}", names());
        LAYOUTS.iter().find(|layout| layout.name == name).map(Self).ok_or_else(unknown)
    }
}

impl fmt::Display for ChosenLayout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.name)
    }
}

crate::wire::held_as_text!(ChosenLayout);

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
