//! Reads text off a picture: that of a console whose characters are 8x16 pixels, from the upper left corner on.
//!
//! A character is recognised by its shape, whatever its two colours are. The table has the shapes of code page 437 as Linux's console
//! draws them when it starts. It serves to recognise them, and is never drawn. It was read from the character generator of an
//! emulated VGA, which has the same font; 214 of the 256 shapes are also those of the public-domain font of SeaBIOS. A test on
//! stock Linux finds all characters of ASCII on its screen.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::picture::Picture;

/// The shapes: 16 lines for each character, the leftmost pixel is the topmost bit.
const SHAPES: &[u8; 256 * 16] = include_bytes!("text/cp437-8x16.font");

/// The characters of code page 437, in its order.
const CHARACTERS: &str = "\
     ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼\u{20}!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂\
     ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■";

/// The size of a character, in pixels.
const WIDTH: u32 = 8;
const HEIGHT: u32 = 16;

/// What stands for a shape that is no character.
const UNKNOWN: char = '\u{fffd}';

/// The lowest two lines, where Linux's console has its cursor.
const CURSOR: u128 = 0xffff;

/// The characters by their shapes, whose upper left pixel is always clear.
struct Table {
    whole: HashMap<u128, char>,
    /// Without the lines where the cursor may be.
    cut: HashMap<u128, char>,
}

impl Table {
    fn shared() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(Self::new)
    }

    fn new() -> Self {
        // The first character has no shape, as the space.
        let characters = std::iter::once(' ').chain(CHARACTERS.chars());
        let shapes = SHAPES.as_chunks::<16>().0.iter().map(|shape| plain(u128::from_be_bytes(*shape)));
        // Where two look the same, ASCII is meant.
        let (ascii, others): (Vec<_>, Vec<_>) = shapes.zip(characters).partition(|(_, character)| character.is_ascii());
        let mut table = Self { whole: HashMap::new(), cut: HashMap::new() };
        for (shape, character) in ascii.into_iter().chain(others) {
            table.whole.entry(shape).or_insert(character);
            table.cut.entry(shape & !CURSOR).or_insert(character);
        }
        table
    }

    fn character(&self, shape: u128) -> Option<char> {
        let under_cursor = || (shape & CURSOR == CURSOR).then(|| self.cut.get(&(shape & !CURSOR))).flatten();
        self.whole.get(&shape).or_else(under_cursor).copied()
    }
}

/// Returns the shape with the colours exchanged if its upper left pixel is set.
fn plain(shape: u128) -> u128 {
    if shape >> 127 == 1 { !shape } else { shape }
}

/// Returns the character that a cell of the picture shows.
fn character(picture: &Picture, left: u32, top: u32) -> char {
    let background = picture.pixel(left, top);
    let (mut shape, mut colour) = (0_u128, None);
    for (y, x) in (top..top + HEIGHT).flat_map(|y| (left..left + WIDTH).map(move |x| (y, x))) {
        let pixel = picture.pixel(x, y);
        let is_set = pixel != background;
        if is_set && *colour.get_or_insert(pixel) != pixel {
            return UNKNOWN;
        }
        shape = shape << 1 | u128::from(is_set);
    }
    Table::shared().character(shape).unwrap_or(UNKNOWN)
}

/// Returns the text of the picture, all of each line: a character for each 8x16 pixels.
fn cells(picture: &Picture) -> Vec<String> {
    let (width, height) = picture.size();
    let line = |row: u32| (0..width / WIDTH).map(|column| character(picture, column * WIDTH, row * HEIGHT)).collect();
    (0..height / HEIGHT).map(line).collect()
}

/// Returns the lines without the spaces at their ends, and without the empty lines after the last.
fn trimmed(mut lines: Vec<String>) -> Vec<String> {
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
    lines
}

/// Returns the lines of text without the spaces at their ends, and without the empty lines after the last. What is no character is
/// U+FFFD.
pub fn lines(picture: &Picture) -> Vec<String> {
    trimmed(cells(picture))
}

/// Returns `true` if the picture shows the text: in a line, in several that it has, too, or broken at the right edge.
pub fn contains(picture: &Picture, text: &str) -> bool {
    let cells = cells(picture);
    cells.concat().contains(text) || trimmed(cells).join("\n").contains(text)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
