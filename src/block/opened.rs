//! An image file before its format is known: open, locked, and of a kind that can be a disk.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;

use super::Aligned;
use super::error::DiskError;
use super::lock::lock;
use super::options::Cache;
use crate::host::magic::{self, Compression};
use crate::host::paths;

/// Maximum size of a disk, and of the file of an image: 4 EiB. No sum of an offset and a length overflows, also not in Linux, whose
/// offsets have a sign.
pub(super) const MAX_SIZE: u64 = 1 << 62;

/// An open and locked file or block device.
pub(super) struct Opened {
    pub path: PathBuf,
    pub file: File,
    pub write: bool,
    /// Size in bytes, also for a block device.
    pub size: u64,
    /// Device and inode, which identify a file whatever its name.
    pub identity: (u64, u64),
}

impl Opened {
    pub fn new(path: &Path, write: bool, cache: Cache) -> Result<Self, DiskError> {
        let host = |source| DiskError::Host { path: path.to_owned(), source };
        let not_a_disk = |what| DiskError::NotADisk { path: path.to_owned(), what };
        // Checked before it is opened, because opening a FIFO or a terminal has side effects.
        let kind = std::fs::metadata(path).map_err(|error| refused(path, write, error))?.file_type();
        match () {
            () if kind.is_file() || kind.is_block_device() => {}
            () if kind.is_dir() => return Err(not_a_disk("a directory")),
            () if kind.is_fifo() => return Err(not_a_disk("a FIFO")),
            () if kind.is_socket() => return Err(not_a_disk("a socket")),
            () => return Err(not_a_disk("a character device")),
        }
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let direct = if cache == Cache::None { OFlags::DIRECT } else { OFlags::empty() };
        // NONBLOCK, because the file may have been replaced by a FIFO since the check.
        let flags = access | direct | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::INVAL) if cache == Cache::None => {
                return Err(DiskError::NoDirect { path: path.to_owned(), source: Errno::INVAL.into() });
            }
            Err(error) => return Err(refused(path, write, error.into())),
        };
        // With NONBLOCK, io_uring would fail requests instead of passing them to a waiting thread.
        rustix::fs::fcntl_setfl(&file, direct).map_err(|error| host(error.into()))?;
        let metadata = file.metadata().map_err(host)?;
        if !metadata.is_file() && !metadata.file_type().is_block_device() {
            return Err(not_a_disk("no longer a file"));
        }
        lock(&file, path, write)?;
        let size = seek(&file, SeekFrom::End(0)).map_err(|error| host(error.into()))?;
        if size > MAX_SIZE {
            return Err(DiskError::TooLarge { path: path.to_owned(), size, most: MAX_SIZE });
        }
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), file, write, size, identity })
    }

    /// Reads up to `bytes.len()` bytes from `offset`, and returns their number, which is lower at the end of the file. The
    /// read is aligned as direct I/O requires.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        const ALIGNMENT: u64 = 4096;
        let start = offset - offset % ALIGNMENT;
        let skip = (offset - start) as usize;
        let mut aligned = Aligned::new((skip + bytes.len()).next_multiple_of(ALIGNMENT as usize));
        let mut filled = 0;
        while filled < aligned.bytes().len() {
            match self.file.read_at(&mut aligned.bytes()[filled..], start + filled as u64)? {
                0 => break,
                count => filled += count,
            }
            if filled % ALIGNMENT as usize != 0 {
                break; // the end of the file
            }
        }
        let found = filled.saturating_sub(skip).min(bytes.len());
        bytes[..found].copy_from_slice(&aligned.bytes()[skip..skip + found]);
        Ok(found)
    }

    /// Returns an error for a compressed file or an image of an unsupported format. Used as a raw disk, it would be damaged by
    /// the guest's writes.
    pub fn refuse_foreign(&self) -> Result<(), DiskError> {
        let path = || self.path.clone();
        let read = |offset| {
            let mut bytes = [0; 512];
            let found = self.read(offset, &mut bytes);
            found.map(|found| bytes[..found].to_vec()).map_err(|source| DiskError::Host { path: path(), source })
        };
        let head = read(0)?;
        if let Some(compression) = Compression::of(&head) {
            let advice = compression.advice(&self.path, "disk.img");
            return Err(DiskError::Compressed { path: path(), how: compression.name, advice });
        }
        match magic::disk_format(&head).or(magic::disk_format_by_tail(&read(self.size.saturating_sub(512))?)) {
            Some(format) => Err(DiskError::Foreign { path: path(), format }),
            None => Ok(()),
        }
    }
}

fn refused(path: &Path, write: bool, error: io::Error) -> DiskError {
    let path = path.to_owned();
    let wanted = if write { "read and written" } else { "read" };
    match error.kind() {
        ErrorKind::NotFound => DiskError::Missing { path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let advice = if write { "; give readonly=on if the guest does not have to write to it" } else { "" };
            DiskError::Denied { path, wanted, advice, source: error }
        }
        _ => match paths::remedy(&error) {
            Some(advice) => DiskError::Path { path, source: error, advice },
            None => DiskError::Host { path, source: error },
        },
    }
}
