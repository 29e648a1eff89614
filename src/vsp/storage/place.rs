//! The place of a disk.

use std::fmt;

/// The place of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The controller's number, from 0.
    pub controller: u8,
    /// The disk's LUN.
    pub lun: u8,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "controller={},lun={}", self.controller, self.lun)
    }
}
