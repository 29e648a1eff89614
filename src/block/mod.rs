//! Disk images: files and block devices of the host, image formats, and the threads and rings that do their I/O.
//!
//! A [`Disk`] reads and writes ranges of bytes, blocking. If the bytes of a file are the bytes of the disk, [`Disk::file`]
//! returns that file, and the kernel transfers data directly between it and guest pages.
//!
//! A device makes a [`Request`] and submits it to its [`Queue`], with an [`Image`] and the guest memory to read or write. The
//! queue returns the request with its result. Nothing in this module depends on SCSI or another guest protocol.
//!
//! - [`open`](mod@open), `options`, `opened`, `lock`, `error`: open the image that the options describe.
//! - `file`, `qcow2`: the image formats.
//! - [`request`]: requests and their results.
//! - [`queue`]: one user's requests in flight. [`image`]: a disk in use. [`counters`]: its counters.
//! - `ring`: io_uring, for reads, writes and flushes of disks with a [`DirectFile`].
//! - `perform`: performs all other requests, on the few threads that each disk has (`pool`), or on shared [`threads`] if a
//!   request costs the host far more than the guest. `budget`: limits the threads of a controller's disks.
//! - [`cancel`]: stops long requests. `hold`: holds requests while a machine is paused. `gate`: makes requests atomic.
//!   `vectored`: guest pages as `iovec`s.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::block::request::Extent;
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

/// Number of bytes that are copied at a time when data cannot be transferred directly.
pub(super) const CHUNK: usize = 256 << 10;

/// A disk. All methods block, and may be called from any number of threads at once.
pub trait Disk: Send + Sync {
    /// Returns the current size in bytes. A disk can grow while it is in use.
    ///
    /// # Errors
    /// Returns the host's error.
    fn size(&self) -> io::Result<u64>;

    /// Enlarges the disk. The new part reads as zeros.
    ///
    /// # Errors
    /// Returns the host's error, or `Unsupported` if only other programs can do that.
    fn grow(&self, _size: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns the number of bytes that the host has allocated for the image file, without those of backing files. `None` if there is
    /// no such file, or if the host does not say.
    fn allocated(&self) -> Option<u64> {
        None
    }

    /// Returns `true` if the disk cannot be written.
    fn read_only(&self) -> bool;

    /// Returns `true` if the disk can release space on the host.
    fn can_discard(&self) -> bool;

    /// Returns the format of the image.
    fn format(&self) -> Format {
        Format::Raw
    }

    /// Reads from `offset` until `bytes` is full.
    ///
    /// # Errors
    /// Returns the host's error, or `UnexpectedEof` if the disk ends first.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// Returns the host's error.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all earlier writes durable.
    ///
    /// # Errors
    /// Returns the host's error. Writes since the last flush may then be lost.
    fn flush(&self) -> io::Result<()>;

    /// Makes the range read as zeros. With `deallocate`, releases its space on the host if possible.
    ///
    /// # Errors
    /// Returns the host's error.
    fn zero(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()>;

    /// Returns the length of the range from `offset`, up to `length` bytes, that is entirely allocated or entirely
    /// unallocated, and `true` if it is allocated.
    ///
    /// # Errors
    /// Returns the host's error.
    fn allocation(&self, _offset: u64, length: u64) -> io::Result<(u64, bool)> {
        Ok((length, true))
    }

    /// Returns the number of bytes that the host has to process to read the range, beside those of the range itself.
    fn amplified(&self, _range: Extent) -> u64 {
        0
    }

    /// Hints that the range will be read soon.
    fn prefetch(&self, _offset: u64, _length: u64) {}

    /// Returns the file whose bytes are the bytes of the disk, if there is one.
    fn file(&self) -> Option<&DirectFile> {
        None
    }

    /// Reads from `offset` until the guest pages are full.
    ///
    /// # Errors
    /// Returns the same errors as [`read`](Self::read).
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
    /// Returns the same errors as [`write`](Self::write).
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

/// A file whose bytes are the bytes of the disk.
#[derive(Clone, Debug)]
pub struct DirectFile {
    /// The file.
    pub file: Arc<File>,
    /// Required alignment of offsets, lengths and addresses. 1 unless the host's page cache is bypassed.
    pub alignment: usize,
    /// `true` if writes to the start must be copied and checked first.
    guarded: bool,
}

impl DirectFile {
    /// Returns `true` if guest pages can be written directly at `offset`.
    pub fn takes_write(&self, offset: u64, vectors: &Vectors) -> bool {
        !(self.guarded && offset == 0) && self.takes(offset, vectors)
    }

    /// Returns `true` if guest pages can be read directly from `offset`.
    pub fn takes(&self, offset: u64, vectors: &Vectors) -> bool {
        self.alignment == 1 || offset.is_multiple_of(self.alignment as u64) && vectors.is_aligned(self.alignment)
    }
}

/// A buffer that is aligned to 4096 bytes, the largest block size, as O_DIRECT requires.
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
