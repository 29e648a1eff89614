//! The tiles of the encoding ZRLE: one colour, a palette, runs of colours, or all pixels, whichever is shortest.

use super::format::Pixels;

/// Width and height of a tile.
const TILE: usize = 64;
/// Maximum number of colours whose places in a palette have 4 bits or less.
const MAX_PACKED: usize = 16;
/// Maximum number of colours of a palette with runs.
const MAX_PALETTE: usize = 127;
/// Number of places of the table of colours: a power of two, and twice the colours.
const PLACES: usize = 256;
/// Number of pixels that are compared at once in a long run.
const STEP: usize = 8;

/// The first byte of a tile. Others are the number of colours of a palette.
mod kind {
    pub const RAW: u8 = 0;
    pub const RUNS: u8 = 128;
}

/// Pixels of the same colour, one after the other. They may continue in the next line.
#[derive(Clone, Copy)]
struct Run {
    colour: u32,
    length: u16,
    /// The place of the colour in the palette.
    index: u8,
}

/// Encodes rectangles as tiles.
pub struct Tiles {
    runs: Vec<Run>,
    palette: Vec<u32>,
    /// For each place, the number of the colour in the palette, and one.
    places: [u8; PLACES],
    indexes: Vec<u8>,
}

impl Default for Tiles {
    fn default() -> Self {
        Self { runs: Vec::new(), palette: Vec::new(), places: [0; PLACES], indexes: Vec::new() }
    }
}

impl Tiles {
    /// Appends a rectangle with this many pixels in a line. They are converted already.
    pub fn write(&mut self, to: &mut Vec<u8>, pixels: &Pixels, rectangle: &[u32], width: usize) {
        let width = width.max(1);
        for rows in rectangle.chunks(TILE * width) {
            for left in (0..width).step_by(TILE) {
                let right = (left + TILE).min(width);
                let lines = rows.chunks_exact(width).filter_map(|line| line.get(left..right));
                self.tile(to, pixels, lines, right - left);
            }
        }
    }

    fn tile<'a>(
        &mut self,
        to: &mut Vec<u8>,
        pixels: &Pixels,
        lines: impl Iterator<Item = &'a [u32]> + Clone,
        width: usize,
    ) {
        self.collect(lines.clone());
        let fits = self.index();
        let (colours, length) = (self.palette.len(), pixels.length());
        let height = lines.clone().count();
        // Runs of more than 255 pixels have further bytes, which are few.
        let singles = self.runs.iter().filter(|run| run.length == 1).count();
        let raw = width * height * length;
        let runs = self.runs.len() * (length + 1);
        let palette_runs = colours * length + 2 * self.runs.len() - singles;
        let bits = match colours {
            0..=2 => 1,
            3..=4 => 2,
            _ => 4,
        };
        let packed = colours * length + height * (width * bits).div_ceil(8);
        let palette = colours * length;
        if fits && colours <= 1 {
            to.push(1);
            pixels.write_all(to, &self.palette);
        } else if fits && colours <= MAX_PACKED && packed <= palette_runs.min(runs).min(raw) {
            to.reserve(1 + packed);
            to.push(colours as u8);
            pixels.write_all(to, &self.palette);
            self.pack(to, width, bits);
        } else if fits && palette_runs <= runs.min(raw) {
            to.reserve(1 + palette + palette_runs);
            to.push(kind::RUNS + colours as u8);
            pixels.write_all(to, &self.palette);
            for run in &self.runs {
                if run.length == 1 {
                    to.push(run.index);
                } else {
                    to.push(run.index | 0x80);
                    write_length(to, run.length);
                }
            }
        } else if runs < raw {
            to.push(kind::RUNS);
            for run in &self.runs {
                pixels.write_all(to, &[run.colour]);
                write_length(to, run.length);
            }
        } else {
            to.push(kind::RAW);
            lines.for_each(|line| pixels.write_all(to, line));
        }
    }

    /// Finds the runs of a tile.
    fn collect<'a>(&mut self, lines: impl Iterator<Item = &'a [u32]>) {
        self.runs.clear();
        let mut run = Run { colour: 0, length: 0, index: 0 };
        for mut line in lines {
            while let Some(colour) = line.first().copied() {
                let length = equal(line, colour);
                if colour != run.colour {
                    if run.length > 0 {
                        self.runs.push(run);
                    }
                    run = Run { colour, length: 0, index: 0 };
                }
                run.length += length as u16;
                line = line.get(length..).unwrap_or_default();
            }
        }
        self.runs.push(run);
    }

    /// Makes the palette of the runs. Returns `false` if there are too many colours.
    fn index(&mut self) -> bool {
        self.palette.clear();
        self.places.fill(0);
        for run in &mut self.runs {
            let mut place = (run.colour.wrapping_mul(0x9e37_79b1) >> 24) as usize;
            loop {
                let number = self.places[place % PLACES];
                if number == 0 {
                    if self.palette.len() == MAX_PALETTE {
                        return false;
                    }
                    self.palette.push(run.colour);
                    run.index = self.palette.len() as u8 - 1;
                    self.places[place % PLACES] = self.palette.len() as u8;
                    break;
                }
                if self.palette.get(usize::from(number) - 1) == Some(&run.colour) {
                    run.index = number - 1;
                    break;
                }
                place += 1;
            }
        }
        true
    }

    /// Appends the places of the pixels in the palette. Lines begin with a byte.
    fn pack(&mut self, to: &mut Vec<u8>, width: usize, bits: usize) {
        self.indexes.clear();
        for run in &self.runs {
            self.indexes.extend(std::iter::repeat_n(run.index, usize::from(run.length)));
        }
        for line in self.indexes.chunks(width) {
            let (parts, rest) = line.as_chunks::<8>();
            for part in parts {
                pack(to, part, bits, 8);
            }
            let mut part = [0; 8];
            if let Some(start) = part.get_mut(..rest.len()).filter(|start| !start.is_empty()) {
                start.copy_from_slice(rest);
                pack(to, &part, bits, rest.len());
            }
        }
    }
}

/// Returns the number of pixels of this colour with which a line begins.
fn equal(line: &[u32], colour: u32) -> usize {
    let is_other = |pixel: &u32| *pixel != colour;
    let start = line.get(..STEP).unwrap_or(line);
    if let Some(end) = start.iter().position(is_other) {
        return end;
    }
    let rest = line.get(STEP..).unwrap_or_default();
    let equal = |part: &&[u32; STEP]| part.iter().fold(0, |difference, pixel| difference | (pixel ^ colour)) == 0;
    let steps = rest.as_chunks().0.iter().take_while(equal).count();
    let at = start.len() + steps * STEP;
    let rest = line.get(at..).unwrap_or_default();
    at + rest.iter().position(is_other).unwrap_or(rest.len())
}

/// Appends the places of the first `count` of eight pixels, with that many bits each.
fn pack(to: &mut Vec<u8>, part: &[u8; 8], bits: usize, count: usize) {
    match bits {
        // Each byte, which is 0 or 1, is moved to its bit of the uppermost byte.
        1 => to.push((u64::from_le_bytes(*part).wrapping_mul(0x8040_2010_0804_0201) >> 56) as u8),
        _ => {
            let packed = part.iter().fold(0_u32, |packed, index| packed << bits | u32::from(*index)) << (32 - 8 * bits);
            to.extend_from_slice(packed.to_be_bytes().get(..(count * bits).div_ceil(8)).unwrap_or_default());
        }
    }
}

/// Appends the length of a run: its bytes and one are added.
fn write_length(to: &mut Vec<u8>, length: u16) {
    let mut rest = length.saturating_sub(1);
    while rest >= 255 {
        to.push(255);
        rest -= 255;
    }
    to.push(rest as u8);
}
