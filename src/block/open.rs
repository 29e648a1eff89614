//! From the options of an image to the disk: everything that can be wrong with it is found here, before a guest starts.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use rustix::fs::{Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;

use super::error::DiskError;
use super::file::FileDisk;
use super::lock::lock;
use super::options::{Cache, Format, ImageOptions};
use super::{Aligned, Disk, qcow2};
use crate::host::magic::{self, Compression};
use crate::wire::size::Size;

/// Linux's files and block devices end below this, and so do all sums of offsets and lengths.
const MAX_SIZE: u64 = 1 << 62;

/// Opens the disk that `options` describe, which have a path.
///
/// # Errors
/// See [`DiskError`].
///
/// From the first call on, a write beyond the process' limit of file sizes is an error here, and no longer the end of
/// the process by SIGXFSZ.
pub fn open(options: &ImageOptions) -> Result<Box<dyn Disk>, DiskError> {
    outlive_file_size_limit();
    let sector = options.sector;
    if let Some(size) = options.path.to_str().and_then(|path| path.strip_prefix("memory:")) {
        let whole = |bytes: &u64| (1..=MAX_SIZE).contains(bytes) && bytes.is_multiple_of(sector.into());
        let wrong = |reason| DiskError::MemorySize { size: size.to_owned(), reason };
        let bytes = size.parse().map_err(wrong)?;
        let Size(bytes) = bytes;
        if !whole(&bytes) {
            return Err(wrong(format!("a disk is a multiple of its sectors of {sector} bytes, and not empty")));
        }
        let disk = FileDisk::memory(bytes, options.discard);
        return Ok(Box::new(disk.map_err(|source| DiskError::Host { path: options.path.clone(), source })?));
    }
    let opened = Opened::new(&options.path, !options.readonly, options.cache)?;
    let is_qcow2 = qcow2::has_magic(&opened)?;
    match options.format {
        Format::Qcow2 if !is_qcow2 => return Err(DiskError::NotQcow2 { path: options.path.clone() }),
        Format::Qcow2 | Format::Auto if is_qcow2 => {
            let disk = qcow2::open(opened, options.discard, options.backing)?;
            let size = disk.size().map_err(|source| DiskError::Host { path: options.path.clone(), source })?;
            check_size(&options.path, size, sector)?;
            return Ok(Box::new(disk));
        }
        Format::Auto => opened.refuse_foreign()?,
        _ => {}
    }
    let Opened { path, file, write, size, .. } = opened;
    check_size(&path, size, sector)?;
    let alignment = match options.cache {
        Cache::Writeback => 1,
        Cache::None => direct_alignment(&path, &file)?,
    };
    if alignment > sector as usize {
        return Err(DiskError::SectorTooSmall { path, alignment });
    }
    let disk = FileDisk::new(file, alignment, !write, options.discard);
    // A guest must not make its raw disk look like an image that names other files of the host.
    Ok(Box::new(if options.format == Format::Auto { disk.guarded() } else { disk }))
}

/// Has writes beyond the limit of file sizes (`ulimit -f`) fail instead of ending the process.
fn outlive_file_size_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A handler, unlike a signal that is ignored, is not inherited by programs that are started.
        if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()) {
            log::warn!("a limit of file sizes will end the process: {error}");
        }
    });
}

/// A file that is there, open, locked, and of the right kind.
pub(super) struct Opened {
    pub path: PathBuf,
    pub file: File,
    pub write: bool,
    /// Its size in bytes, block device or not.
    pub size: u64,
    /// Device and inode: what tells files apart whatever they are called.
    pub identity: (u64, u64),
}

impl Opened {
    pub fn new(path: &Path, write: bool, cache: Cache) -> Result<Self, DiskError> {
        let host = |source| DiskError::Host { path: path.to_owned(), source };
        let not_a_disk = |what| DiskError::NotADisk { path: path.to_owned(), what };
        // Looked at before it is opened: to open a FIFO or a terminal has effects.
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
        // NONBLOCK only matters if it has become a FIFO since.
        let flags = access | direct | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::INVAL) if cache == Cache::None => {
                return Err(DiskError::NoDirect { path: path.to_owned(), source: Errno::INVAL.into() });
            }
            Err(error) => return Err(refused(path, write, error.into())),
        };
        // io_uring gives up on files that are open so, where it would otherwise have a thread wait.
        rustix::fs::fcntl_setfl(&file, direct).map_err(|error| host(error.into()))?;
        let metadata = file.metadata().map_err(host)?;
        if !metadata.is_file() && !metadata.file_type().is_block_device() {
            return Err(not_a_disk("no longer what it was"));
        }
        lock(&file, path, write)?;
        let size = seek(&file, SeekFrom::End(0)).map_err(|error| host(error.into()))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), file, write, size, identity })
    }

    /// Reads what is there of `bytes.len()` bytes from `offset`, by whatever alignment the file wants.
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

    /// Refuses what is an image, but not one whose bytes are a disk's: a guest would find no disk in it, and spoil it.
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
            let advice = if write { "; if it is not to be written, give readonly=on" } else { "" };
            DiskError::Denied { path, wanted, advice, source: error }
        }
        _ => DiskError::Host { path, source: error },
    }
}

fn check_size(path: &Path, size: u64, sector: u32) -> Result<(), DiskError> {
    let path = || path.to_owned();
    if size == 0 {
        return Err(DiskError::Empty { path: path() });
    }
    if !size.is_multiple_of(sector.into()) {
        return Err(DiskError::Unaligned { path: path(), size, sector });
    }
    if size > MAX_SIZE {
        return Err(DiskError::TooLarge { path: path(), size, most: MAX_SIZE });
    }
    Ok(())
}

/// What the host wants offsets, lengths and addresses to be multiples of: found by trying.
fn direct_alignment(path: &Path, file: &File) -> Result<usize, DiskError> {
    let mut bytes = Aligned::new(8192);
    let mut last = io::Error::from(ErrorKind::Unsupported);
    for alignment in [512, 4096] {
        // At an address that is a multiple of it, and of nothing larger.
        match file.read_at(&mut bytes.bytes()[alignment..2 * alignment], 0) {
            Ok(_) => return Ok(alignment),
            Err(error) => last = error,
        }
    }
    Err(DiskError::NoDirect { path: path.to_owned(), source: last })
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
