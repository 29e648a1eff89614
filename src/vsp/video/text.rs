//! Reads text off a picture: that of a console whose characters begin at the upper left corner.
//!
//! A character is recognised by its shape, whatever its two colours are. The shapes are the guest's own: its kernel has them in its
//! memory, where they are searched when a text is to be read for the first time, and again if it cannot be read.
//!
//! - [`font`]: what a font is; [`search`]: finds them in memory.

mod font;
mod search;
#[cfg(test)]
pub mod testing;

use std::time::{Duration, Instant};

use font::Font;

use super::picture::Picture;
use crate::host::lock::Mutex;
use crate::memory::GuestMemory;

/// What stands for a shape that is no character.
const UNKNOWN: char = '\u{fffd}';
/// The minimum time between two searches for fonts.
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// The maximum part of the time that is spent on searches: one of so many.
const SEARCH_PART: u32 = 20;

/// The text of a picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// All characters of each line.
    cells: Vec<String>,
    /// Number of characters that are no spaces.
    known: usize,
    /// Number of shapes that are no characters.
    unknown: usize,
}

impl Text {
    fn read(picture: &Picture, font: &Font) -> Self {
        let (width, height) = picture.size();
        let mut text = Self::default();
        let mut shape = Vec::new();
        for top in 0..height as usize / font.height {
            let mut line = String::new();
            for column in 0..width as usize / font.width {
                let character = cell(picture, font, (column * font.width, top * font.height), &mut shape);
                text.known += usize::from(character.is_some_and(|character| character != ' '));
                text.unknown += usize::from(character.is_none());
                line.push(character.unwrap_or(UNKNOWN));
            }
            text.cells.push(line);
        }
        text
    }

    /// Returns the text in the font in which most of it can be read. The first font has the largest characters.
    fn best(picture: &Picture, fonts: &[Font]) -> Option<Self> {
        let mut best: Option<Self> = None;
        for font in fonts {
            let text = Self::read(picture, font);
            if text.is_certain() {
                return Some(text);
            }
            let sense = |text: &Self| text.known as isize - text.unknown as isize;
            if best.as_ref().is_none_or(|best| sense(&text) > sense(best)) {
                best = Some(text);
            }
        }
        best
    }

    /// Returns `true` if there are characters, and nothing else.
    fn is_certain(&self) -> bool {
        self.unknown == 0 && self.known > 0
    }

    /// Returns the lines of text without the spaces at their ends, and without the empty lines after the last. What is no character is
    /// U+FFFD.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.cells.iter().map(|line| line.trim_end().to_owned()).collect();
        lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
        lines
    }

    /// Returns `true` if it contains the text: in a line, in several that it has, too, or broken at the right edge.
    pub fn contains(&self, text: &str) -> bool {
        self.cells.concat().contains(text) || self.lines().join("\n").contains(text)
    }
}

/// Returns the character in a cell of the picture. `shape` is a buffer.
fn cell(picture: &Picture, font: &Font, (left, top): (usize, usize), shape: &mut Vec<u8>) -> Option<char> {
    let background = *picture.line(top).get(left)?;
    let mut colour = None;
    shape.clear();
    for y in top..top + font.height {
        for part in picture.line(y).get(left..left + font.width)?.chunks(8) {
            let mut bits = 0;
            for (bit, pixel) in part.iter().enumerate().filter(|(_, pixel)| **pixel != background) {
                if *colour.get_or_insert(*pixel) != *pixel {
                    return None;
                }
                bits |= 0x80 >> bit;
            }
            shape.push(bits);
        }
    }
    if colour.is_none() { Some(' ') } else { font.character(shape) }
}

/// The fonts in a guest's memory.
#[derive(Default)]
pub struct Fonts(Mutex<Known>);

#[derive(Default)]
struct Known {
    fonts: Vec<Font>,
    /// The time from which on another search is allowed.
    next_search: Option<Instant>,
}

impl Fonts {
    /// Returns the text of a picture of the guest with this memory. Returns `None` if the memory has no font.
    pub fn read(&self, picture: &Picture, memory: &GuestMemory) -> Option<Text> {
        let mut known = self.0.lock();
        let text = Text::best(picture, &known.fonts);
        let began = Instant::now();
        if text.as_ref().is_some_and(Text::is_certain) || known.next_search.is_some_and(|next| began < next) {
            return text;
        }
        known.fonts = search::fonts(memory);
        let pause = began.elapsed().saturating_mul(SEARCH_PART).max(SEARCH_AGAIN);
        known.next_search = Instant::now().checked_add(pause);
        Text::best(picture, &known.fonts)
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
