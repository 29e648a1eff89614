//! The values that the loader passes to a kernel's boot protocol.

use super::error::Occupant;

/// Memory that the kernel can draw a picture into: pixels of 32 bits (blue, green, red and an unused byte), in lines without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Address of the first pixel, below 4 GiB.
    pub address: u32,
    /// Pixels in a line.
    pub width: u16,
    /// Number of lines.
    pub height: u16,
}

impl Framebuffer {
    /// Returns the length of a line, in bytes.
    pub(super) fn pitch(&self) -> u32 {
        4 * u32::from(self.width)
    }

    /// Returns the length, in bytes.
    pub(super) fn length(&self) -> u32 {
        self.pitch().saturating_mul(self.height.into())
    }
}

/// Boot information for the kernel, apart from the memory map.
#[derive(Debug, Default)]
pub(super) struct Handover {
    pub initrd: Option<Occupant>,
    /// The file name of the initrd, for protocols that pass the names of modules.
    pub initrd_name: String,
    /// The framebuffer for a kernel without a driver, or `None` if the machine has no screen.
    pub framebuffer: Option<Framebuffer>,
}
