//! The kernel that the user names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::guest_images;
use crate::wire::entries;

/// Default address of a flat image: where a PC's firmware loads a boot sector.
pub const DEFAULT_FLAT_ADDRESS: u64 = 0x7c00;

/// The mode in which a flat image is entered.
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
    /// Returns the width of the mode in bits, which is its name on the command line.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Real16 => 16,
            Self::Protected32 => 32,
            Self::Long64 => 64,
        }
    }
}

/// The kernel to boot.
///
/// The text form is that of the command line:
///
/// ```
/// use viridian::config::KernelSource;
/// let flat: KernelSource = "flat:boot.bin,mode=32".parse().unwrap();
/// assert_eq!(flat.to_string(), "flat:boot.bin@0x7c00,mode=32");
/// assert_eq!("vmlinuz".parse(), Ok(KernelSource::File("vmlinuz".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// A file whose format is determined from its content.
    File(PathBuf),
    /// A file that is loaded unchanged: `flat:PATH[@ADDRESS][,mode=16|32|64]`. The path must not contain a comma.
    Flat {
        /// The file.
        path: PathBuf,
        /// Address of the image and its entry.
        address: u64,
        /// Mode of the entry.
        mode: FlatMode,
    },
    /// An image that is embedded in this program: `embedded:NAME`. Its format is determined from its content.
    Embedded {
        /// Its name.
        name: &'static str,
        /// The image.
        bytes: &'static [u8],
    },
}

/// The reason why a text does not name a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file name is missing.
    #[error("{text:?} does not name a file; write PATH, or flat:PATH@ADDRESS,mode=16|32|64")]
    NoPath {
        /// The text.
        text: String,
    },
    /// There is no embedded image with this name.
    #[error("there is no embedded image {name:?}; there are {}", guest_images::ALL.map(|(name, _)| name).join(" and "))]
    NoImage {
        /// The name.
        name: String,
    },
    /// The address is invalid.
    #[error("{address:?} in {text:?} is not an address; write it as 0x7c00 or 31744")]
    Address {
        /// The text.
        text: String,
        /// The part after the `@`.
        address: String,
    },
    /// The mode is invalid.
    #[error("there is no mode {mode:?}; write mode=16 (real), mode=32 (protected) or mode=64 (long)")]
    Mode {
        /// The mode.
        mode: String,
    },
    /// The key is unknown.
    #[error("a flat image has no setting {key:?}; did you mean {nearest:?}?")]
    Key {
        /// The key.
        key: String,
        /// The most similar known key.
        nearest: &'static str,
    },
    /// A key is repeated.
    #[error("{key:?} is given twice in {text:?}")]
    Twice {
        /// The text.
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
        let entries = entries::split(flat);
        let mut fields = entries.iter().map(String::as_str);
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
                let path = entries::escaped(&path.display().to_string());
                write!(formatter, "flat:{path}@{address:#x},mode={}", mode.bits())
            }
            Self::Embedded { name, .. } => write!(formatter, "embedded:{name}"),
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
