//! What a user names as the kernel.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::guest_images;

/// Where a flat image goes unless its user says otherwise: where a PC's firmware puts a boot sector.
pub const DEFAULT_FLAT_ADDRESS: u64 = 0x7c00;

/// Which mode a flat image is entered in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FlatMode {
    /// Real mode, all segment bases 0.
    #[default]
    Real16,
    /// Protected mode, flat 4 GiB segments, no paging.
    Protected32,
    /// Long mode, the first 4 GiB identity-mapped.
    Long64,
}

impl FlatMode {
    /// Returns the mode's width in bits, its name on the command line.
    pub fn bits(self) -> u32 {
        match self {
            Self::Real16 => 16,
            Self::Protected32 => 32,
            Self::Long64 => 64,
        }
    }
}

/// What to start.
///
/// Parses from the command line's form and prints as it:
///
/// ```
/// use viridian::boot::KernelSource;
/// let flat: KernelSource = "flat:boot.bin,mode=32".parse().unwrap();
/// assert_eq!(flat.to_string(), "flat:boot.bin@0x7c00,mode=32");
/// assert_eq!("vmlinuz".parse(), Ok(KernelSource::File("vmlinuz".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// A file that says itself what it is.
    File(PathBuf),
    /// A file that goes into memory as it is: `flat:PATH[@ADDRESS][,mode=16|32|64]`. The path has no comma.
    Flat {
        /// The file.
        path: PathBuf,
        /// Where it goes, and where it is entered.
        address: u64,
        /// How it is entered.
        mode: FlatMode,
    },
    /// An image that is part of this program: `embedded:NAME`. Says itself what it is.
    Embedded {
        /// What to call it.
        name: &'static str,
        /// The image.
        bytes: &'static [u8],
    },
}

/// Why a text names no kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no file name.
    #[error("{text:?} names no file; write PATH, or flat:PATH@ADDRESS,mode=16|32|64")]
    NoPath {
        /// What was given.
        text: String,
    },
    /// There is no such image.
    #[error("there is no embedded image {name:?}; there are {}", guest_images::ALL.map(|(name, _)| name).join(" and "))]
    NoImage {
        /// What was given.
        name: String,
    },
    /// The address is not a number.
    #[error("{address:?} in {text:?} is not an address; write it as 0x7c00 or 31744")]
    Address {
        /// What was given.
        text: String,
        /// What stands after the `@`.
        address: String,
    },
    /// There is no such mode.
    #[error("there is no mode {mode:?}; write mode=16 (real), mode=32 (protected) or mode=64 (long)")]
    Mode {
        /// What was given.
        mode: String,
    },
    /// There is no such key.
    #[error("a flat image has no setting {key:?}; did you mean {nearest:?}?")]
    Key {
        /// What was given.
        key: String,
        /// The known key that resembles it most.
        nearest: &'static str,
    },
    /// A key was given twice.
    #[error("{key:?} is given twice in {text:?}")]
    Twice {
        /// What was given.
        text: String,
        /// The key.
        key: &'static str,
    },
}

impl FromStr for KernelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(name) = text.strip_prefix("embedded:") {
            let image = guest_images::ALL.into_iter().find(|(known, _)| *known == name);
            let (name, bytes) = image.ok_or_else(|| SourceError::NoImage { name: name.into() })?;
            return Ok(Self::Embedded { name, bytes });
        }
        let Some(flat) = text.strip_prefix("flat:") else {
            return match text {
                "" => Err(SourceError::NoPath { text: text.into() }),
                path => Ok(Self::File(path.into())),
            };
        };
        let mut fields = flat.split(',');
        let place = fields.next().unwrap_or_default();
        let (path, address) = match place.rsplit_once('@') {
            Some((path, address)) => (path, parse_address(text, address)?),
            None => (place, DEFAULT_FLAT_ADDRESS),
        };
        if path.is_empty() {
            return Err(SourceError::NoPath { text: text.into() });
        }
        Ok(Self::Flat { path: path.into(), address, mode: parse_mode(text, fields)? })
    }
}

fn parse_address(text: &str, address: &str) -> Result<u64, SourceError> {
    let digits = address.strip_prefix("0x").or_else(|| address.strip_prefix("0X"));
    let (digits, radix) = digits.map_or((address, 10), |digits| (digits, 16));
    let parsed = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok());
    parsed.flatten().ok_or_else(|| SourceError::Address { text: text.into(), address: address.into() })
}

fn parse_mode<'a>(text: &str, fields: impl Iterator<Item = &'a str>) -> Result<FlatMode, SourceError> {
    let mut mode = None;
    for field in fields {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        if key != "mode" {
            return Err(SourceError::Key { key: key.into(), nearest: "mode" });
        }
        let value = match value {
            "16" => FlatMode::Real16,
            "32" => FlatMode::Protected32,
            "64" => FlatMode::Long64,
            _ => return Err(SourceError::Mode { mode: value.into() }),
        };
        if mode.replace(value).is_some() {
            return Err(SourceError::Twice { text: text.into(), key: "mode" });
        }
    }
    Ok(mode.unwrap_or_default())
}

impl fmt::Display for KernelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Flat { path, address, mode } => {
                write!(formatter, "flat:{}@{address:#x},mode={}", path.display(), mode.bits())
            }
            Self::Embedded { name, .. } => write!(formatter, "embedded:{name}"),
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
