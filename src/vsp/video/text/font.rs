//! A console's font: the shapes of characters, and how to tell that some bytes are one.
//!
//! Glyphs follow each other; a glyph is its lines from the top, each with the leftmost pixel in the topmost bit, and filled up to bytes.

use std::collections::{HashMap, HashSet};

/// The characters of code page 437 from 1 to 254, in its order. 0 and 255 are blank, as 32.
pub const CHARACTERS: &str = "\
     ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼\u{20}!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂\
     ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■";

/// Numbers of glyphs that are known by their geometry.
const SPACE: usize = 0x20;
const VERTICAL_LINE: usize = 0xb3;
const HORIZONTAL_LINE: usize = 0xc4;
const FULL_BLOCK: usize = 0xdb;
const LOWER_HALF: usize = 0xdc;
/// The left half of a character. The right one follows.
pub const LEFT_HALF: usize = 0xdd;
const UPPER_HALF: usize = 0xdf;
/// The number of glyphs of code page 437.
pub const GLYPHS: usize = 256;

/// Heights of characters, in pixels.
pub const HEIGHTS: std::ops::RangeInclusive<usize> = 6..=64;
/// Maximum width of a character, in bytes.
pub const MAX_PITCH: usize = 2;

/// The characters of a font that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of code page 437.
    CodePage,
    /// ASCII: the others depend on a map that is not known.
    Ascii,
}

/// Glyphs of one size.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    bytes: &'a [u8],
    /// Bytes of a line of a glyph.
    pitch: usize,
    height: usize,
}

impl<'a> Table<'a> {
    /// Returns `None` if the bytes are not so many glyphs as a code page has, or no font has this size.
    pub fn new(bytes: &'a [u8], height: usize, pitch: usize) -> Option<Self> {
        let fits = (1..=MAX_PITCH).contains(&pitch) && HEIGHTS.contains(&height);
        (fits && bytes.len() >= GLYPHS * height * pitch).then_some(Self { bytes, pitch, height })
    }

    fn glyph(&self, number: usize) -> &'a [u8] {
        let length = self.pitch * self.height;
        &self.bytes[number * length..(number + 1) * length]
    }

    fn lines(&self, number: usize) -> std::slice::ChunksExact<'a, u8> {
        self.glyph(number).chunks_exact(self.pitch)
    }

    fn is_blank(&self, number: usize) -> bool {
        self.glyph(number).iter().all(|byte| *byte == 0)
    }

    /// Returns the width, in pixels: to the last column in which a glyph has a pixel.
    fn width(&self) -> usize {
        let column = |at: usize| self.bytes.chunks_exact(self.pitch).any(|line| is_set(line, at));
        (0..8 * self.pitch).rev().find(|at| column(*at)).map_or(0, |last| last + 1)
    }

    /// Returns `true` if each character of ASCII has a shape of its own, and the space none.
    fn has_ascii(&self) -> bool {
        let mut seen = HashSet::new();
        let has_own = |number| !self.is_blank(number) && seen.insert(self.glyph(number));
        self.is_blank(SPACE) && (SPACE + 1..0x7f).all(has_own)
    }

    /// Returns `true` if blocks and lines are where code page 437 has them.
    fn has_code_page(&self) -> bool {
        let solid = self.lines(FULL_BLOCK).next().unwrap_or_default();
        let is_full = |line: &[u8]| line == solid;
        let is_empty = |line: &[u8]| line.iter().all(|byte| *byte == 0);
        // Full lines above empty ones, and the reverse.
        let is_split = |number, above: &dyn Fn(&[u8]) -> bool, below: &dyn Fn(&[u8]) -> bool| {
            let lines: Vec<_> = self.lines(number).collect();
            let split = lines.iter().position(|line| !above(line)).unwrap_or(0);
            split > 0 && split < self.height && lines[split..].iter().all(|line| below(line))
        };
        let bar = self.lines(VERTICAL_LINE).next().unwrap_or_default();
        self.is_blank(0xff)
            && !is_empty(solid)
            && self.lines(FULL_BLOCK).all(is_full)
            && is_split(UPPER_HALF, &is_full, &is_empty)
            && is_split(LOWER_HALF, &is_empty, &is_full)
            && self.lines(LEFT_HALF).zip(self.lines(LEFT_HALF + 1)).all(|(left, right)| {
                left.iter().zip(right).zip(solid).all(|((left, right), solid)| left ^ right == *solid)
            })
            && !is_empty(bar)
            && !is_full(bar)
            && self.lines(VERTICAL_LINE).all(|line| line == bar)
            && self.lines(HORIZONTAL_LINE).all(|line| is_full(line) || is_empty(line))
            && self.lines(HORIZONTAL_LINE).any(is_full)
            && self.lines(HORIZONTAL_LINE).any(is_empty)
    }
}

fn is_set(line: &[u8], column: usize) -> bool {
    line[column / 8] >> (7 - column % 8) & 1 == 1
}

/// A font that text can be read in.
#[derive(Debug, PartialEq, Eq)]
pub struct Font {
    /// The size of a character, in pixels.
    pub width: usize,
    /// The size of a character, in pixels.
    pub height: usize,
    /// The characters that can be read.
    pub extent: Extent,
    /// Bytes of a line.
    pitch: usize,
    /// The characters by their shapes, whose upper left pixel is always clear.
    whole: HashMap<Vec<u8>, char>,
    /// Without the lines where the cursor may be.
    cut: HashMap<Vec<u8>, char>,
}

impl Font {
    /// Returns the font of the table, if it is one: by geometry, or only by its ASCII if the bytes are known to be a font.
    pub fn new(table: &Table<'_>, is_known: bool) -> Option<Self> {
        let extent = match table.has_code_page() {
            true => Extent::CodePage,
            false if is_known => Extent::Ascii,
            false => return None,
        };
        let (width, height, pitch) = (table.width(), table.height, table.pitch);
        // Characters are taller than wide, and not much more.
        let is_likely = width > 8 * (pitch - 1) && (width..=4 * width).contains(&height);
        if !is_likely || !table.has_ascii() {
            return None;
        }
        let mut font = Self { width, height, extent, pitch, whole: HashMap::new(), cut: HashMap::new() };
        // Where two look the same, ASCII is meant.
        let (ascii, others): (Vec<_>, Vec<_>) =
            (1..).zip(CHARACTERS.chars()).partition(|(_, character)| character.is_ascii());
        let others = others.into_iter().filter(|_| extent == Extent::CodePage);
        for (number, character) in ascii.into_iter().chain(others) {
            let shape = font.plain(table.glyph(number));
            font.cut.entry(shape[..font.above_cursor()].to_vec()).or_insert(character);
            font.whole.entry(shape).or_insert(character);
        }
        Some(font)
    }

    /// Returns the character of a shape, whose upper left pixel is clear.
    pub fn character(&self, shape: &[u8]) -> Option<char> {
        let (above, cursor) = shape.split_at(self.above_cursor().min(shape.len()));
        let under_cursor =
            || cursor.chunks_exact(self.pitch).all(|line| self.is_full(line)).then(|| self.cut.get(above));
        self.whole.get(shape).or_else(|| under_cursor().flatten()).copied()
    }

    /// Returns the length of a shape without the lowest lines, where Linux's console has its cursor.
    fn above_cursor(&self) -> usize {
        let cursor = if self.height < 10 { 1 } else { 2 };
        (self.height - cursor) * self.pitch
    }

    fn is_full(&self, line: &[u8]) -> bool {
        (0..self.width).all(|column| is_set(line, column))
    }

    /// Returns the shape with the colours exchanged if its upper left pixel is set.
    fn plain(&self, shape: &[u8]) -> Vec<u8> {
        let mut shape = shape.to_vec();
        if is_set(&shape, 0) {
            for (at, byte) in shape.iter_mut().enumerate() {
                let columns = (self.width - 8 * (at % self.pitch)).min(8);
                *byte ^= !(0xff_u16 >> columns) as u8;
            }
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{drawn_font, with_glyph};
    use super::*;

    #[test]
    fn blocks_and_lines_make_a_font_of_a_table() {
        for (width, height) in [(8, 16), (8, 8), (16, 32), (12, 22), (6, 10)] {
            let bytes = drawn_font(width, height);
            let font = Font::new(&Table::new(&bytes, height, width.div_ceil(8)).unwrap(), false).unwrap();
            assert_eq!((font.width, font.height, font.extent), (width, height, Extent::CodePage));
        }
        assert_eq!(CHARACTERS.chars().count(), 254);
    }

    #[test]
    fn a_table_with_one_wrong_block_line_or_letter_is_no_font() {
        let good = drawn_font(8, 16);
        let is_font = |bytes: &[u8], is_known| Font::new(&Table::new(bytes, 16, 1).unwrap(), is_known).is_some();
        assert!(is_font(&good, false));
        for number in [VERTICAL_LINE, HORIZONTAL_LINE, FULL_BLOCK, LOWER_HALF, LEFT_HALF, UPPER_HALF, 0xff] {
            let mut wrong = good.clone();
            wrong[number * 16 + 3] ^= 0x24;
            assert!(!is_font(&wrong, false), "{number:#x}");
            assert!(is_font(&wrong, true), "{number:#x}: its ASCII is good");
        }
        for (number, shape) in [(SPACE, &[1; 16][..]), (0x41, &[0; 16]), (0x41, &good[0x42 * 16..0x43 * 16])] {
            assert!(!is_font(&with_glyph(&good, number, shape), true), "{number:#x}");
        }
        assert!(!is_font(&[0; 4096], true) && !is_font(&[0xff; 4096], true));
        assert!(Table::new(&good[1..], 16, 1).is_none() && Table::new(&good, 5, 1).is_none());
    }
}
