//! Errors that prevent a disk from being opened, with remedies.

use std::io;
use std::path::PathBuf;

use crate::host::records::advice_on_size;

/// The reason why a disk cannot be opened. Paths are as the user or the image gave them.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DiskError {
    /// The file does not exist.
    #[error("there is no {path}; make an empty disk with: truncate -s 10G {path}")]
    Missing { path: PathBuf },
    /// The host denies access.
    #[error("{path} may not be {wanted}: {source}{advice}")]
    Denied { path: PathBuf, wanted: &'static str, advice: &'static str, source: io::Error },
    /// The path is neither a regular file nor a block device.
    #[error("{path} is {what}, and a disk must be a file or a block device")]
    NotADisk { path: PathBuf, what: &'static str },
    /// Another process or disk has locked the image.
    #[error(
        "{path} is in use, and two machines that write to one image destroy it; stop the other one, or give both readonly=on"
    )]
    Locked { path: PathBuf },
    /// The image is empty.
    #[error("{path} is empty; give it a size with: truncate -s 10G {path}")]
    Empty { path: PathBuf },
    /// The image's size is not a multiple of the sector size.
    #[error(
        "{path} has {size} bytes, which is not a multiple of the sector size {sector}: is it truncated? To pad it: truncate -s %{sector} {path}"
    )]
    Unaligned { path: PathBuf, size: u64, sector: u32 },
    /// The image is larger than a disk can be.
    #[error("{path} has {size} bytes, and a disk has at most {most}, which is 4 EiB; make it smaller")]
    TooLarge { path: PathBuf, size: u64, most: u64 },
    /// The host does not support direct I/O on the file.
    #[error("{path} cannot be used with cache=none: {source}; use cache=writeback")]
    NoDirect { path: PathBuf, source: io::Error },
    /// Sectors are smaller than the host's smallest direct write.
    #[error(
        "with cache=none, {path} takes only blocks of {alignment} bytes; give sector={alignment}, or cache=writeback"
    )]
    SectorTooSmall { path: PathBuf, alignment: usize },
    /// The SIZE of `memory:SIZE` is invalid.
    #[error("memory:{size} is not a valid disk size: {reason}; write for example memory:1G")]
    MemorySize { size: String, reason: String },
    /// The file is not in the requested format.
    #[error("{path} is not a {format} image; leave out format={format}, or give format=raw")]
    NotInFormat { path: PathBuf, format: &'static str },
    /// A raw image has no backing file.
    #[error("{path} is a raw image, which has no backing file; leave out backing=any")]
    NoBacking { path: PathBuf },
    /// A qcow2 image is damaged.
    #[error("{path} is a damaged qcow2 image: {reason}; check it with: qemu-img check {path}")]
    Damaged { path: PathBuf, reason: String },
    /// A qcow2 image uses an unsupported feature.
    #[error(
        "{path} is a qcow2 image with {feature}, which is not supported; convert it with: qemu-img convert -O qcow2 {path} disk.qcow2"
    )]
    Unsupported { path: PathBuf, feature: String },
    /// The image has an unsupported format.
    #[error(
        "{path} is a {format} image, which is not supported; convert it with: qemu-img convert -O qcow2 {path} disk.qcow2 \
         (or give format=raw to use its bytes as they are)"
    )]
    Foreign { path: PathBuf, format: &'static str },
    /// The image is compressed.
    #[error("{path} is {how}-compressed; {advice} (or give format=raw to use its bytes as they are)")]
    Compressed { path: PathBuf, how: &'static str, advice: String },
    /// A backing file cannot be opened.
    #[error("{image} has the backing file {backing}, which cannot be used: {source}")]
    Backing { image: PathBuf, backing: PathBuf, source: Box<DiskError> },
    /// A backing file is outside of the permitted folder.
    #[error(
        "{image} has the backing file {backing}{leads_to}, outside of {folder}: an untrusted image could expose any file of this host to \
         the guest in this way; if you trust the image, give backing=any"
    )]
    BackingElsewhere { image: PathBuf, backing: PathBuf, leads_to: String, folder: PathBuf },
    /// A backing chain would take too much memory.
    #[error("{image} and the images above it would need more than {most} MiB of memory for their tables")]
    BackingChainTooLarge { image: PathBuf, most: u64 },
    /// A backing chain contains a cycle.
    #[error(
        "{image} has the backing file {backing}, which is already above it in the chain: the chain would never end"
    )]
    BackingLoop { image: PathBuf, backing: PathBuf },
    /// A backing chain is too long.
    #[error("{image} has more than {most} backing files")]
    BackingChainTooLong { image: PathBuf, most: usize },
    /// The path is wrong, or leads to something that cannot be opened as a disk.
    #[error("cannot use {path}: {source}; {advice}")]
    Path { path: PathBuf, source: io::Error, advice: &'static str },
    /// Another error of the host.
    #[error("cannot use {path}: {source}{}", advice_on_size(source))]
    Host { path: PathBuf, source: io::Error },
}
