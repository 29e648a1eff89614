//! The sizes that a screen can have, and the one that it prefers.

use super::edid::{self, edid};
use super::wire::{EDID, Resolution};

/// Sizes that are offered beside the largest and the preferred one, as far as they are not larger.
const USUAL: [(u16, u16); 10] = [
    (640, 480),
    (800, 600),
    (1024, 768),
    (1152, 864),
    (1280, 720),
    (1280, 1024),
    (1600, 900),
    (1920, 1080),
    (2560, 1440),
    (3840, 2160),
];

/// The sizes of a screen.
pub struct Sizes {
    /// The largest, in both directions.
    pub largest: Resolution,
    /// The one that a viewer wants, and the largest if the driver has not been told of one.
    pub preferred: Resolution,
}

impl Sizes {
    /// Returns those up to this size, which is the preferred one.
    pub fn new(width: u16, height: u16) -> Self {
        let largest = Resolution { width, height };
        Self { largest, preferred: largest }
    }

    /// Returns `true` if the driver can be told to prefer this size.
    pub fn has(&self, width: u16, height: u16) -> bool {
        let Resolution { width: most, height: most_lines } = self.largest;
        width <= most.min(edid::MAX_SIZE) && height <= most_lines.min(edid::MAX_SIZE)
    }

    /// Returns the list of them. The preferred one is the first.
    pub fn list(&self) -> Vec<Resolution> {
        let mut list = vec![self.preferred];
        let others = USUAL.map(|(width, height)| Resolution { width, height });
        let fits = |other: &Resolution| other.width <= self.largest.width && other.height <= self.largest.height;
        for size in std::iter::once(self.largest).chain(others).filter(fits) {
            if !list.contains(&size) {
                list.push(size);
            }
        }
        list
    }

    /// Returns the description of a screen with the preferred size.
    pub fn edid(&self) -> [u8; EDID] {
        edid(self.preferred.width, self.preferred.height)
    }
}
