//! The settings of a disk: `--disk PATH`, `--disk path=…,readonly=…`, or a table in a file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::controller::{Controller, MAX_LUNS};
use super::scsi::{DeviceKind, Identity};
use super::unit::{Loaded, Unit};
use crate::block::{BackingFiles, Cache, DiskError, Format, Image, ImageOptions};
use crate::host::records::advice_on_size;
use crate::wire::hash::fnv1a;
use crate::wire::size::Size;

/// Maximum number of controllers of a machine, as on Hyper-V.
pub const MAX_CONTROLLERS: u8 = 4;
/// Maximum length of a serial number: it must fit in VPD page 83 together with the vendor's name.
const MAX_SERIAL: usize = 36;
/// Block size of a DVD.
const DVD_SECTOR: u32 = 2048;

/// A disk or a DVD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskConfig {
    /// A file, a block device, or memory:SIZE for scratch space that is lost at the end. A DVD drive without a path is
    /// empty.
    pub path: PathBuf,
    /// Whether the guest cannot write. By default, a DVD is read-only and a disk is not.
    pub readonly: Option<bool>,
    /// How the host's page cache is used.
    pub cache: Cache,
    /// The serial number that the guest sees. By default, it is derived from the path.
    pub serial: Option<String>,
    /// Sector size in bytes: 512 or 4096.
    pub sector: u32,
    /// Whether blocks that the guest discards are released on the host.
    pub discard: bool,
    /// The image format.
    pub format: Format,
    /// Where backing files of a qcow2 image may be.
    pub backing: BackingFiles,
    /// The device that the guest sees: a disk, or a drive with a DVD.
    pub media: Media,
    /// The controller's number, from 0.
    pub controller: u8,
    /// The LUN, 0 to 63. By default, the lowest free one.
    pub lun: Option<u8>,
}

/// The device that the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Media {
    /// A disk.
    #[default]
    Disk,
    /// A drive with a DVD.
    Dvd,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            readonly: None,
            cache: Cache::default(),
            serial: None,
            sector: 512,
            discard: true,
            format: Format::default(),
            backing: BackingFiles::default(),
            media: Media::default(),
            controller: 0,
            lun: None,
        }
    }
}

/// An error in the settings of disks, or in an image.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The path is missing.
    #[error("a disk needs a path: --disk PATH, or --disk memory:SIZE for scratch")]
    NoPath,
    /// A DVD cannot be writable.
    #[error(
        "{0} cannot be media=dvd,readonly=off: a DVD is always read-only; leave out readonly=off, or media=dvd for a disk"
    )]
    WritableDvd(PathBuf),
    /// The sector size is invalid.
    #[error("sector={0}: a disk's sectors have 512 or 4096 bytes")]
    Sector(u32),
    /// A DVD has sectors of its own.
    #[error(
        "{0} cannot be media=dvd,sector={1}: a DVD's sectors have 2048 bytes; leave out sector=, or media=dvd for a disk"
    )]
    DvdSector(PathBuf, u32),
    /// A memory disk is not an image.
    #[error("{0} cannot have {1}=: it is no image in a file; leave out {1}=")]
    MemoryImage(PathBuf, &'static str),
    /// The serial number is invalid.
    #[error("serial={0:?}: a serial number has 1 to 36 printable ASCII characters")]
    Serial(String),
    /// The controller number is too high.
    #[error("controller={0} is too high: there are controllers 0 to {most}", most = MAX_CONTROLLERS - 1)]
    Controller(u8),
    /// The LUN is too high.
    #[error("lun={0} is too high: a controller has LUNs 0 to 63")]
    Lun(u8),
    /// Two disks have the same controller and LUN.
    #[error("{first} and {second} both have controller={controller},lun={lun}; give one of them another lun=")]
    SamePlace {
        /// The first disk.
        first: PathBuf,
        /// The second disk.
        second: PathBuf,
        /// Their controller.
        controller: u8,
        /// Their LUN.
        lun: u8,
    },
    /// The controller is full.
    #[error("controller={0} has no free LUN for {1}; give the disk another controller=")]
    Full(u8, PathBuf),
    /// The image cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The host failed.
    #[error("cannot use {path}: {source}{}", advice_on_size(source))]
    Host {
        /// The image.
        path: PathBuf,
        /// The error of the host.
        source: io::Error,
    },
}

impl DiskConfig {
    /// Returns the settings for `--disk PATH`.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Returns the sector size that the guest sees.
    pub(crate) fn sector(&self) -> u32 {
        if self.media == Media::Dvd { DVD_SECTOR } else { self.sector }
    }

    /// Returns `true` if the guest cannot write.
    pub(crate) fn readonly(&self) -> bool {
        self.readonly.unwrap_or(self.media == Media::Dvd)
    }

    /// Checks the settings, without opening the image.
    fn check(&self) -> Result<(), ConfigError> {
        if self.path.as_os_str().is_empty() && self.media == Media::Disk {
            return Err(ConfigError::NoPath);
        }
        if self.media == Media::Dvd && self.readonly == Some(false) {
            return Err(ConfigError::WritableDvd(self.path.clone()));
        }
        if self.media == Media::Dvd && self.sector != Self::default().sector {
            return Err(ConfigError::DvdSector(self.path.clone(), self.sector));
        }
        if self.is_memory()
            && let Some(option) = self.image_option()
        {
            return Err(ConfigError::MemoryImage(self.path.clone(), option));
        }
        if !matches!(self.sector, 512 | 4096) {
            return Err(ConfigError::Sector(self.sector));
        }
        if let Some(serial) = &self.serial {
            let printable = serial.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if serial.is_empty() || serial.len() > MAX_SERIAL || !printable {
                return Err(ConfigError::Serial(serial.clone()));
            }
        }
        if self.controller >= MAX_CONTROLLERS {
            return Err(ConfigError::Controller(self.controller));
        }
        match self.lun {
            Some(lun) if usize::from(lun) >= MAX_LUNS => Err(ConfigError::Lun(lun)),
            _ => Ok(()),
        }
    }

    /// Returns the name of an option that is for images in files.
    fn image_option(&self) -> Option<&'static str> {
        let given = [
            (self.format != Format::default(), "format"),
            (self.cache != Cache::default(), "cache"),
            (self.backing != BackingFiles::default(), "backing"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Makes a relative path relative to `folder`.
    pub(crate) fn rebase(&mut self, folder: &Path) {
        if !self.is_memory() && !self.path.as_os_str().is_empty() {
            self.path = folder.join(&self.path);
        }
    }

    /// Returns `true` if it is memory:SIZE.
    fn is_memory(&self) -> bool {
        self.path.to_str().is_some_and(|path| path.starts_with("memory:"))
    }

    /// Returns the size of a memory:SIZE disk, in bytes.
    pub(crate) fn memory_size(&self) -> Option<u64> {
        let size: Size = self.path.to_str()?.strip_prefix("memory:")?.parse().ok()?;
        Some(size.0)
    }

    /// Opens the image, if there is one.
    ///
    /// # Errors
    /// Returns an error if the image cannot be used.
    pub(crate) fn image(&self) -> Result<Option<Arc<Image>>, ConfigError> {
        if self.path.as_os_str().is_empty() {
            return Ok(None);
        }
        let options = ImageOptions {
            path: self.path.clone(),
            readonly: self.readonly(),
            cache: self.cache,
            sector: self.sector(),
            discard: self.discard,
            format: self.format,
            backing: self.backing,
        };
        Ok(Some(Image::open(&options)?))
    }

    /// Checks the settings, and opens the image. A host that does not respond blocks the caller.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid or the image cannot be used.
    pub(crate) fn open(&self) -> Result<OpenDisk<'_>, ConfigError> {
        self.check()?;
        let loaded = self.image()?.map(Loaded::new).transpose();
        let loaded = loaded.map_err(|source| ConfigError::Host { path: self.path.clone(), source })?;
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        Ok(OpenDisk { config: self, loaded, path })
    }

    /// Creates the unit for that LUN.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid or the image cannot be used.
    pub(crate) fn unit(&self, lun: u8) -> Result<Arc<Unit>, ConfigError> {
        Ok(self.open()?.unit(lun))
    }

    /// Derives an identity from LUN and image, whose path is `path`. It is the same each time, and does not contain the path.
    fn identity(&self, lun: u8, path: &Path) -> Identity {
        let named = self.serial.as_ref().map(|serial| serial.as_bytes());
        let path = path.as_os_str().as_encoded_bytes();
        let place = [self.controller, lun];
        let unique = fnv1a(named.unwrap_or(path).iter().chain(&place).copied());
        let serial = self.serial.clone().unwrap_or_else(|| format!("{unique:016x}"));
        Identity { serial, unique, scratch: self.is_memory() && !self.readonly() }
    }
}

/// An open disk that no guest has yet.
pub(crate) struct OpenDisk<'a> {
    /// Its settings.
    pub config: &'a DiskConfig,
    loaded: Option<Loaded>,
    /// The path of the image, without links.
    path: PathBuf,
}

impl OpenDisk<'_> {
    /// Creates the unit for that LUN. Needs nothing of the host.
    pub fn unit(self, lun: u8) -> Arc<Unit> {
        let kind = match self.config.media {
            Media::Disk => DeviceKind::Disk,
            Media::Dvd => DeviceKind::Optical,
        };
        Unit::new(kind, self.config.identity(lun, &self.path), self.loaded)
    }
}

/// Assigns every disk a controller and LUN: those that name a LUN get it, the others get the lowest free ones.
///
/// # Errors
/// Returns an error if the settings are invalid, or if two disks have the same place.
pub fn places<'a>(disks: &'a [DiskConfig]) -> Result<Vec<(u8, u8)>, ConfigError> {
    let mut taken: BTreeMap<(u8, u8), &'a DiskConfig> = BTreeMap::new();
    for disk in disks {
        disk.check()?;
        let Some(lun) = disk.lun else { continue };
        if let Some(first) = taken.insert((disk.controller, lun), disk) {
            let (first, second) = (first.path.clone(), disk.path.clone());
            return Err(ConfigError::SamePlace { first, second, controller: disk.controller, lun });
        }
    }
    let place = |disk: &'a DiskConfig| -> Result<_, ConfigError> {
        let DiskConfig { controller, lun, .. } = *disk;
        let free = lun.or_else(|| (0..MAX_LUNS as u8).find(|lun| !taken.contains_key(&(controller, *lun))));
        let place = (controller, free.ok_or_else(|| ConfigError::Full(controller, disk.path.clone()))?);
        taken.insert(place, disk);
        Ok(place)
    };
    disks.iter().map(place).collect()
}

/// Opens all disks and attaches them to their controllers, each with up to `max_subchannels`.
///
/// # Errors
/// Returns the first error.
pub fn controllers(disks: &[DiskConfig], max_subchannels: u16) -> Result<BTreeMap<u8, Arc<Controller>>, ConfigError> {
    let mut controllers = BTreeMap::new();
    for (disk, (number, lun)) in disks.iter().zip(places(disks)?) {
        let controller = controllers.entry(number).or_insert_with(|| Controller::new(max_subchannels));
        // The LUN is free: `places` has checked that.
        controller.attach(lun, disk.unit(lun)?).map_err(|_| ConfigError::Lun(lun))?;
    }
    Ok(controllers)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
