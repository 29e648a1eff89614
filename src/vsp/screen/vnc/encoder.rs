//! Rectangles of pixels on their way to a viewer.

use std::io;

use super::deflate::deflate;
use super::format::{Format, Pixels};
use super::tight::Tight;
use super::zrle::Tiles;

/// Pixels as they are.
pub const RAW: i32 = 0;
/// Tiles of 16x16 pixels: a background, and rectangles on it.
pub const HEXTILE: i32 = 5;
/// Pixels as they are, compressed.
pub const ZLIB: i32 = 6;
/// One colour, a palette or pixels, compressed.
pub const TIGHT: i32 = 7;
/// Tiles of 64x64 pixels with palettes and runs, compressed.
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
    tiles: Tiles,
    plain: Vec<u8>,
}

impl Encoder {
    /// Appends a rectangle with this many pixels in a line. They are converted for the viewer.
    ///
    /// # Errors
    /// Returns an error if the compression fails.
    pub fn encode(
        &mut self,
        to: &mut Vec<u8>,
        (format, encoding): (&Format, i32),
        rectangle: &mut [u32],
        width: usize,
    ) -> io::Result<()> {
        let pixels = if encoding == TIGHT { format.tight_pixels() } else { format.pixels(encoding == ZRLE) };
        pixels.convert_all(rectangle);
        self.plain.clear();
        match encoding {
            ZRLE => {
                self.tiles.write(&mut self.plain, &pixels, rectangle, width);
                compress(&mut self.zrle, to, &self.plain)
            }
            TIGHT => self.tight.encode(to, &pixels, rectangle, width),
            ZLIB => {
                pixels.write_all(&mut self.plain, rectangle);
                compress(&mut self.zlib, to, &self.plain)
            }
            HEXTILE => {
                for tile in tiles(rectangle, width, HEXTILE_TILE) {
                    hextile_tile(&pixels, to, &tile.pixels(), tile.width);
                }
                Ok(())
            }
            _ => {
                pixels.write_all(to, rectangle);
                Ok(())
            }
        }
    }
}

/// A part of a rectangle.
struct Tile<'a> {
    /// The lines of the rectangle.
    lines: std::slice::ChunksExact<'a, u32>,
    left: usize,
    width: usize,
}

impl Tile<'_> {
    fn pixels(&self) -> Vec<u32> {
        let (left, right) = (self.left, self.left + self.width);
        let lines: Vec<_> = self.lines.clone().filter_map(|line| line.get(left..right)).collect();
        lines.concat()
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
            return pixels.write_all(to, tile);
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
