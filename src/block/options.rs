//! Options for opening an image.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An image and the options for opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOptions {
    /// A file, a block device, or `memory:SIZE` for a memory disk that is lost when it is dropped.
    pub path: PathBuf,
    /// `true` to open the file for reading only and refuse writes.
    pub readonly: bool,
    /// Use of the host's page cache.
    pub cache: Cache,
    /// Size of a sector, in bytes. The image's size must be a multiple of it.
    pub sector: u32,
    /// `true` to release discarded blocks on the host.
    pub discard: bool,
    /// Format of the image.
    pub format: Format,
    /// Permitted locations of a qcow2 image's backing files.
    pub backing: BackingFiles,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            readonly: false,
            cache: Cache::default(),
            sector: 512,
            discard: true,
            format: Format::default(),
            backing: BackingFiles::default(),
        }
    }
}

/// Use of the host's page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Writes go to the page cache. A flush by the guest makes them durable.
    #[default]
    Writeback,
    /// The page cache is bypassed (`O_DIRECT`).
    None,
}

/// The format of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Detected from the start of the file.
    #[default]
    Auto,
    /// The bytes of the file are the bytes of the disk.
    Raw,
    /// QEMU's qcow2.
    Qcow2,
}

/// Permitted locations of a qcow2 image's backing files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingFiles {
    /// The image's folder and the folders below it. An image from an untrusted source then cannot expose other files of
    /// the host to the guest.
    #[default]
    Folder,
    /// Anywhere. For images from a trusted source.
    Any,
}
