//! The encoding Tight, as far as it is without loss: one colour, a palette, or all pixels.

use std::io;

use super::deflate::deflate;
use super::format::Pixels;

/// Maximum width of a rectangle.
pub const MAX_WIDTH: u32 = 2048;
/// Fewer bytes than this are not compressed.
const MIN_COMPRESSED: usize = 12;
/// Maximum number of colours in a palette.
const MAX_PALETTE: usize = 256;
/// The filter that replaces pixels by their place in a palette.
const PALETTE_FILTER: u8 = 1;

/// The compression of a rectangle, in the upper half of its first byte.
mod control {
    pub const FILTER_FOLLOWS: u8 = 0x40;
    pub const FILL: u8 = 0x80;
}

/// A stream of compressed bytes of a connection. Each kind of data has its own.
#[derive(Clone, Copy)]
enum Stream {
    Pixels,
    Bits,
    Indexes,
}

/// Encodes rectangles for one viewer.
#[derive(Default)]
pub struct Tight {
    streams: [Option<flate2::Compress>; 3],
    palette: Palette,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl Tight {
    /// Appends a rectangle with this many pixels in a line. They are converted already.
    ///
    /// # Errors
    /// Returns an error if the compression fails.
    pub fn encode(&mut self, to: &mut Vec<u8>, pixels: &Pixels, rectangle: &[u32], width: usize) -> io::Result<()> {
        self.plain.clear();
        let fits = self.palette.collect(rectangle);
        let colours = self.palette.colours.len();
        // A long palette of a small rectangle is longer than its pixels.
        let is_shorter =
            colours <= 2 || rectangle.len() + colours * pixels.length() < rectangle.len() * pixels.length();
        match colours {
            1 if fits => {
                to.push(control::FILL);
                pixels.write_all(to, &self.palette.colours);
                Ok(())
            }
            _ if fits && is_shorter => {
                let stream = if colours == 2 { Stream::Bits } else { Stream::Indexes };
                to.extend([(stream as u8) << 4 | control::FILTER_FOLLOWS, PALETTE_FILTER, (colours - 1) as u8]);
                pixels.write_all(to, &self.palette.colours);
                match stream {
                    Stream::Bits => self.palette.bits(rectangle, width, &mut self.plain),
                    _ => self.palette.indexes(rectangle, &mut self.plain),
                }
                self.compress(to, stream)
            }
            _ => {
                to.push((Stream::Pixels as u8) << 4);
                pixels.write_all(&mut self.plain, rectangle);
                self.compress(to, Stream::Pixels)
            }
        }
    }

    /// Appends the bytes, compressed after their length unless they are few.
    fn compress(&mut self, to: &mut Vec<u8>, stream: Stream) -> io::Result<()> {
        if self.plain.len() < MIN_COMPRESSED {
            to.extend(&self.plain);
            return Ok(());
        }
        self.packed.clear();
        deflate(&mut self.streams[stream as usize], &mut self.packed, &self.plain)?;
        // Seven bits in a byte, the lowest first.
        let mut length = self.packed.len();
        while length > 0x7f {
            to.push(length as u8 & 0x7f | 0x80);
            length >>= 7;
        }
        to.push(length as u8);
        to.extend(&self.packed);
        Ok(())
    }
}

/// Number of places of the table: a power of two, and more than twice the colours.
const PLACES: usize = 1024;

/// The colours of a rectangle.
struct Palette {
    colours: Vec<u32>,
    /// For each place, the number of the colour and one.
    places: Box<[u16; PLACES]>,
}

impl Default for Palette {
    fn default() -> Self {
        Self { colours: Vec::new(), places: Box::new([0; PLACES]) }
    }
}

impl Palette {
    /// Collects the colours. Returns `false` if they are too many.
    fn collect(&mut self, pixels: &[u32]) -> bool {
        self.colours.clear();
        self.places.fill(0);
        let mut last = None;
        for pixel in pixels {
            if last == Some(*pixel) {
                continue;
            }
            last = Some(*pixel);
            let (place, number) = self.find(*pixel);
            if number == 0 {
                if self.colours.len() == MAX_PALETTE {
                    return false;
                }
                self.colours.push(*pixel);
                self.places[place] = self.colours.len() as u16;
            }
        }
        true
    }

    /// Returns the place of a colour, and its number and one, 0 if it is not there.
    fn find(&self, colour: u32) -> (usize, u16) {
        let mut place = (colour.wrapping_mul(0x9e37_79b1) >> 22) as usize;
        loop {
            let number = self.places[place];
            if number == 0 || self.colours.get(usize::from(number) - 1) == Some(&colour) {
                return (place, number);
            }
            place = (place + 1) % PLACES;
        }
    }

    /// Appends the number of the colour of each pixel.
    fn indexes(&self, rectangle: &[u32], to: &mut Vec<u8>) {
        // Neighbours mostly have the same colour.
        let (mut colour, mut index) = (self.colours.first().copied(), 0);
        to.extend(rectangle.iter().map(|pixel| {
            if colour != Some(*pixel) {
                (colour, index) = (Some(*pixel), self.find(*pixel).1.saturating_sub(1) as u8);
            }
            index
        }));
    }

    /// Appends a bit for each pixel, which is set for the second of two colours. Lines begin with a byte.
    fn bits(&self, rectangle: &[u32], width: usize, to: &mut Vec<u8>) {
        let second = self.colours.last().copied().unwrap_or(0);
        for line in rectangle.chunks(width.max(1)) {
            for part in line.chunks(8) {
                let byte = part.iter().fold(0, |byte, pixel| byte << 1 | u8::from(*pixel == second));
                to.push(byte << (8 - part.len()));
            }
        }
    }
}
