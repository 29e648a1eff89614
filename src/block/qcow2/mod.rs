//! qcow2 images with backing files, on the crate imago.
//!
//! All images of a backing chain are checked before imago opens them, so that a guest does not start with a chain that is
//! damaged, truncated or cyclic, or that contains files that the user did not intend. imago opens no other files.
//!
//! - `header`: reads and checks the header.
//! - `check`: checks tables and refcounts.
//! - `guard`: turns problems that are found later into errors of the disk, so that they do not end the process.

use std::io;
use std::path::{Path, PathBuf};

use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};

use super::error::DiskError;
use super::file::allocated;
use super::opened::Opened;
use super::options::Format;
use super::request::Extent;
use super::{CHUNK, Disk};
use crate::block::{BackingFiles, Cache, ImageOptions};
use crate::host::lock::RwLock;
use crate::host::magic;

mod check;
mod guard;
mod header;

use guard::{Guard, Guarded};
use header::{Backing, Header};

/// Maximum number of backing files in a chain.
const MAX_CHAIN: usize = 32;
/// Maximum memory for the tables of a chain, in bytes.
const MAX_TABLES: u64 = 1 << 30;
/// Number of L2 tables of an image that imago keeps in memory.
const CACHED_L2_TABLES: u64 = 128;
/// Number of bytes that are zeroed at a time by writing zeros.
const ZEROS: u64 = CHUNK as u64;

type Access = FormatAccess<Guarded>;

/// Returns `true` if the file starts with the magic number of qcow2.
pub(super) fn has_magic(opened: &Opened) -> Result<bool, DiskError> {
    let mut head = [0; magic::QCOW2.len()];
    let read = opened.read(0, &mut head).map_err(|source| DiskError::Host { path: opened.path.clone(), source })?;
    Ok(read == head.len() && head == magic::QCOW2)
}

/// A qcow2 image.
pub(super) struct Qcow2Disk {
    /// Locked for writing while clusters are released, for reading otherwise. `None` once the disk is dropped.
    access: RwLock<Option<Access>>,
    guard: Guard,
    version: u32,
    cluster: u64,
    /// Size of the largest clusters of the chain that may be compressed, or 0: to read any part of one, all of it is inflated.
    inflated: u64,
    /// The image file itself.
    file: std::fs::File,
    write: bool,
    discard: Discard,
}

/// The way in which clusters are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discard {
    /// They are not released.
    No,
    /// They become zero clusters, which exist in version 3.
    ToZero,
    /// They become unallocated. Only without a backing file, whose content would become visible.
    ToNothing,
}

/// Opens the image as a disk.
///
/// # Errors
/// See [`open`].
pub(super) fn open_disk(opened: Opened, options: &ImageOptions) -> Result<Box<dyn Disk>, DiskError> {
    Ok(Box::new(open(opened, options.discard, options.backing)?))
}

/// Opens an image and its backing files.
pub(super) fn open(opened: Opened, discard: bool, backing: BackingFiles) -> Result<Qcow2Disk, DiskError> {
    let write = opened.write;
    let file = opened.file.try_clone().map_err(|source| DiskError::Host { path: opened.path.clone(), source })?;
    let mut chain = Chain { above: Vec::new(), folder: folder_of(&opened.path, backing)?, tables: 0, inflated: 0 };
    let header = Header::read(&opened)?;
    let discard = match header.version {
        _ if !discard || !write => Discard::No,
        2 if header.backing.is_some() => Discard::No,
        2 => Discard::ToNothing,
        _ => Discard::ToZero,
    };
    let (guard, version, cluster) = (Guard::default(), header.version, 1 << header.cluster_bits);
    let access = open_layer(opened, header, &mut chain, &guard)?;
    let inflated = chain.inflated;
    Ok(Qcow2Disk { access: RwLock::new(Some(access)), guard, version, cluster, inflated, file, write, discard })
}

/// The state of opening a chain, from the top image down.
struct Chain {
    /// Device and inode of each image opened so far.
    above: Vec<(u64, u64)>,
    /// The folder that must contain all backing files. `None` if they may be anywhere.
    folder: Option<PathBuf>,
    /// Memory for the tables of the images so far, in bytes.
    tables: u64,
    /// See [`Qcow2Disk::inflated`].
    inflated: u64,
}

fn folder_of(image: &Path, backing: BackingFiles) -> Result<Option<PathBuf>, DiskError> {
    if backing == BackingFiles::Any {
        return Ok(None);
    }
    let folder = image.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder);
    folder.map(Some).map_err(|source| DiskError::Host { path: image.to_owned(), source })
}

fn open_layer(opened: Opened, header: Header, chain: &mut Chain, guard: &Guard) -> Result<Access, DiskError> {
    chain.above.push(opened.identity);
    let cluster = 1_u64 << header.cluster_bits;
    if check::tables(&header, &opened)? {
        chain.inflated = chain.inflated.max(cluster);
    }
    chain.tables += header.l1_entries.min(CACHED_L2_TABLES) * cluster + header.l1_entries * 8;
    if chain.tables > MAX_TABLES {
        return Err(DiskError::BackingChainTooLarge { image: opened.path, most: MAX_TABLES >> 20 });
    }
    let backing = match &header.backing {
        Some(backing) => Some(open_backing(&opened.path, backing, chain, guard)?),
        None => None,
    };
    let damaged = |error: io::Error| DiskError::Damaged { path: opened.path.clone(), reason: error.to_string() };
    let host = |source| DiskError::Host { path: opened.path.clone(), source };
    let (file, seal) = Guarded::qcow2(&opened, cluster).map_err(host)?;
    let file = file.hiding_dirty(header.is_dirty);
    let builder = Qcow2::<Guarded>::builder(file).write(opened.write).backing(backing).data_file(None);
    let image = guard.run(|| builder.open(DenyImplicitOpenGate::default()).map(FormatAccess::new)).map_err(damaged)?;
    seal.close(&opened).map_err(host)?;
    Ok(image)
}

fn open_backing(image: &Path, backing: &Backing, chain: &mut Chain, guard: &Guard) -> Result<Access, DiskError> {
    let path = image.parent().unwrap_or(Path::new("")).join(&backing.path);
    if chain.above.len() > MAX_CHAIN {
        return Err(DiskError::BackingChainTooLong { image: image.to_owned(), most: MAX_CHAIN });
    }
    let path = chain.allow(image, path)?;
    let fails =
        |source| DiskError::Backing { image: image.to_owned(), backing: path.clone(), source: Box::new(source) };
    // Checked before it is opened, because this process has locked the images above it.
    if let Ok(metadata) = std::fs::metadata(&path) {
        use std::os::unix::fs::MetadataExt;
        if chain.above.contains(&(metadata.dev(), metadata.ino())) {
            return Err(DiskError::BackingLoop { image: image.to_owned(), backing: path });
        }
    }
    let opened = Opened::new(&path, false, Cache::Writeback).map_err(fails)?;
    let is_qcow2 = match backing.format.as_deref() {
        Some("raw") => false,
        Some("qcow2") => true,
        Some(other) => {
            let feature = format!("a backing file of the format {other}");
            return Err(DiskError::Unsupported { path: image.to_owned(), feature });
        }
        None => has_magic(&opened).map_err(fails)?,
    };
    if !is_qcow2 && backing.format.is_none() {
        opened.refuse_foreign().map_err(fails)?;
    }
    if is_qcow2 {
        // Errors further down the chain need no context: they name their image.
        let header = Header::read(&opened)?;
        return open_layer(opened, header, chain, guard);
    }
    if opened.size == 0 {
        return Err(fails(DiskError::Empty { path: path.clone() }));
    }
    let host = |source| fails(DiskError::Host { path: path.clone(), source });
    let file = Guarded::raw(&opened).map_err(host)?;
    Ok(FormatAccess::new(Raw::open_image(file, false).map_err(host)?))
}

impl Chain {
    /// Returns the path under which to open a backing file, with symbolic links resolved if the folder matters.
    ///
    /// # Errors
    /// Returns an error if the file is outside of the permitted folder: the image may come from an untrusted source.
    fn allow(&self, image: &Path, path: PathBuf) -> Result<PathBuf, DiskError> {
        use std::os::unix::fs::FileTypeExt;
        let Some(folder) = &self.folder else { return Ok(path) };
        let elsewhere = |leads_to| DiskError::BackingElsewhere {
            image: image.to_owned(),
            backing: path.clone(),
            leads_to,
            folder: folder.clone(),
        };
        let real = match std::fs::canonicalize(&path) {
            Ok(real) => real,
            // The file does not exist or is inaccessible. The error may only depend on where it would be.
            Err(_) => {
                let inside = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
                return match inside.filter(|inside| inside.starts_with(folder)) {
                    Some(_) => Ok(path),
                    None => Err(elsewhere(String::new())),
                };
            }
        };
        let is_device = std::fs::metadata(&real).is_ok_and(|metadata| metadata.file_type().is_block_device());
        match real.starts_with(folder) {
            true if is_device => Err(elsewhere(" (a block device)".into())),
            true => Ok(real),
            false if real == path => Err(elsewhere(String::new())),
            false => Err(elsewhere(format!(" (which is {})", real.display()))),
        }
    }
}

impl Qcow2Disk {
    /// Calls imago. Several threads may do so at once.
    fn with<R>(&self, call: impl FnOnce(&Access) -> io::Result<R>) -> io::Result<R> {
        let access = self.access.read();
        let access = access.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.guard.run(|| call(access))
    }

    /// Calls imago while no other thread does, for operations that invalidate the mappings of others.
    fn alone<R>(&self, call: impl FnOnce(&mut Access) -> io::Result<R>) -> io::Result<R> {
        let mut access = self.access.write();
        let access = access.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.guard.run(|| call(access))
    }

    /// Makes a part of the disk read as zeros that does not yet.
    fn zero_part(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        match self.discard {
            Discard::ToZero if deallocate => self.alone(|access| access.discard_to_zero(offset, length)),
            Discard::ToNothing if deallocate => {
                // Only whole clusters can be released. The last cluster of the disk may be incomplete.
                let start = offset.next_multiple_of(self.cluster);
                let end = offset + length;
                let end = if end == self.size()? { end } else { end - end % self.cluster };
                if start >= end {
                    return self.write_zeros(offset, length);
                }
                self.alone(|access| access.discard_to_backing(start, end - start))?;
                self.write_zeros(offset, start - offset)?;
                self.write_zeros(end, offset + length - end)
            }
            // Version 2 has no zero clusters.
            _ if self.version == 2 => self.write_zeros(offset, length),
            _ => self.with(|access| access.write_zeroes(offset, length)),
        }
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; length.min(ZEROS) as usize];
        let mut at = 0;
        while at < length {
            let now = (length - at).min(ZEROS);
            self.write(offset + at, &zeros[..now as usize])?;
            at += now;
        }
        Ok(())
    }
}

impl Disk for Qcow2Disk {
    fn size(&self) -> io::Result<u64> {
        self.with(|access| Ok(access.size()))
    }

    fn allocated(&self) -> Option<u64> {
        allocated(&self.file)
    }

    fn read_only(&self) -> bool {
        !self.write
    }

    fn can_discard(&self) -> bool {
        self.discard != Discard::No
    }

    fn format(&self) -> Format {
        Format::Qcow2
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with(|access| access.read(bytes, offset))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|access| access.write(bytes, offset))
    }

    fn flush(&self) -> io::Result<()> {
        if !self.write {
            return Ok(());
        }
        self.with(|access| {
            // Writes the tables that imago caches, then makes everything durable.
            access.flush()?;
            access.sync()
        })
    }

    fn zero(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        let deallocate = deallocate && self.can_discard();
        let mut at = 0;
        while at < length {
            let (mapping, found) = self.with(|access| {
                let (mapping, found) = access.get_mapping(offset + at, length - at)?;
                // Preallocated clusters read as zeros, but can be released.
                let zero = match mapping {
                    imago::Mapping::Zero { explicit, .. } => !(explicit && deallocate),
                    _ => false,
                };
                Ok((zero, found))
            })?;
            if found == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !mapping {
                self.zero_part(offset + at, found, deallocate)?;
            }
            at += found;
        }
        Ok(())
    }

    fn amplified(&self, Extent { offset, length }: Extent) -> u64 {
        if self.inflated == 0 || length == 0 {
            return 0;
        }
        let before = offset % self.inflated;
        // A range that is larger than the disk is refused later.
        let end = before.saturating_add(length).checked_next_multiple_of(self.inflated).unwrap_or(u64::MAX);
        end - length
    }

    fn allocation(&self, offset: u64, length: u64) -> io::Result<(u64, bool)> {
        self.with(|access| {
            let (mapping, length) = access.get_mapping(offset, length)?;
            Ok((length, !matches!(mapping, imago::Mapping::Zero { .. } | imago::Mapping::Eof { .. })))
        })
    }
}

impl Drop for Qcow2Disk {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            log::warn!("the last writes to a qcow2 image are lost: {error}");
        }
        let access = self.access.get_mut().take();
        if self.guard.is_broken() {
            // Dropping it would flush tables in an unknown state, so it is leaked. The file is closed when the process ends.
            std::mem::forget(access);
        } else {
            let _ = self.guard.run(|| {
                drop(access);
                Ok(())
            });
        }
    }
}

#[cfg(test)]
mod tests;
