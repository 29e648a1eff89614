//! Decodes the rectangles of a VNC server (RFB), with pixels of four bytes: blue, green, red, unused. Each pixel is 0x00RRGGBB here.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// Uncompressed pixels.
pub const RAW: i32 = 0;
pub const HEXTILE: i32 = 5;
pub const ZLIB: i32 = 6;
pub const TIGHT: i32 = 7;
pub const ZRLE: i32 = 16;

/// The compression streams of a connection.
pub struct Decoder {
    zlib: Decompress,
    zrle: Decompress,
    tight: [Decompress; 4],
}

impl Default for Decoder {
    fn default() -> Self {
        let stream = || Decompress::new(true);
        Self { zlib: stream(), zrle: stream(), tight: [stream(), stream(), stream(), stream()] }
    }
}

pub fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn pixel(from: &mut impl Read) -> io::Result<u32> {
    array(from).map(|bytes| u32::from_le_bytes(bytes) & 0xff_ffff)
}

fn compact_pixel(from: &mut impl Read) -> io::Result<u32> {
    array(from).map(|[blue, green, red]| u32::from_le_bytes([blue, green, red, 0]))
}

impl Decoder {
    /// Reads the pixels of a rectangle, line by line.
    pub fn decode(&mut self, from: &mut impl Read, encoding: i32, width: usize, height: usize) -> io::Result<Vec<u32>> {
        let mut picture = vec![0; width * height];
        match encoding {
            RAW => picture.iter_mut().try_for_each(|to| pixel(from).map(|pixel| *to = pixel))?,
            ZLIB => {
                let plain = inflate(&mut self.zlib, from)?;
                assert_eq!(
                    plain.len(),
                    4 * width * height,
                    "the compressed data has exactly the pixels of the rectangle"
                );
                let mut plain = &plain[..];
                picture.iter_mut().try_for_each(|to| pixel(&mut plain).map(|pixel| *to = pixel))?;
            }
            HEXTILE => {
                let (mut background, mut foreground) = (0, 0);
                for (left, top, width_here, height_here) in tiles(width, height, 16) {
                    let tile = hextile(from, (width_here, height_here), &mut background, &mut foreground)?;
                    put(&mut picture, width, (left, top), &tile, width_here);
                }
            }
            ZRLE => {
                let plain = inflate(&mut self.zrle, from)?;
                let mut plain = &plain[..];
                for (left, top, width_here, height_here) in tiles(width, height, 64) {
                    let tile = zrle(&mut plain, width_here, height_here)?;
                    put(&mut picture, width, (left, top), &tile, width_here);
                }
                assert_eq!(plain, b"", "the data ends with the last tile");
            }
            TIGHT => return self.tight(from, width, height),
            other => panic!("encoding {other}"),
        }
        Ok(picture)
    }
}

impl Decoder {
    fn tight(&mut self, from: &mut impl Read, width: usize, height: usize) -> io::Result<Vec<u32>> {
        let [control] = array(from)?;
        assert_eq!(control & 15, 0, "no stream begins anew");
        assert!(width <= 2048, "Tight has no rectangles that are wider");
        if control == 0x80 {
            return tight_pixel(from).map(|colour| vec![colour; width * height]);
        }
        assert!(control & 0x80 == 0, "the encoding is without loss: {control:#x}");
        let stream = usize::from(control >> 4 & 3);
        let [filter] = if control & 0x40 == 0 { [0] } else { array(from)? };
        if filter == 0 {
            let plain = self.tight_bytes(from, stream, width * height * 3)?;
            return plain.chunks(3).map(|mut pixel| tight_pixel(&mut pixel)).collect();
        }
        assert_eq!(filter, 1, "a palette");
        let [count] = array(from)?;
        let palette = (0..=count).map(|_| tight_pixel(from)).collect::<io::Result<Vec<_>>>()?;
        let line_length = if count == 1 { width.div_ceil(8) } else { width };
        let plain = self.tight_bytes(from, stream, line_length * height)?;
        let index = |line: &[u8], x: usize| if count == 1 { line[x / 8] >> (7 - x % 8) & 1 } else { line[x] };
        let lines = plain.chunks(line_length);
        Ok(lines
            .flat_map(|line| (0..width).map(|x| palette[usize::from(index(line, x))]).collect::<Vec<_>>())
            .collect())
    }

    fn tight_bytes(&mut self, from: &mut impl Read, stream: usize, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        if length < 12 {
            from.read_exact(&mut bytes)?;
            return Ok(bytes);
        }
        let mut packed_length = 0;
        for shift in [0, 7, 14] {
            let [byte] = array(from)?;
            packed_length |= usize::from(byte & if shift == 14 { 0xff } else { 0x7f }) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut packed = vec![0; packed_length];
        from.read_exact(&mut packed)?;
        let plain = unpacked(&mut self.tight[stream], &packed)?;
        assert_eq!(plain.len(), length, "the compressed bytes are all of the rectangle");
        Ok(plain)
    }
}

/// Red comes first.
fn tight_pixel(from: &mut impl Read) -> io::Result<u32> {
    array(from).map(|[red, green, blue]| u32::from_be_bytes([0, red, green, blue]))
}

fn tiles(width: usize, height: usize, size: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let lefts = move || (0..width).step_by(size);
    let places = (0..height).step_by(size).flat_map(move |top| lefts().map(move |left| (left, top)));
    places.map(move |(left, top)| (left, top, size.min(width - left), size.min(height - top)))
}

fn put(picture: &mut [u32], width: usize, (left, top): (usize, usize), tile: &[u32], tile_width: usize) {
    for (y, line) in tile.chunks(tile_width).enumerate() {
        let at = (top + y) * width + left;
        picture[at..at + tile_width].copy_from_slice(line);
    }
}

fn hextile(
    from: &mut impl Read,
    (width, height): (usize, usize),
    background: &mut u32,
    foreground: &mut u32,
) -> io::Result<Vec<u32>> {
    let [flags] = array(from)?;
    if flags & 1 != 0 {
        return (0..width * height).map(|_| pixel(from)).collect();
    }
    if flags & 2 != 0 {
        *background = pixel(from)?;
    }
    if flags & 4 != 0 {
        *foreground = pixel(from)?;
    }
    let mut tile = vec![*background; width * height];
    let [count] = if flags & 8 != 0 { array(from)? } else { [0] };
    for _ in 0..count {
        let colour = if flags & 16 != 0 { pixel(from)? } else { *foreground };
        let [place, size] = array(from)?.map(usize::from);
        let (left, top) = (place >> 4, place & 15);
        for line in top..=top + (size & 15) {
            tile[line * width + left..=line * width + left + (size >> 4)].fill(colour);
        }
    }
    Ok(tile)
}

fn zrle(from: &mut impl Read, width: usize, height: usize) -> io::Result<Vec<u32>> {
    let [kind] = array(from)?;
    let bits = match kind {
        0 => return (0..width * height).map(|_| compact_pixel(from)).collect(),
        1 => return compact_pixel(from).map(|colour| vec![colour; width * height]),
        2 => 1,
        3..=4 => 2,
        5..=16 => 4,
        128..=255 => return zrle_runs(from, usize::from(kind - 128), width * height),
        other => panic!("a tile of kind {other}"),
    };
    let palette = (0..kind).map(|_| compact_pixel(from)).collect::<io::Result<Vec<_>>>()?;
    let mut tile = Vec::new();
    for _ in 0..height {
        let mut line = vec![0; (width * bits).div_ceil(8)];
        from.read_exact(&mut line)?;
        let index = |x: usize| line[x * bits / 8] >> (8 - bits - x * bits % 8) & ((1 << bits) - 1);
        tile.extend((0..width).map(|x| palette[usize::from(index(x))]));
    }
    Ok(tile)
}

/// Reads runs of a colour, or of a place in a palette, which has no length after it if it is a single pixel.
fn zrle_runs(from: &mut impl Read, colours: usize, pixels: usize) -> io::Result<Vec<u32>> {
    assert_ne!(colours, 1, "such a palette is of no use");
    let palette = (0..colours).map(|_| compact_pixel(from)).collect::<io::Result<Vec<_>>>()?;
    let mut tile = Vec::new();
    while tile.len() < pixels {
        let (colour, is_run) = match colours {
            0 => (compact_pixel(from)?, true),
            _ => array(from).map(|[index]| (palette[usize::from(index & 0x7f)], index & 0x80 != 0))?,
        };
        let (mut length, mut is_longer) = (1, is_run);
        while is_longer {
            let [more] = array(from)?;
            length += usize::from(more);
            is_longer = more == 255;
        }
        tile.extend(std::iter::repeat_n(colour, length));
    }
    assert_eq!(tile.len(), pixels, "the last run ends with the tile");
    Ok(tile)
}

fn inflate(stream: &mut Decompress, from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut packed = vec![0; u32::from_be_bytes(array(from)?) as usize];
    from.read_exact(&mut packed)?;
    unpacked(stream, &packed)
}

fn unpacked(stream: &mut Decompress, packed: &[u8]) -> io::Result<Vec<u8>> {
    let (mut plain, mut rest) = (Vec::new(), packed);
    loop {
        plain.reserve(1 << 16);
        let before = stream.total_in();
        let status = stream.decompress_vec(rest, &mut plain, FlushDecompress::Sync).map_err(io::Error::other)?;
        rest = &rest[(stream.total_in() - before) as usize..];
        if rest.is_empty() && plain.len() < plain.capacity() || status == Status::StreamEnd {
            return Ok(plain);
        }
    }
}
