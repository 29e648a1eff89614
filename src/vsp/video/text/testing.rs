//! A font for tests, and pictures with text in it. Blocks and lines have their geometry; letters are arbitrary.

use vm_memory::{Bytes, GuestAddress};

use super::font::CHARACTERS;
use crate::memory::{Backing, GuestMemory, create};
use crate::vsp::video::picture::Picture;

/// Colours of text and background.
pub type Colours = ([u8; 3], [u8; 3]);
/// The colours of Linux's console.
pub const PLAIN: Colours = ([0xaa; 3], [0; 3]);

/// Returns `true` if a glyph has a pixel. The letters' pixels are the bits of a number of their own, which repeat in the cell without
/// its border.
fn is_drawn(number: usize, (x, y): (usize, usize), (width, height): (usize, usize)) -> bool {
    match number {
        0 | 0x20 | 0xff => false,
        0xb3 => x == width / 2,
        0xc4 => y == height / 2,
        0xdb => true,
        0xdc => y >= height / 2,
        0xdd => x < width / 2,
        0xde => x >= width / 2,
        0xdf => y < height / 2,
        _ if x == 0 || y == 0 || x + 1 == width || y + 1 == height => false,
        _ => {
            let bit = (x - 1) + (y - 1) * (width - 2);
            (number | 0x100) >> (bit % 9) & 1 == 1
        }
    }
}

/// Returns a font of 256 glyphs of this size.
pub fn drawn_font(width: usize, height: usize) -> Vec<u8> {
    let pitch = width.div_ceil(8);
    let mut bytes = vec![0; 256 * height * pitch];
    for (number, glyph) in bytes.chunks_exact_mut(height * pitch).enumerate() {
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let bit = u8::from(is_drawn(number, (x, y), (width, height)));
            glyph[y * pitch + x / 8] |= bit << (7 - x % 8);
        }
    }
    bytes
}

/// Returns the font with another glyph.
pub fn with_glyph(font: &[u8], number: usize, glyph: &[u8]) -> Vec<u8> {
    let mut font = font.to_vec();
    font[number * glyph.len()..][..glyph.len()].copy_from_slice(glyph);
    font
}

/// Draws lines of text as a console of that many columns does, in the font of this size.
pub fn drawn(
    size: (usize, usize),
    columns: usize,
    lines: &[&str],
    colours: Colours,
    cursor: Option<(usize, usize)>,
) -> Picture {
    let (width, height) = size;
    let number = |character| CHARACTERS.chars().position(|other| other == character).map_or(0, |at| at + 1);
    let cells: Vec<Vec<usize>> = lines.iter().map(|line| line.chars().map(number).collect()).collect();
    let (foreground, background) = colours;
    Picture::of((columns * width) as u32, (lines.len() * height) as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let (column, row) = (x / width, y / height);
        let number = cells[row].get(column).copied().unwrap_or(0);
        let is_cursor = cursor == Some((column, row)) && y % height + 2 >= height;
        if is_cursor || is_drawn(number, (x % width, y % height), size) { foreground } else { background }
    })
}

/// Returns memory that has these bytes at these addresses.
pub fn memory_with(parts: &[(u64, &[u8])]) -> GuestMemory {
    let memory = create(4 << 20, Backing::Shared).unwrap();
    parts.iter().for_each(|(at, bytes)| memory.write_slice(bytes, GuestAddress(*at)).unwrap());
    memory
}
