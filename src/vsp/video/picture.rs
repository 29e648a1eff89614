//! Pictures, and their files.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemory;

/// Maximum size of the screen, in pixels.
pub const MAX_WIDTH: u32 = 7680;
/// Maximum size of the screen, in lines.
pub const MAX_HEIGHT: u32 = 4320;

/// A file for a picture. It has its old content until then.
#[derive(Debug)]
pub struct PictureFile(File);

impl PictureFile {
    /// Opens the file, and creates it if there is none.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The machine must not wait for the reader of a FIFO, or for a device.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(path);
        let is_special = |error: &io::Error| error.raw_os_error() == Some(libc::ENXIO);
        let special = || io::Error::other("it is no regular file; name another one");
        let file = file.map_err(|error| if is_special(&error) { special() } else { error })?;
        if !file.metadata()?.is_file() {
            return Err(special());
        }
        Ok(Self(file))
    }

    /// Replaces the content by the picture, as PNG.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save(&self, picture: &Picture) -> io::Result<()> {
        (&self.0).rewind()?;
        self.0.set_len(0)?;
        let mut file = BufWriter::new(&self.0);
        picture.encode(&mut file)?;
        file.flush()
    }
}

/// The difference between two pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Number of pixels that differ.
    pixels: u64,
    /// The first of them.
    first: Option<(u32, u32)>,
    /// Both sizes, if they differ.
    sizes: Option<((u32, u32), (u32, u32))>,
    /// The shown picture, darker, with the pixels that differ in red.
    pub picture: Picture,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.sizes, self.first) {
            (Some(((width, height), (wanted_width, wanted_height))), _) => {
                write!(formatter, "the screen is {width}x{height}, the wanted picture {wanted_width}x{wanted_height}")
            }
            (None, Some((x, y))) => write!(formatter, "{} pixels differ, the first at {x}, {y}", self.pixels),
            (None, None) => formatter.write_str("no pixel differs"),
        }
    }
}

/// The picture on a screen, with eight bits each of red, green and blue per pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Three bytes a pixel.
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture {}x{}", self.width, self.height)
    }
}

impl Picture {
    /// Copies a picture of four bytes a pixel (blue, green, red, nothing) out of guest memory. What is not memory is black.
    pub(crate) fn read(memory: &GuestMemory, first: u64, width: u32, height: u32, pitch: u32) -> Self {
        let mut bytes = Vec::with_capacity(width as usize * height as usize * 3);
        let mut line = vec![0; width as usize * 4];
        for row in 0..height {
            let address = first.checked_add(u64::from(row) * u64::from(pitch));
            let read = address.is_some_and(|address| memory.read_slice(&mut line, GuestAddress(address)).is_ok());
            if !read {
                line.fill(0);
            }
            bytes.extend(line.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
        }
        Self { width, height, bytes }
    }

    /// Makes a picture of these pixels.
    #[cfg(test)]
    pub(crate) fn of(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self { width, height, bytes: places.flat_map(|(x, y)| pixel(x, y)).collect() }
    }

    /// Reads a PNG file of any kind. Transparency is ignored.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is no picture, or is larger than a screen.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // A named pipe without a writer must not block.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Self::decode(BufReader::new(file))
    }

    fn decode(from: BufReader<File>) -> io::Result<Self> {
        let limits = png::Limits { bytes: 8 * MAX_WIDTH as usize * MAX_HEIGHT as usize };
        let mut decoder = png::Decoder::new_with_limits(from, limits);
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let (width, height) = (reader.info().width, reader.info().height);
        if width > MAX_WIDTH || height > MAX_HEIGHT {
            return Err(io::Error::other(format!(
                "it has {width}x{height} pixels, more than {MAX_WIDTH}x{MAX_HEIGHT}"
            )));
        }
        let mut read = vec![0; reader.output_buffer_size().unwrap_or(0)];
        reader.next_frame(&mut read)?;
        let bytes = match reader.output_color_type().0 {
            png::ColorType::Rgb => read,
            png::ColorType::Rgba => read.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
            png::ColorType::GrayscaleAlpha => read.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
            _ => read.iter().flat_map(|grey| [*grey; 3]).collect(),
        };
        Ok(Self { width, height, bytes })
    }

    /// Returns `true` if both have the same size, and each colour of each pixel differs by at most `tolerance`.
    pub(crate) fn resembles(&self, other: &Self, tolerance: u8) -> bool {
        let close = |(one, other): (&u8, &u8)| one.abs_diff(*other) <= tolerance;
        self.size() == other.size() && self.bytes.iter().zip(&other.bytes).all(close)
    }

    /// Returns what differs from the wanted picture.
    pub(crate) fn difference(&self, wanted: &Self, tolerance: u8) -> Difference {
        let (width, height) = (self.width.max(wanted.width), self.height.max(wanted.height));
        let (mut pixels, mut first, mut bytes) = (0, None, Vec::new());
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (shown, other) = (self.pixel(x, y), wanted.pixel(x, y));
            let close = |one: [u8; 3], other: [u8; 3]| (0..3).all(|at| one[at].abs_diff(other[at]) <= tolerance);
            if shown.zip(other).is_some_and(|(shown, other)| close(shown, other)) {
                bytes.extend(shown.unwrap_or_default().map(|colour| colour / 3));
            } else {
                pixels += 1;
                first = first.or(Some((x, y)));
                bytes.extend([0xff, 0, 0]);
            }
        }
        let sizes = (self.size() != wanted.size()).then(|| (self.size(), wanted.size()));
        Difference { pixels, first, sizes, picture: Self { width, height, bytes } }
    }

    /// Returns the width and the height, in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Returns red, green and blue of a pixel, `None` if it is outside of the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        let at = (y as usize * self.width as usize + x as usize) * 3;
        (x < self.width && y < self.height).then(|| [self.bytes[at], self.bytes[at + 1], self.bytes[at + 2]])
    }

    /// Returns the pixels of a line. There are none outside of the picture.
    pub(crate) fn line(&self, y: usize) -> &[[u8; 3]] {
        let width = self.width as usize;
        self.bytes.as_chunks().0.get(y * width..(y + 1) * width).unwrap_or_default()
    }

    /// Writes the picture to a PNG file. An existing file is replaced.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or is no regular file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        PictureFile::open(path)?.save(self)
    }

    /// Returns the picture as a PNG file.
    ///
    /// # Errors
    /// Returns an error if it cannot be encoded.
    pub(crate) fn to_png(&self) -> io::Result<Vec<u8>> {
        let mut file = Vec::new();
        self.encode(&mut file)?;
        Ok(file)
    }

    fn encode(&self, to: impl Write) -> io::Result<()> {
        let mut encoder = png::Encoder::new(to, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.bytes)?;
        Ok(writer.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemory {
        GuestMemory::from_ranges(&[(GuestAddress(0x1000), 0x1000)]).unwrap()
    }

    #[test]
    fn pixels_are_read_line_by_line() {
        let memory = memory();
        memory.write_slice(&[1, 2, 3, 0, 4, 5, 6, 0, 9, 9, 9, 9, 7, 8, 9, 0], GuestAddress(0x1000)).unwrap();
        let picture = Picture::read(&memory, 0x1000, 1, 2, 12);
        assert_eq!(
            (picture.size(), picture.pixel(0, 0), picture.pixel(0, 1)),
            ((1, 2), Some([3, 2, 1]), Some([9, 8, 7]))
        );
        assert_eq!([picture.pixel(1, 0), picture.pixel(0, 2)], [None; 2]);
    }

    #[test]
    fn what_is_not_memory_is_black() {
        let memory = memory();
        memory.write_slice(&[0xff; 0x1000], GuestAddress(0x1000)).unwrap();
        for first in [0, 0x1ff0, 0x2000, u64::MAX - 8, u64::MAX] {
            let picture = Picture::read(&memory, first, 8, 4, 32);
            assert_eq!(picture.pixel(7, 3), Some([0; 3]), "{first:#x}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let picture = Picture { width: 1, height: 1, bytes: vec![0; 3] };
        for path in [&pipe, Path::new("/dev/null")] {
            let error = picture.save(path).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{}: {error}", path.display());
        }
        picture.save(&folder.path().join("file")).unwrap();
    }

    #[test]
    fn an_open_file_keeps_its_content_until_a_picture_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        std::fs::write(&path, [7; 10_000]).unwrap();
        let file = PictureFile::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [7; 10_000]);
        for red in [1, 2] {
            let picture = Picture::of(2, 2, |_, _| [red, 0, 0]);
            file.save(&picture).unwrap();
            assert_eq!(Picture::open(&path).unwrap(), picture);
            assert!(std::fs::metadata(&path).unwrap().len() < 1000);
        }
    }

    #[test]
    fn a_saved_picture_is_the_same_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let picture = Picture::of(5, 4, |x, y| [x as u8 * 50, y as u8 * 60, 7]);
        picture.save(&path).unwrap();
        assert_eq!(Picture::open(&path).unwrap(), picture);
        // Other kinds of PNG: with a palette of two colours, four of whose pixels share a byte.
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 4, 1);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Two);
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6, 0, 0, 0, 9, 9, 9]);
        encoder.write_header().unwrap().write_image_data(&[0b0001_0011]).unwrap();
        let opened = Picture::open(&path).unwrap();
        assert_eq!([0, 1, 2, 3].map(|x| opened.pixel(x, 0).unwrap()[0]), [1, 4, 1, 9]);
        std::fs::write(&path, b"GIF89a").unwrap();
        assert!(Picture::open(&path).is_err());
        assert!(Picture::open(Path::new("/dev/null")).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn pictures_resemble_each_other_within_a_tolerance() {
        let one = Picture::of(4, 4, |x, y| [x as u8, y as u8, 100]);
        let other = Picture::of(4, 4, |x, y| [x as u8, y as u8, if (x, y) == (2, 1) { 103 } else { 100 }]);
        assert!(one.resembles(&other, 3) && !one.resembles(&other, 2));
        let difference = one.difference(&other, 2);
        assert_eq!(difference.to_string(), "1 pixels differ, the first at 2, 1");
        assert_eq!(
            [(2, 1), (1, 1)].map(|(x, y)| difference.picture.pixel(x, y)),
            [Some([255, 0, 0]), Some([0, 0, 33])]
        );
        let wide = Picture::of(5, 3, |x, y| [x as u8, y as u8, 100]);
        assert!(!one.resembles(&wide, 255));
        let difference = one.difference(&wide, 0);
        assert_eq!(difference.to_string(), "the screen is 4x4, the wanted picture 5x3");
        assert_eq!((difference.picture.size(), difference.pixels), ((5, 4), 4 + 4));
    }

    #[test]
    fn a_png_file_has_the_pixels() {
        let picture = Picture { width: 3, height: 2, bytes: (0..18).collect() };
        let file = picture.to_png().unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(file)).read_info().unwrap();
        let mut bytes = vec![0; 18];
        reader.next_frame(&mut bytes).unwrap();
        assert_eq!((reader.info().width, reader.info().height, bytes), (3, 2, picture.bytes));
    }
}
