//! The settings of a machine's memory.

use serde::{Deserialize, Serialize};

use super::{Layout, Limits};
use crate::memory::{self, Backing, MIN_SIZE, PAGE_SIZE, Ram};
use crate::wire::size::Size;

/// Guest memory: of a fixed size, or, with a minimum or a maximum, of one that changes while the machine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// The size at the start.
    #[serde(alias = "startup")]
    pub size: Size,
    /// The size down to which the guest may be asked to give memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Size>,
    /// The size up to which the guest may get memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Size>,
    /// `true` if the guest may tell which of its pages are free, so that the host frees them. On by default if the
    /// size changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_discard: Option<bool>,
    /// `true` if the memory comes from the host's reserved 2 MiB pages. Otherwise transparent huge pages are used, if the
    /// host has them.
    pub hugepages: bool,
    /// `true` if the memory is a memfd, which other processes can map. Linux has no transparent huge pages for memfds.
    pub shared: bool,
}

/// The sizes contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MemorySettingsError(String);

impl Default for Memory {
    fn default() -> Self {
        Self { size: Size(256 << 20), min: None, max: None, cold_discard: None, hugepages: false, shared: false }
    }
}

impl Memory {
    /// Returns the kind of memory to allocate.
    pub(crate) fn backing(&self) -> Backing {
        match self {
            Self { hugepages: true, .. } => Backing::HugePages,
            Self { shared: true, .. } => Backing::Shared,
            _ => Backing::Private,
        }
    }

    /// Returns `true` if the size changes while the machine runs.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    /// Returns `true` if the guest may tell which of its pages are free.
    pub(crate) fn discards(&self) -> bool {
        self.cold_discard.unwrap_or(self.is_dynamic())
    }

    /// Returns the largest size, in bytes.
    pub(crate) fn maximum(&self) -> u64 {
        self.max.unwrap_or(self.size).0.max(self.size.0)
    }

    /// Returns the limits of the size, or `None` if the guest needs no driver for its memory.
    ///
    /// # Errors
    /// Returns an error if they contradict each other.
    pub(crate) fn limits(&self) -> Result<Option<Limits>, MemorySettingsError> {
        let wrong = |text: String| Err(MemorySettingsError(text));
        if self.hugepages && (self.is_dynamic() || self.discards()) {
            return wrong(
                "pages of hugepages=on cannot be given back; leave out hugepages, or min, max and cold-discard".into(),
            );
        }
        // Linux reports free pages by the same driver.
        if !self.is_dynamic() && !self.discards() {
            return Ok(None);
        }
        let (startup, min, max) = (self.size, self.min.unwrap_or(self.size), self.max.unwrap_or(self.size));
        if min > startup || startup > max {
            return wrong(format!(
                "min={min}, startup={startup}, max={max}: write them so that each is at most the next"
            ));
        }
        if let Some(size) = [min, startup, max].into_iter().find(|size| !size.0.is_multiple_of(PAGE_SIZE)) {
            return wrong(format!("{size} is not a multiple of 4096"));
        }
        if min.0 < MIN_SIZE {
            return wrong(format!(
                "min={min} is less than the 1M that a PC has at least; 512 is in bytes, 512M in MiB"
            ));
        }
        if max.0 > MAX_SIZE {
            return wrong(format!("max={max} is more than the 16T that a guest can be asked for"));
        }
        let pages = |size: Size| size.0 / PAGE_SIZE;
        Ok(Some(Limits { startup: pages(startup), min: pages(min), max: pages(max) }))
    }
}

/// The largest size of dynamic memory: its bitmap of pages takes 512 MiB.
const MAX_SIZE: u64 = 16 << 40;

impl Layout {
    /// Returns the pages of a machine with these limits.
    pub fn of(limits: &Limits) -> Self {
        let pages = |range: std::ops::Range<u64>| range.start / PAGE_SIZE..range.end / PAGE_SIZE;
        let startup = limits.startup * PAGE_SIZE;
        let window = Ram::window_of(startup, limits.max * PAGE_SIZE);
        Self { boot: memory::ranges(startup).into_iter().map(pages).collect(), window: pages(window) }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
