//! Opens the disk that an image's options describe. Finds all problems of the image before a guest starts.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::DiskError;
use super::file::FileDisk;
use super::opened::{MAX_SIZE, Opened};
use super::options::{BackingFiles, Cache, Format, ImageOptions};
use super::{Aligned, Disk, qcow2};
use crate::host::records::survive_file_size_limit;
use crate::wire::size::Size;

type OpenResult = Result<Box<dyn Disk>, DiskError>;

/// An image format beside raw.
struct Probe {
    format: Format,
    /// The value of `format=` that names it.
    name: &'static str,
    /// Returns `true` if a file is in this format.
    matches: fn(&Opened) -> Result<bool, DiskError>,
    open: fn(Opened, &ImageOptions) -> OpenResult,
}

/// The image formats beside raw, in the order in which they are tried.
const PROBES: &[Probe] =
    &[Probe { format: Format::Qcow2, name: "qcow2", matches: qcow2::has_magic, open: qcow2::open_disk }];

impl Probe {
    /// Returns the format of an image, or `None` if it is raw.
    ///
    /// # Errors
    /// Returns an error if the image is not in the format that `wanted` names, or cannot be read.
    fn find(opened: &Opened, wanted: Format) -> Result<Option<&'static Self>, DiskError> {
        for probe in PROBES {
            match wanted {
                Format::Auto if (probe.matches)(opened)? => return Ok(Some(probe)),
                _ if wanted != probe.format => {}
                _ if (probe.matches)(opened)? => return Ok(Some(probe)),
                _ => return Err(DiskError::NotInFormat { path: opened.path.clone(), format: probe.name }),
            }
        }
        Ok(None)
    }
}

/// Opens the disk that `options` describe. They must have a path.
///
/// From the first call on, a write beyond the process's limit on file sizes returns an error and no longer ends the process
/// by SIGXFSZ.
///
/// # Errors
/// See [`DiskError`].
pub fn open(options: &ImageOptions) -> Result<Box<dyn Disk>, DiskError> {
    survive_file_size_limit();
    let sector = options.sector;
    if let Some(size) = options.path.to_str().and_then(|path| path.strip_prefix("memory:")) {
        let wrong = |reason| DiskError::MemorySize { size: size.to_owned(), reason };
        let bytes = size.parse().map_err(wrong)?;
        let Size(bytes) = bytes;
        if bytes == 0 || !bytes.is_multiple_of(sector.into()) {
            return Err(wrong(format!("the size must be a multiple of the sector size {sector}, and not 0")));
        }
        if bytes > MAX_SIZE {
            return Err(wrong(format!("a disk has at most {}", Size(MAX_SIZE))));
        }
        let disk = FileDisk::memory(bytes, options.readonly, options.discard);
        return Ok(Box::new(disk.map_err(|source| DiskError::Host { path: options.path.clone(), source })?));
    }
    let opened = Opened::new(&options.path, !options.readonly, options.cache)?;
    if let Some(format) = Probe::find(&opened, options.format)? {
        let disk = (format.open)(opened, options)?;
        let size = disk.size().map_err(|source| DiskError::Host { path: options.path.clone(), source })?;
        check_size(&options.path, size, sector)?;
        return Ok(disk);
    }
    if options.format == Format::Auto {
        opened.refuse_foreign()?;
    }
    if options.backing == BackingFiles::Any {
        return Err(DiskError::NoBacking { path: opened.path });
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
    // With a detected format, a guest must not make its raw disk look like an image that names other files of the host.
    Ok(Box::new(if options.format == Format::Auto { disk.guarded() } else { disk }))
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

/// Returns the alignment that direct I/O on the file requires, which is found by trying.
fn direct_alignment(path: &Path, file: &File) -> Result<usize, DiskError> {
    let mut bytes = Aligned::new(8192);
    let mut last = io::Error::from(ErrorKind::Unsupported);
    for alignment in [512, 4096] {
        // The address is a multiple of `alignment`, but not of twice that.
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
