//! qcow2 images with backing files, by the crate imago.
//!
//! What an image says of itself is checked here first, all along the backing chain, so that a guest does not start on a
//! chain that is broken, goes round, or was cut short. Only files that were found so are ever opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};

use super::Disk;
use super::error::DiskError;
use super::open::Opened;
use crate::magic;
use crate::vsp::storage::config::Cache;

/// How many backing files an image may stand on.
const MAX_CHAIN: usize = 32;
/// The longest L1 table, as in QEMU: 32 MiB.
const MAX_L1_ENTRIES: u64 = 4 << 20;
/// How much of an image's L2 tables is looked at: beyond that it would take too long.
const MAX_L2_BYTES: u64 = 64 << 20;
/// The part of a table entry that is an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// In an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;

type Access = FormatAccess<imago::file::File>;

/// Whether the file says that it is a qcow2 image.
pub(super) fn has_magic(opened: &Opened) -> Result<bool, DiskError> {
    let mut head = [0; magic::QCOW2.len()];
    let read = opened.read(0, &mut head).map_err(|source| DiskError::Host { path: opened.path.clone(), source })?;
    Ok(read == head.len() && head == magic::QCOW2)
}

/// A qcow2 image.
pub(super) struct Qcow2Disk {
    /// Written while clusters are given back, read for all else.
    access: RwLock<Access>,
    write: bool,
    discard: bool,
}

/// Opens an image and all that it stands on.
pub(super) fn open(opened: Opened, discard: bool) -> Result<Qcow2Disk, DiskError> {
    let write = opened.write;
    let access = open_layer(opened, &mut Vec::new())?;
    Ok(Qcow2Disk { access: RwLock::new(access), write, discard: discard && write })
}

fn open_layer(opened: Opened, above: &mut Vec<(u64, u64)>) -> Result<Access, DiskError> {
    above.push(opened.identity);
    let header = Header::read(&opened)?;
    header.check_tables(&opened)?;
    let backing = match &header.backing {
        Some(backing) => Some(open_backing(&opened.path, backing, above)?),
        None => None,
    };
    let Opened { path, file, write, .. } = opened;
    let damaged = |error: io::Error| DiskError::Damaged { path: path.clone(), reason: error.to_string() };
    let file = imago::file::File::try_from(file).map_err(damaged)?;
    let builder = Qcow2::<imago::file::File>::builder(file).write(write).backing(backing).data_file(None);
    Ok(FormatAccess::new(builder.open(DenyImplicitOpenGate::default()).map_err(damaged)?))
}

fn open_backing(image: &Path, backing: &Backing, above: &mut Vec<(u64, u64)>) -> Result<Access, DiskError> {
    let path = image.parent().unwrap_or(Path::new("")).join(&backing.path);
    if above.len() > MAX_CHAIN {
        return Err(DiskError::BackingChainTooLong { image: image.to_owned(), most: MAX_CHAIN });
    }
    let fails =
        |source| DiskError::Backing { image: image.to_owned(), backing: path.clone(), source: Box::new(source) };
    // Before it is opened: an image above it is locked by us.
    if let Ok(metadata) = std::fs::metadata(&path) {
        use std::os::unix::fs::MetadataExt;
        if above.contains(&(metadata.dev(), metadata.ino())) {
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
        // What is wrong further down is told as it is: the chain names itself.
        return open_layer(opened, above);
    }
    if opened.size == 0 {
        return Err(fails(DiskError::Empty { path: path.clone() }));
    }
    let host = |source| fails(DiskError::Host { path: path.clone(), source });
    let file = imago::file::File::try_from(opened.file).map_err(host)?;
    Ok(FormatAccess::new(Raw::open_image(file, false).map_err(host)?))
}

#[derive(Debug, PartialEq, Eq)]
struct Backing {
    path: PathBuf,
    format: Option<String>,
}

/// What we want to know of a header before anybody else believes it (QEMU: docs/interop/qcow2.txt).
#[derive(Debug, PartialEq, Eq)]
struct Header {
    cluster_bits: u32,
    size: u64,
    l1_entries: u64,
    l1_offset: u64,
    backing: Option<Backing>,
}

impl Header {
    fn read(opened: &Opened) -> Result<Self, DiskError> {
        let damaged = |reason: String| DiskError::Damaged { path: opened.path.clone(), reason };
        let unsupported = |feature: String| DiskError::Unsupported { path: opened.path.clone(), feature };
        let mut bytes = [0; 112];
        let read = opened.read(0, &mut bytes).map_err(|error| damaged(error.to_string()))?;
        if read < 72 || bytes[..4] != magic::QCOW2 {
            return Err(damaged(format!("its header is cut short after {read} bytes")));
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let version = word(4);
        let (features, header_length) = match version {
            2 => (0, 72),
            3 if read >= 104 => (long(72), u64::from(word(100))),
            _ => return Err(unsupported(format!("version {version}"))),
        };
        let cluster_bits = word(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged(format!("its clusters have 2^{cluster_bits} bytes")));
        }
        if word(32) != 0 {
            return Err(unsupported("encryption".into()));
        }
        if features & CORRUPT != 0 {
            return Err(damaged("it is marked as corrupt".into()));
        }
        if features & EXTERNAL_DATA != 0 {
            return Err(unsupported("an external data file".into()));
        }
        if features & COMPRESSION_TYPE != 0 && header_length > 104 && bytes[104] != 0 {
            return Err(unsupported(format!("compression of type {}", bytes[104])));
        }
        let unknown = features & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE);
        if unknown != 0 {
            return Err(unsupported(format!("incompatible features {unknown:#x}")));
        }
        let (l1_entries, l1_offset, size) = (u64::from(word(36)), long(40), long(24));
        let backing = read_backing(opened, long(8), word(16), header_length, 1 << cluster_bits)?;
        Ok(Self { cluster_bits, size, l1_entries, l1_offset, backing })
    }

    /// Finds an image that was cut short: its tables, and the clusters that they name, must lie inside the file.
    fn check_tables(&self, opened: &Opened) -> Result<(), DiskError> {
        let damaged = |reason: String| DiskError::Damaged { path: opened.path.clone(), reason };
        let cluster = 1_u64 << self.cluster_bits;
        let per_table = cluster / 8;
        // No overflow: a cluster has at most 2 MiB, so a table maps at most 512 GiB.
        let needed = self.size.div_ceil(cluster * per_table);
        if self.l1_entries > MAX_L1_ENTRIES || self.l1_entries < needed {
            return Err(damaged(format!("its first table has {} entries and should have {needed}", self.l1_entries)));
        }
        let l1 = self.table(opened, self.l1_offset, self.l1_entries)?;
        let mut budget = MAX_L2_BYTES;
        for offset in l1.into_iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0) {
            let inside = offset.checked_add(cluster).is_some_and(|end| end <= opened.size);
            if !inside {
                return Err(damaged(format!("it ends before its table at {offset}: it was cut short")));
            }
            if budget < cluster {
                continue;
            }
            budget -= cluster;
            let l2 = self.table(opened, offset, per_table)?;
            let data = l2.into_iter().filter(|entry| entry & COMPRESSED == 0).map(|entry| entry & OFFSET);
            if let Some(beyond) = data.into_iter().find(|offset| *offset >= opened.size) {
                return Err(damaged(format!("it ends before its cluster at {beyond}: it was cut short")));
            }
        }
        Ok(())
    }

    fn table(&self, opened: &Opened, offset: u64, entries: u64) -> Result<Vec<u64>, DiskError> {
        let mut bytes = vec![0; entries as usize * 8];
        let damaged = |reason: String| DiskError::Damaged { path: opened.path.clone(), reason };
        if offset > opened.size {
            return Err(damaged(format!("it ends before its table at {offset}: it was cut short")));
        }
        let read = opened.read(offset, &mut bytes).map_err(|error| damaged(error.to_string()))?;
        if read < bytes.len() {
            return Err(damaged(format!("it ends inside its table at {offset}: it was cut short")));
        }
        Ok(bytes.chunks_exact(8).map(|entry| u64::from_be_bytes(super::super::scsi::array(entry, 0))).collect())
    }
}

fn read_backing(
    opened: &Opened,
    offset: u64,
    length: u32,
    header_length: u64,
    cluster: u64,
) -> Result<Option<Backing>, DiskError> {
    let damaged = |reason: &str| DiskError::Damaged { path: opened.path.clone(), reason: reason.to_owned() };
    if offset == 0 {
        return Ok(None);
    }
    if length > 1023 || offset >= cluster || offset + u64::from(length) > cluster {
        return Err(damaged("the name of its backing file lies outside of its header"));
    }
    let mut first = vec![0; cluster as usize];
    let read = opened.read(0, &mut first).map_err(|error| damaged(&error.to_string()))?;
    let name = first[..read].get(offset as usize..(offset as usize + length as usize));
    let name = name.ok_or_else(|| damaged("the name of its backing file is cut short"))?;
    let name = std::str::from_utf8(name).map_err(|_| damaged("the name of its backing file is no text"))?;
    // QEMU also takes URLs and JSON here; a file whose name has a colon it calls ./a:b.
    let protocol = name.split('/').next().is_some_and(|start| start.contains(':'));
    if protocol {
        let feature = format!("the backing file {name:?}, which is no path");
        return Err(DiskError::Unsupported { path: opened.path.clone(), feature });
    }
    let format = backing_format(&first[..read.min(offset as usize)], header_length);
    Ok(Some(Backing { path: PathBuf::from(name), format }))
}

/// Looks for the backing file's format among the header's extensions.
fn backing_format(header: &[u8], header_length: u64) -> Option<String> {
    let mut rest = header.get(usize::try_from(header_length).ok()?..)?;
    while let Some((extension, after)) = rest.split_first_chunk::<8>() {
        let [kind, length] = [0, 4].map(|at| u32::from_be_bytes(super::super::scsi::array(extension, at)));
        let data = after.get(..length as usize)?;
        match kind {
            0 => return None,
            BACKING_FORMAT => return String::from_utf8(data.to_vec()).ok(),
            _ => rest = after.get((length as usize).next_multiple_of(8)..)?,
        }
    }
    None
}

impl Qcow2Disk {
    fn access(&self) -> RwLockReadGuard<'_, Access> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Qcow2Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.access().size())
    }

    fn read_only(&self) -> bool {
        !self.write
    }

    fn can_discard(&self) -> bool {
        self.discard
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.access().read(bytes, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.access().write(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        if !self.write {
            return Ok(());
        }
        let access = self.access();
        // The tables first, which imago caches; then everything to the disk.
        access.flush()?;
        access.sync()
    }

    fn zero(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        if deallocate && self.discard {
            let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
            return access.discard_to_zero(offset, length);
        }
        self.access().write_zeroes(offset, length)
    }

    fn allocation(&self, offset: u64, length: u64) -> io::Result<(u64, bool)> {
        let access = self.access();
        let (mapping, length) = access.get_mapping(offset, length)?;
        Ok((length, !matches!(mapping, imago::Mapping::Zero { .. } | imago::Mapping::Eof { .. })))
    }
}

impl Drop for Qcow2Disk {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            log::warn!("the last writes to a qcow2 image are lost: {error}");
        }
    }
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;
