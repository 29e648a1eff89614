//! Disk images: files and block devices of the host, image formats, and the threads and rings that do their I/O.
//!
//! A [`Disk`] reads and writes ranges of bytes, blocking. One that lies one to one in a file also shows that file
//! ([`Disk::file`]), and then data go straight between guest pages and the file, with any number of requests in flight.
//!
//! A device makes a [`Request`] and submits it to its [`Queue`], with the [`Image`] that it is for and the guest memory that
//! it fills or writes. The queue returns it with its result. Nothing here knows SCSI, or any other protocol of a guest.
//!
//! - [`open`](mod@open), `options`, `opened`, `lock`, `error`: from the options of an image to the disk.
//! - `file`, `qcow2`: the formats.
//! - [`request`]: requests, and their results.
//! - [`queue`]: one user's requests in flight. [`image`]: a disk in use. [`counters`]: what it has done.
//! - `ring`: io_uring, for reads, writes and flushes of disks that lie one to one in a file.
//! - `perform`: all other requests, on a thread of `pool`, which has a few for each disk, or of [`threads`], for requests that cost
//!   the host far more than the guest. `budget`: the number of threads that the disks of a controller have together.
//! - [`cancel`]: stops long requests. `hold`: holds them while a machine is paused. `gate`: keeps atomic requests atomic.
//!   `vectored`: guest pages as the kernel wants them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::block::vectored::Vectors;
use crate::memory::buffer::GuestBuffer;

mod budget;
pub mod cancel;
pub mod counters;
mod error;
mod file;
mod gate;
mod hold;
pub mod image;
mod lock;
mod open;
mod opened;
mod options;
mod perform;
mod pool;
mod qcow2;
pub mod queue;
pub mod request;
mod ring;
#[cfg(test)]
pub(crate) mod testing;
pub mod threads;
mod vectored;

pub use error::DiskError;
pub use image::Image;
pub use options::{BackingFiles, Cache, Format, ImageOptions};
pub use queue::Queue;
pub use request::Request;

/// How much is copied at a time where data cannot go straight.
pub(super) const CHUNK: usize = 256 << 10;

/// A medium. All methods block, and may be called from any number of threads at once.
pub trait Disk: Send + Sync {
    /// Size in bytes, as it is now: a disk can grow while it is used.
    ///
    /// # Errors
    /// What the host says.
    fn size(&self) -> io::Result<u64>;

    /// Whether it cannot be written.
    fn read_only(&self) -> bool;

    /// Whether it can give space back.
    fn can_discard(&self) -> bool;

    /// The format of its image.
    fn format(&self) -> Format {
        Format::Raw
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// What the host says; `UnexpectedEof` beyond the end.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// What the host says.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// What the host says. What was written since the last flush may be lost then.
    fn flush(&self) -> io::Result<()>;

    /// Makes the range read as zeros; with `deallocate`, giving its space back if that can be done.
    ///
    /// # Errors
    /// What the host says.
    fn zero(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()>;

    /// How many bytes from `offset` on are alike in taking space or not, up to `length`, and which it is.
    ///
    /// # Errors
    /// What the host says.
    fn allocation(&self, _offset: u64, length: u64) -> io::Result<(u64, bool)> {
        Ok((length, true))
    }

    /// The range will be read soon.
    fn prefetch(&self, _offset: u64, _length: u64) {}

    /// The file that holds the blocks one to one.
    fn file(&self) -> Option<&DirectFile> {
        None
    }

    /// Fills guest pages from `offset`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_pages(&self, offset: u64, pages: &GuestBuffer) -> io::Result<()> {
        let mut chunk = Aligned::new(pages.len().min(CHUNK));
        for at in (0..pages.len()).step_by(CHUNK) {
            let bytes = &mut chunk.bytes()[..CHUNK.min(pages.len() - at)];
            self.read(offset + at as u64, bytes)?;
            pages.write(at, bytes).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Writes guest pages at `offset`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_pages(&self, offset: u64, pages: &GuestBuffer) -> io::Result<()> {
        let mut chunk = Aligned::new(pages.len().min(CHUNK));
        for at in (0..pages.len()).step_by(CHUNK) {
            let bytes = &mut chunk.bytes()[..CHUNK.min(pages.len() - at)];
            pages.read(at, bytes).map_err(io::Error::other)?;
            self.write(offset + at as u64, bytes)?;
        }
        Ok(())
    }
}

/// A file whose bytes are the disk's bytes.
#[derive(Clone, Debug)]
pub struct DirectFile {
    /// The file.
    pub file: Arc<File>,
    /// What offsets, lengths and addresses must be multiples of: 1 unless the host's cache is passed by.
    pub alignment: usize,
    /// What is written to its start must be looked at first, which takes a copy.
    guarded: bool,
}

impl DirectFile {
    /// Whether guest pages can be written straight there.
    pub fn takes_write(&self, offset: u64, vectors: &Vectors) -> bool {
        !(self.guarded && offset == 0) && self.takes(offset, vectors)
    }

    /// Whether guest pages can be read straight from there.
    pub fn takes(&self, offset: u64, vectors: &Vectors) -> bool {
        self.alignment == 1 || offset.is_multiple_of(self.alignment as u64) && vectors.is_aligned(self.alignment)
    }
}

/// Bytes that lie at a multiple of the largest block size there is, as O_DIRECT wants it.
pub(super) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    const ALIGNMENT: usize = 4096;

    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + Self::ALIGNMENT];
        let start = bytes.as_ptr().align_offset(Self::ALIGNMENT).min(Self::ALIGNMENT);
        Self { bytes, start, length }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}
