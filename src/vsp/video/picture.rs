//! Pictures, and their files.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemory;

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

    /// Returns the width and the height, in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Returns red, green and blue of a pixel, `None` if it is outside of the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        let at = (y as usize * self.width as usize + x as usize) * 3;
        (x < self.width && y < self.height).then(|| [self.bytes[at], self.bytes[at + 1], self.bytes[at + 2]])
    }

    /// Writes the picture to a PNG file. An existing file is replaced.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or is no regular file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        // The machine must not wait for the reader of a FIFO, or for a device.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
        let is_special = |error: &io::Error| error.raw_os_error() == Some(libc::ENXIO);
        let special = || io::Error::other("it is no regular file; name another one");
        let file = file.map_err(|error| if is_special(&error) { special() } else { error })?;
        if !file.metadata()?.is_file() {
            return Err(special());
        }
        let mut file = BufWriter::new(file);
        self.encode(&mut file)?;
        file.flush()
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
    fn a_png_file_has_the_pixels() {
        let picture = Picture { width: 3, height: 2, bytes: (0..18).collect() };
        let mut file = Vec::new();
        picture.encode(&mut file).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(file)).read_info().unwrap();
        let mut bytes = vec![0; 18];
        reader.next_frame(&mut bytes).unwrap();
        assert_eq!((reader.info().width, reader.info().height, bytes), (3, 2, picture.bytes));
    }
}
