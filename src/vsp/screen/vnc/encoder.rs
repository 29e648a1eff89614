//! Rectangles of pixels on their way to a viewer.

use std::io;

use super::deflate::deflate;
use super::format::{Format, Pixels};
use super::tight::Tight;

/// Pixels as they are.
pub const RAW: i32 = 0;
/// Tiles of 16x16 pixels: a background, and rectangles on it.
pub const HEXTILE: i32 = 5;
/// Pixels as they are, compressed.
pub const ZLIB: i32 = 6;
/// One colour, a palette or pixels, compressed.
pub const TIGHT: i32 = 7;
/// Tiles of 64x64 pixels with palettes, compressed.
pub const ZRLE: i32 = 16;
/// Pixels that the viewer has elsewhere.
pub const COPY: i32 = 1;
/// The size of the screen has changed.
pub const DESKTOP_SIZE: i32 = -223;
/// The same, and viewers may ask for a size.
pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
/// The viewer can send scan codes.
pub const QEMU_KEYS: i32 = -258;
/// The lights of the keyboard (QEMU's extension).
pub const LIGHTS: i32 = -261;
/// The shape of the pointer.
pub const CURSOR: i32 = -239;

/// Width and height of a tile of ZRLE.
const TILE: usize = 64;
/// Maximum number of colours in the palette of a tile.
const MAX_PALETTE: usize = 16;
/// Width and height of a tile of Hextile.
const HEXTILE_TILE: usize = 16;

/// Flags of a tile of Hextile.
mod hextile {
    pub const RAW: u8 = 1;
    pub const BACKGROUND: u8 = 2;
    pub const RECTANGLES: u8 = 8;
    pub const COLOURED: u8 = 16;
}

/// Returns the encoding that a viewer with this list gets: the first of the list that the server has. The list may omit Raw.
pub fn best(known: &[i32]) -> i32 {
    known.iter().copied().find(|encoding| matches!(*encoding, RAW | HEXTILE | ZLIB | TIGHT | ZRLE)).unwrap_or(RAW)
}

/// Encodes rectangles for one viewer.
#[derive(Default)]
pub struct Encoder {
    /// The rectangles of a connection are one stream for each encoding.
    zlib: Option<flate2::Compress>,
    zrle: Option<flate2::Compress>,
    tight: Tight,
    plain: Vec<u8>,
}

impl Encoder {
    /// Appends a rectangle with this many pixels in a line.
    ///
    /// # Errors
    /// Returns an error if the compression fails.
    pub fn encode(
        &mut self,
        to: &mut Vec<u8>,
        (format, encoding): (&Format, i32),
        rectangle: &[u32],
        width: usize,
    ) -> io::Result<()> {
        let pixels = format.pixels(encoding == ZRLE);
        self.plain.clear();
        match encoding {
            ZRLE => {
                for tile in tiles(rectangle, width, TILE) {
                    zrle_tile(&pixels, &mut self.plain, &tile.pixels(&pixels), tile.width);
                }
                compress(&mut self.zrle, to, &self.plain)
            }
            TIGHT => self.tight.encode(to, format, rectangle, width),
            ZLIB => {
                write_all(&pixels, &mut self.plain, rectangle);
                compress(&mut self.zlib, to, &self.plain)
            }
            HEXTILE => {
                for tile in tiles(rectangle, width, HEXTILE_TILE) {
                    hextile_tile(&pixels, to, &tile.pixels(&pixels), tile.width);
                }
                Ok(())
            }
            _ => {
                write_all(&pixels, to, rectangle);
                Ok(())
            }
        }
    }
}

fn write_all(pixels: &Pixels, to: &mut Vec<u8>, rectangle: &[u32]) {
    to.reserve(rectangle.len() * pixels.length());
    rectangle.iter().for_each(|pixel| pixels.write(to, pixels.convert(*pixel)));
}

/// A part of a rectangle.
struct Tile<'a> {
    /// The lines of the rectangle.
    lines: std::slice::ChunksExact<'a, u32>,
    left: usize,
    width: usize,
}

impl Tile<'_> {
    fn pixels(&self, pixels: &Pixels) -> Vec<u32> {
        let (left, right) = (self.left, self.left + self.width);
        let lines = self.lines.clone().filter_map(|line| line.get(left..right));
        lines.flatten().map(|pixel| pixels.convert(*pixel)).collect()
    }
}

/// Splits a rectangle into tiles of at most that size, line by line.
fn tiles(rectangle: &[u32], width: usize, size: usize) -> impl Iterator<Item = Tile<'_>> {
    let width = width.max(1);
    rectangle.chunks(size * width).flat_map(move |rows| {
        let lefts = (0..width).step_by(size);
        lefts.map(move |left| Tile { lines: rows.chunks_exact(width), left, width: size.min(width - left) })
    })
}

/// Appends a tile of ZRLE: one colour, a palette, or all pixels.
fn zrle_tile(pixels: &Pixels, to: &mut Vec<u8>, tile: &[u32], width: usize) {
    let mut palette: Vec<u32> = Vec::with_capacity(MAX_PALETTE + 1);
    let mut previous = None;
    for pixel in tile {
        if previous != Some(*pixel) && !palette.contains(pixel) {
            palette.push(*pixel);
            if palette.len() > MAX_PALETTE {
                break;
            }
        }
        previous = Some(*pixel);
    }
    let bits = match palette.len() {
        0 | 1 => 0,
        2 => 1,
        3..=4 => 2,
        5..=MAX_PALETTE => 4,
        _ => {
            to.push(0);
            return tile.iter().for_each(|pixel| pixels.write(to, *pixel));
        }
    };
    to.push(palette.len() as u8);
    palette.iter().for_each(|pixel| pixels.write(to, *pixel));
    if bits == 0 {
        return;
    }
    // Neighbours mostly have the same colour.
    let (mut colour, mut index) = (palette.first().copied(), 0);
    for line in tile.chunks(width.max(1)) {
        for part in line.chunks(8 / bits) {
            let mut byte = 0;
            for (at, pixel) in part.iter().enumerate() {
                if colour != Some(*pixel) {
                    colour = Some(*pixel);
                    index = palette.iter().position(|colour| colour == pixel).unwrap_or(0) as u8;
                }
                byte |= index << (8 - bits * (at + 1));
            }
            to.push(byte);
        }
    }
}

/// Appends a tile of Hextile: rectangles of one line on a background, or all pixels if that is shorter.
fn hextile_tile(pixels: &Pixels, to: &mut Vec<u8>, tile: &[u32], width: usize) {
    let background = tile.first().copied().unwrap_or(0);
    let mut runs: Vec<(u32, u8, u8)> = Vec::new();
    let most = tile.len() * pixels.length() / (pixels.length() + 2);
    for (y, line) in tile.chunks(width.max(1)).enumerate() {
        let mut x = 0;
        for run in line.chunk_by(|one, other| one == other) {
            // Both coordinates and both sizes, less one, have four bits each.
            let (place, size) = ((x << 4 | y) as u8, ((run.len() - 1) << 4) as u8);
            x += run.len();
            if let Some(colour) = run.first().filter(|colour| **colour != background) {
                runs.push((*colour, place, size));
            }
        }
        if runs.len() >= most {
            to.push(hextile::RAW);
            return tile.iter().for_each(|pixel| pixels.write(to, *pixel));
        }
    }
    to.push(if runs.is_empty() {
        hextile::BACKGROUND
    } else {
        hextile::BACKGROUND | hextile::RECTANGLES | hextile::COLOURED
    });
    pixels.write(to, background);
    if runs.is_empty() {
        return;
    }
    // A tile has at most 256 pixels, one of which is the background.
    to.push(runs.len() as u8);
    for (colour, place, size) in runs {
        pixels.write(to, colour);
        to.extend([place, size]);
    }
}

/// Appends a length and as many compressed bytes.
fn compress(stream: &mut Option<flate2::Compress>, to: &mut Vec<u8>, plain: &[u8]) -> io::Result<()> {
    let at = to.len();
    to.extend([0; 4]);
    deflate(stream, to, plain)?;
    let length = (to.len() - at - 4) as u32;
    if let Some(place) = to.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
