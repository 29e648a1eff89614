//! Raw images: regular files, block devices and memory files.

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

/// A disk whose bytes are the bytes of a file.
#[derive(Debug)]
pub struct FileDisk {
    direct: DirectFile,
    read_only: bool,
    discard: bool,
    /// `true` if writes that would make the file look like a qcow2 image are refused.
    guarded: bool,
    /// `true` if the file is in memory and has no place on a disk.
    in_memory: bool,
    /// `true` once a write refused by `guarded` has been logged. Further ones are not logged, because a guest can try often.
    told: AtomicBool,
    /// The methods that the host is known not to support: a set of `Zeroing` bits.
    missing: AtomicU8,
}

/// The methods to zero a range without writing zeros, best first.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Zeroing {
    PunchHole = 1,
    ZeroRange = 2,
}

impl FileDisk {
    /// Creates the disk in an open file. If `alignment` is above 1, the file must be open for direct I/O.
    pub fn new(file: File, alignment: usize, read_only: bool, discard: bool) -> Self {
        let discard = discard && !read_only && can_discard(&file);
        let direct = DirectFile { file: Arc::new(file), alignment, guarded: false };
        let (told, missing) = (AtomicBool::new(false), AtomicU8::new(0));
        Self { direct, read_only, discard, guarded: false, in_memory: false, told, missing }
    }

    /// Refuses writes that would make the file look like a qcow2 image.
    ///
    /// This is for disks whose format was detected. Otherwise a guest could write a header to its raw disk that names other files
    /// of the host, and read these after the next start. QEMU refuses such writes, too.
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self.direct.guarded = !self.read_only;
        self
    }

    /// Returns an error if [`guarded`](Self::guarded) forbids the write.
    fn check(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.guarded && offset == 0 && bytes.starts_with(&magic::QCOW2) {
            if !self.told.swap(true, Ordering::Relaxed) {
                log::warn!("refused a guest's write of a qcow2 header to its raw disk; give format=raw to allow it");
            }
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    /// Creates a disk in memory, which is lost when the disk is dropped. Only written parts take memory.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn memory(size: u64, read_only: bool, discard: bool) -> io::Result<Self> {
        let file = File::from(memfd_create("scratch-disk", MemfdFlags::CLOEXEC)?);
        file.set_len(size)?;
        Ok(Self { in_memory: true, ..Self::new(file, 1, read_only, discard) })
    }

    fn bounces(&self, bytes: &[u8]) -> bool {
        !bytes.as_ptr().addr().is_multiple_of(self.direct.alignment)
    }

    /// Tries to zero a range by one method. Returns `false` if the host does not support it.
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
            // Block devices that wrongly announce support return REMOTEIO.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::REMOTEIO) => {
                self.missing.fetch_or(how as u8, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the number of bytes that the host has allocated for a file, or `None` for what is no file.
pub(super) fn allocated(file: &File) -> Option<u64> {
    /// The unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(metadata.blocks().saturating_mul(BLOCK))
}

/// Returns `true` if the host can release parts of the file.
fn can_discard(file: &File) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    if metadata.file_type().is_block_device() {
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        // For a partition, the limit is in the folder of its disk.
        let limit = ["queue", "../queue"].into_iter().find_map(|queue| {
            std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{queue}/discard_max_bytes")).ok()
        });
        // A device without a known limit may support it.
        return limit.is_none_or(|limit| limit.trim() != "0");
    }
    // Tries it beyond the end of the file, where there is no data.
    let end = metadata.len().next_multiple_of(4096);
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, end, 4096).is_ok()
}

impl Disk for FileDisk {
    fn size(&self) -> io::Result<u64> {
        // Unlike fstat, this also returns the size of a block device. The file position is not used otherwise.
        Ok(seek(&self.direct.file, SeekFrom::End(0))?)
    }

    fn allocated(&self) -> Option<u64> {
        if self.in_memory { None } else { allocated(&self.direct.file) }
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        if !self.direct.file.metadata()?.is_file() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.direct.file.set_len(size)
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
            // Block devices do not support SEEK_DATA.
            Err(_) => Ok((length, true)),
        }
    }

    fn prefetch(&self, offset: u64, length: u64) {
        let length = std::num::NonZeroU64::new(length);
        // An error does not matter for a hint.
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
