//! The reasons why a disk cannot be opened, with advice for its owner.

use std::io;
use std::path::PathBuf;

use crate::host::records::advice_on_size;

/// See the module's description. Every path is as the user gave it or as the image names it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DiskError {
    /// There is no such file.
    #[error("there is no {path}; make an empty disk with: truncate -s 10G {path}")]
    Missing { path: PathBuf },
    /// The host says no.
    #[error("{path} may not be {wanted}: {source}{advice}")]
    Denied { path: PathBuf, wanted: &'static str, advice: &'static str, source: io::Error },
    /// It is not a file or a block device.
    #[error("{path} is {what}, and a disk must be a file or a block device")]
    NotADisk { path: PathBuf, what: &'static str },
    /// Somebody else uses it.
    #[error(
        "{path} is in use, and two machines that write to one image destroy it; stop the other one, or give both readonly=on"
    )]
    Locked { path: PathBuf },
    /// It has no bytes.
    #[error("{path} is empty; give it a size with: truncate -s 10G {path}")]
    Empty { path: PathBuf },
    /// It ends in the middle of a sector.
    #[error(
        "{path} has {size} bytes, which is no multiple of its sectors of {sector}: is it truncated? To fill it up: truncate -s %{sector} {path}"
    )]
    Unaligned { path: PathBuf, size: u64, sector: u32 },
    /// It is too large for anybody to address.
    #[error("{path} has {size} bytes; a disk has at most {most}")]
    TooLarge { path: PathBuf, size: u64, most: u64 },
    /// The host's cache cannot be passed by.
    #[error("{path} cannot be used with cache=none: {source}; use cache=writeback")]
    NoDirect { path: PathBuf, source: io::Error },
    /// Sectors are smaller than what the host can write.
    #[error("with cache=none {path} takes blocks of {alignment} bytes; give sector={alignment}, or cache=writeback")]
    SectorTooSmall { path: PathBuf, alignment: usize },
    /// A size for memory: that no disk has.
    #[error("memory:{size} names no size for a disk: {reason}; write for instance memory:1G")]
    MemorySize { size: String, reason: String },
    /// The format that was asked for is not the file's.
    #[error("{path} is no {format} image; leave out format={format}, or give format=raw")]
    NotInFormat { path: PathBuf, format: &'static str },
    /// A qcow2 image is broken.
    #[error("{path} is a damaged qcow2 image: {reason}; see what can be saved with: qemu-img check {path}")]
    Damaged { path: PathBuf, reason: String },
    /// A qcow2 image does what we do not.
    #[error(
        "{path} is a qcow2 image with {feature}, which is not supported; convert it with: qemu-img convert -O qcow2 {path} disk.qcow2"
    )]
    Unsupported { path: PathBuf, feature: String },
    /// An image in a format of somebody else's.
    #[error(
        "{path} is a {format} image, which is not supported; convert it with: qemu-img convert -O qcow2 {path} disk.qcow2 \
         (or give format=raw, if its bytes are the disk's all the same)"
    )]
    Foreign { path: PathBuf, format: &'static str },
    /// An image that somebody has compressed.
    #[error("{path} is {how}-compressed; {advice} (or give format=raw, if its bytes are the disk's all the same)")]
    Compressed { path: PathBuf, how: &'static str, advice: String },
    /// A backing file is not there.
    #[error("{image} has the backing file {backing}, which cannot be used: {source}")]
    Backing { image: PathBuf, backing: PathBuf, source: Box<DiskError> },
    /// A backing file could be any file of the host's.
    #[error(
        "{image} has the backing file {backing}{leads_to}, outside of {folder}: an image from somebody else could show the guest any \
         file of this host like that; if you trust the image, give backing=any"
    )]
    BackingElsewhere { image: PathBuf, backing: PathBuf, leads_to: String, folder: PathBuf },
    /// A backing chain would take too much memory.
    #[error("{image} and the images above it would need more than {most} MiB of memory for their tables")]
    BackingChainTooLarge { image: PathBuf, most: u64 },
    /// A backing chain comes back to itself.
    #[error(
        "{image} has the backing file {backing}, which is already above it in the chain: it would go round for ever"
    )]
    BackingLoop { image: PathBuf, backing: PathBuf },
    /// A backing chain does not end.
    #[error("{image} stands on more than {most} backing files")]
    BackingChainTooLong { image: PathBuf, most: usize },
    /// The host cannot do it.
    #[error("cannot use {path}: {source}{}", advice_on_size(source))]
    Host { path: PathBuf, source: io::Error },
}
