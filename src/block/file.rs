//! Raw images: files and block devices, and memory that is a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::fs::{Advice, FallocateFlags, MemfdFlags, SeekFrom, fadvise, fallocate, memfd_create, seek};
use rustix::io::Errno;

use super::{Aligned, CHUNK, DirectFile, Disk};
use crate::block::vectored::Vectors;
use crate::host::magic;
use crate::memory::buffer::GuestBuffer;

/// A file whose bytes are the disk's.
#[derive(Debug)]
pub struct FileDisk {
    direct: DirectFile,
    read_only: bool,
    discard: bool,
    /// Nothing may be written that makes the file look like a qcow2 image.
    guarded: bool,
    /// The user was told of a write that `guarded` refused: once is enough, and a guest can try often.
    told: AtomicBool,
    /// The ways to make zeros that the host is known not to have: a set of `Zeroing` bits.
    missing: AtomicU8,
}

/// The ways to make zeros, best first.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Zeroing {
    PunchHole = 1,
    ZeroRange = 2,
}

impl FileDisk {
    /// The disk in an open file. With an `alignment` above 1 the file is open for direct I/O.
    pub fn new(file: File, alignment: usize, read_only: bool, discard: bool) -> Self {
        let discard = discard && !read_only && can_discard(&file);
        let direct = DirectFile { file: Arc::new(file), alignment, guarded: false };
        Self { direct, read_only, discard, guarded: false, told: AtomicBool::new(false), missing: AtomicU8::new(0) }
    }

    /// The same, but writes that would make the file look like a qcow2 image fail.
    ///
    /// Where the format was found by looking, a guest could otherwise write a header into its raw disk that names other
    /// files of the host, and read those after the next start. (QEMU does the same.)
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self.direct.guarded = !self.read_only;
        self
    }

    /// Refuses what [`guarded`](Self::guarded) is about.
    fn check(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.guarded && offset == 0 && bytes.starts_with(&magic::QCOW2) {
            if !self.told.swap(true, Ordering::Relaxed) {
                log::warn!("the guest wants to write a qcow2 header to its raw disk: give format=raw to let it");
            }
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    /// Scratch memory, gone with the disk. It takes space only where it is written.
    ///
    /// # Errors
    /// What the host says.
    pub fn memory(size: u64, read_only: bool, discard: bool) -> io::Result<Self> {
        let file = File::from(memfd_create("scratch-disk", MemfdFlags::CLOEXEC)?);
        file.set_len(size)?;
        Ok(Self::new(file, 1, read_only, discard))
    }

    fn bounces(&self, bytes: &[u8]) -> bool {
        !bytes.as_ptr().addr().is_multiple_of(self.direct.alignment)
    }

    /// Tries one way to make zeros. False if the host does not have it.
    fn try_zero(&self, how: Zeroing, offset: u64, length: u64) -> io::Result<bool> {
        if self.missing.load(Ordering::Relaxed) & how as u8 != 0 {
            return Ok(false);
        }
        let mode = match how {
            Zeroing::PunchHole => FallocateFlags::PUNCH_HOLE,
            Zeroing::ZeroRange => FallocateFlags::ZERO_RANGE,
        };
        match fallocate(&self.direct.file, mode | FallocateFlags::KEEP_SIZE, offset, length) {
            Ok(()) => Ok(true),
            // A block device that lied about itself says REMOTEIO.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::REMOTEIO) => {
                self.missing.fetch_or(how as u8, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the host can give back parts of the file: only then may the guest be told that it can.
fn can_discard(file: &File) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    if metadata.file_type().is_block_device() {
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        // A partition has its limits in the folder of its disk.
        let limit = ["queue", "../queue"].into_iter().find_map(|queue| {
            std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{queue}/discard_max_bytes")).ok()
        });
        // Who does not tell is tried.
        return limit.is_none_or(|limit| limit.trim() != "0");
    }
    // Behind the end of the file there is nothing to lose.
    let end = metadata.len().next_multiple_of(4096);
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, end, 4096).is_ok()
}

impl Disk for FileDisk {
    fn size(&self) -> io::Result<u64> {
        // Unlike fstat, this tells a block device's size too. Nobody uses the position that it moves.
        Ok(seek(&self.direct.file, SeekFrom::End(0))?)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn can_discard(&self) -> bool {
        self.discard
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if self.bounces(bytes) {
            let mut aligned = Aligned::new(bytes.len());
            self.direct.file.read_exact_at(aligned.bytes(), offset)?;
            bytes.copy_from_slice(aligned.bytes());
            return Ok(());
        }
        self.direct.file.read_exact_at(bytes, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes)?;
        if self.bounces(bytes) {
            let mut aligned = Aligned::new(bytes.len());
            aligned.bytes().copy_from_slice(bytes);
            return self.direct.file.write_all_at(aligned.bytes(), offset);
        }
        self.direct.file.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.direct.file.sync_data()
    }

    fn zero(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        if deallocate && self.discard && self.try_zero(Zeroing::PunchHole, offset, length)? {
            return Ok(());
        }
        if self.try_zero(Zeroing::ZeroRange, offset, length)? {
            return Ok(());
        }
        let mut zeros = Aligned::new(length.min(CHUNK as u64) as usize);
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let now = (end - at).min(CHUNK as u64);
            self.write(at, &zeros.bytes()[..now as usize])?;
            at += now;
        }
        Ok(())
    }

    fn allocation(&self, offset: u64, length: u64) -> io::Result<(u64, bool)> {
        let until = |found: u64| (found.saturating_sub(offset)).min(length);
        match seek(&self.direct.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok((until(data), false)),
            Ok(_) => match seek(&self.direct.file, SeekFrom::Hole(offset)) {
                Ok(hole) if hole > offset => Ok((until(hole), true)),
                _ => Ok((length, true)),
            },
            // No data from here on.
            Err(Errno::NXIO) => Ok((length, false)),
            // Block devices do not tell.
            Err(_) => Ok((length, true)),
        }
    }

    fn prefetch(&self, offset: u64, length: u64) {
        let length = std::num::NonZeroU64::new(length);
        // Only a hint: whether it is taken changes nothing.
        let _ = fadvise(&self.direct.file, offset, length, Advice::WillNeed);
    }

    fn file(&self) -> Option<&DirectFile> {
        Some(&self.direct)
    }

    fn read_pages(&self, offset: u64, pages: &GuestBuffer) -> io::Result<()> {
        let mut vectors = Vectors::new(pages, pages.len()).map_err(io::Error::other)?;
        if self.direct.takes(offset, &vectors) {
            return vectors.read_all(&self.direct.file, offset);
        }
        let mut bytes = Aligned::new(pages.len());
        self.read(offset, bytes.bytes())?;
        pages.write(0, bytes.bytes()).map_err(io::Error::other)
    }

    fn write_pages(&self, offset: u64, pages: &GuestBuffer) -> io::Result<()> {
        let mut vectors = Vectors::new(pages, pages.len()).map_err(io::Error::other)?;
        if self.direct.takes_write(offset, &vectors) {
            return vectors.write_all(&self.direct.file, offset);
        }
        let mut bytes = Aligned::new(pages.len());
        pages.read(0, bytes.bytes()).map_err(io::Error::other)?;
        self.write(offset, bytes.bytes())
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
