//! Reads the header of a qcow2 image, which is in its first cluster (QEMU: docs/interop/qcow2.txt).

use std::path::PathBuf;

use super::super::error::DiskError;
use super::super::opened::Opened;
use crate::host::magic;
use crate::wire::array;

/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;

/// A reference to a backing file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Backing {
    pub path: PathBuf,
    pub format: Option<String>,
}

/// The fields of a header that are checked before imago opens the image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub version: u32,
    pub cluster_bits: u32,
    pub size: u64,
    pub l1_entries: u64,
    pub l1_offset: u64,
    pub refcount_offset: u64,
    /// Length of the refcount table, in clusters.
    pub refcount_clusters: u64,
    /// Base-2 logarithm of the width of a refcount, in bits.
    pub refcount_order: u32,
    pub backing: Option<Backing>,
    /// The image was not closed. It is opened for reading only then.
    pub is_dirty: bool,
}

impl Header {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// Returns an error if the header is damaged or has unsupported features.
    pub fn read(opened: &Opened) -> Result<Self, DiskError> {
        let damaged = |reason: String| DiskError::Damaged { path: opened.path.clone(), reason };
        let unsupported = |feature: String| DiskError::Unsupported { path: opened.path.clone(), feature };
        let mut bytes = [0; 112];
        let read = opened.read(0, &mut bytes).map_err(|error| damaged(error.to_string()))?;
        if read < 72 || bytes[..4] != magic::QCOW2 {
            return Err(damaged(format!("its header is truncated after {read} bytes")));
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let version = word(4);
        let (features, refcount_order, header_length) = match version {
            2 => (0, 4, 72),
            3 if read >= 104 => (long(72), word(96), u64::from(word(100))),
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
        // Who only reads uses no refcounts.
        if features & DIRTY != 0 && opened.write {
            let how = "it was not closed, and its refcounts may be wrong (qemu-img check -r all repairs them; readonly=on reads it)";
            return Err(damaged(how.into()));
        }
        let unknown = features & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE);
        if unknown != 0 {
            return Err(unsupported(format!("incompatible features {unknown:#x}")));
        }
        if refcount_order > 6 {
            return Err(damaged(format!("its refcounts have 2^{refcount_order} bits")));
        }
        if !(72..=1 << cluster_bits).contains(&header_length) {
            return Err(damaged(format!("its header has {header_length} bytes")));
        }
        let (l1_entries, l1_offset, size) = (u64::from(word(36)), long(40), long(24));
        let backing = read_backing(opened, long(8), word(16), header_length, 1 << cluster_bits)?;
        Ok(Self {
            version,
            cluster_bits,
            size,
            l1_entries,
            l1_offset,
            refcount_offset: long(48),
            refcount_clusters: word(56).into(),
            refcount_order,
            backing,
            is_dirty: features & DIRTY != 0,
        })
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
        return Err(damaged("the name of its backing file is outside of its first cluster"));
    }
    let mut first = vec![0; cluster as usize];
    let read = opened.read(0, &mut first).map_err(|error| damaged(&error.to_string()))?;
    let name = first[..read].get(offset as usize..(offset as usize + length as usize));
    let name = name.ok_or_else(|| damaged("the name of its backing file is truncated"))?;
    let name = std::str::from_utf8(name).map_err(|_| damaged("the name of its backing file is not UTF-8"))?;
    // QEMU also accepts URLs and JSON here. It writes the name of a file with a colon as ./a:b.
    let protocol = name.split('/').next().is_some_and(|start| start.contains(':'));
    if protocol {
        let feature = format!("the backing file {name:?}, which is not a path");
        return Err(DiskError::Unsupported { path: opened.path.clone(), feature });
    }
    let format = backing_format(&first[..read.min(offset as usize)], header_length);
    Ok(Some(Backing { path: PathBuf::from(name), format }))
}

/// Looks for the backing file's format among the header's extensions.
fn backing_format(header: &[u8], header_length: u64) -> Option<String> {
    let mut rest = header.get(usize::try_from(header_length).ok()?..)?;
    while let Some((extension, after)) = rest.split_first_chunk::<8>() {
        let [kind, length] = [0, 4].map(|at| u32::from_be_bytes(array(extension, at)));
        let data = after.get(..length as usize)?;
        match kind {
            0 => return None,
            BACKING_FORMAT => return String::from_utf8(data.to_vec()).ok(),
            _ => rest = after.get((length as usize).next_multiple_of(8)..)?,
        }
    }
    None
}
