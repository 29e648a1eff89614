//! The pages of the screen's memory that a guest writes, as KVM records them.

use std::ops::Range;

use crate::kvm::Vm;

/// Records which pages of the screen's memory the guest writes.
pub trait Writes: Send + Sync {
    /// Returns the addresses of this memory.
    fn memory(&self) -> Range<u64>;
    /// Begins or ends to record.
    ///
    /// # Errors
    /// Returns the reason in words.
    fn record(&self, on: bool) -> Result<(), String>;
    /// Returns the pages that were written since the last call: a bit for each, the lowest first.
    ///
    /// # Errors
    /// Returns the reason in words.
    fn take(&self) -> Result<Vec<u64>, String>;
}

impl Writes for Vm {
    fn memory(&self) -> Range<u64> {
        self.ram().screen.clone()
    }

    fn record(&self, on: bool) -> Result<(), String> {
        self.record_screen(on).map_err(|error| error.to_string())
    }

    fn take(&self) -> Result<Vec<u64>, String> {
        self.screen_writes().map_err(|error| error.to_string())
    }
}
