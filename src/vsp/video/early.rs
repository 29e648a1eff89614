//! The picture that a kernel draws before it has a driver for the screen, into memory that the boot protocol names.

use crate::memory::{self, GuestMemory};

/// A picture of pixels of 32 bits, whose lines have no gap. Nobody reports what is drawn there: it is found by looking.
pub struct Early {
    /// The memory of the guest.
    pub memory: GuestMemory,
    /// The address of the first pixel.
    pub first: u64,
    /// Width and height.
    pub size: (u32, u32),
}

impl Early {
    /// Returns `true` if the guest has touched it. Many kernels never do.
    pub fn is_drawn(&self) -> bool {
        let (width, height) = self.size;
        memory::is_touched(&self.memory, self.first, 4 * u64::from(width) * u64::from(height))
    }
}
