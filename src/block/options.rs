//! How an image is opened.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An image, and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOptions {
    /// A file, a block device, or `memory:SIZE` for scratch that is gone when the disk is dropped.
    pub path: PathBuf,
    /// Whether writes are refused, and the file is opened for reading only.
    pub readonly: bool,
    /// What the host's page cache does.
    pub cache: Cache,
    /// Bytes in a sector, of which the image's size is a multiple.
    pub sector: u32,
    /// Whether blocks that are discarded are given back to the host.
    pub discard: bool,
    /// The image's format.
    pub format: Format,
    /// Where the files that a qcow2 image stands on may lie.
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

/// What the host's page cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// It holds what the guest writes until the guest flushes.
    #[default]
    Writeback,
    /// It is passed by.
    None,
}

/// How an image is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As the file says.
    #[default]
    Auto,
    /// Byte by byte.
    Raw,
    /// As QEMU's qcow2.
    Qcow2,
}

/// Where the files that a qcow2 image stands on may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingFiles {
    /// In the image's folder, or one below it: who made the image cannot show the guest other files of the host.
    #[default]
    Folder,
    /// Anywhere: the image is trusted.
    Any,
}
