//! Dynamic memory: the guest's memory shrinks and grows while it runs.
//!
//! The device is Hyper-V's. Linux's driver for it is `hv_balloon`. A guest *balloons*: it allocates pages and gives them
//! to the host, which frees them. Later it gets them back. A guest that supports *hot add* also gets pages beyond those
//! with which it started.
//!
//! The [`Protocol`](protocol::Protocol) is pure: messages and the time in, messages and effects out.
//!
//! - [`wire`]: the messages. [`pages`]: a set of pages. [`floor`]: the size below which a guest is in danger.
//! - [`protocol`]: the dialog with the guest; [`requests`]: those that lead to a target size; [`plan`]: what is under way.
//! - [`provider`]: connects the protocol to a VMBus channel, to guest memory and to the host; [`device`]: inspect and
//!   commands; [`config`]: the settings.

use std::fmt;
use std::ops::Range;

pub mod config;
mod device;
mod floor;
mod pages;
mod plan;
mod protocol;
pub mod provider;
mod requests;
pub mod set;
mod status;
mod wire;

use crate::memory::PAGE_SIZE;
use crate::wire::size::Size;

/// The largest block in which a guest adds memory, in pages: 2 GiB. Linux uses it on machines with much memory.
pub const LARGEST_BLOCK: u64 = 1 << 19;

/// The sizes of a machine, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size at the start.
    pub startup: u64,
    /// The minimum.
    pub min: u64,
    /// The maximum.
    pub max: u64,
}

/// The page numbers that a guest can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The pages from the start.
    pub boot: Vec<Range<u64>>,
    /// The pages that can be added.
    pub window: Range<u64>,
}

impl Layout {
    /// Returns the first page number that no page has.
    fn end(&self) -> u64 {
        self.boot.iter().map(|range| range.end).max().unwrap_or(0).max(self.window.end)
    }

    /// Returns the parts of `pages` that the guest has, if it has the window up to `next_page`.
    fn within(&self, pages: &Range<u64>, next_page: u64) -> impl Iterator<Item = Range<u64>> {
        let added = self.window.start..next_page;
        let common = |range: &Range<u64>| pages.start.max(range.start)..pages.end.min(range.end);
        let parts: Vec<_> = self.boot.iter().chain([&added]).map(common).filter(|part| !part.is_empty()).collect();
        parts.into_iter()
    }
}

/// Something that happened to a machine's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest's driver is ready.
    Connected {
        /// The version.
        version: String,
        /// The guest can give pages.
        balloon: bool,
        /// The guest can take more pages than it had at its start.
        hot_add: bool,
    },
    /// The guest supports none of the versions.
    NoVersion,
    /// The guest's driver is gone.
    Disconnected,
    /// The guest has its target size, in pages.
    Reached(u64),
    /// The guest has not taken this many pages.
    HotAddRefused {
        /// Number of pages.
        pages: u64,
        /// The guest takes none until its driver starts again.
        never: bool,
    },
    /// The host cannot map this many pages.
    NotMapped {
        /// Number of pages.
        pages: u64,
    },
    /// The guest does not answer a request.
    NoAnswer(&'static str),
}

/// Returns a number of pages as a size.
pub(crate) fn size(pages: u64) -> Size {
    Size(pages.saturating_mul(PAGE_SIZE))
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { version, balloon, hot_add } => {
                let can = |yes: &bool| if *yes { "can" } else { "cannot" };
                let (balloon, hot_add) = (can(balloon), can(hot_add));
                write!(
                    formatter,
                    "version {version}; the guest {balloon} give memory, and {hot_add} take more than at its start"
                )
            }
            Self::NoVersion => formatter.write_str("the guest supports none of the versions"),
            Self::Disconnected => formatter.write_str("the guest does not use it any more"),
            Self::Reached(pages) => write!(formatter, "the guest has {}", size(*pages)),
            Self::HotAddRefused { pages, never: true } => {
                write!(formatter, "the guest did not take {} of new memory, and takes no more", size(*pages))
            }
            Self::HotAddRefused { pages, never: false } => {
                write!(formatter, "the guest did not take {} of new memory; it is asked again", size(*pages))
            }
            Self::NotMapped { pages } => write!(formatter, "the host cannot map {} of new memory", size(*pages)),
            Self::NoAnswer(what) => write!(formatter, "the guest does not answer a {what} request"),
        }
    }
}
