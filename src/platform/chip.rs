//! The platform's chips as devices of the machine.
//!
//! A machine makes its chips anew for each life of the guest. That is their reset.

use std::sync::Arc;

use crate::device::{Device, Floor, Identity, Value};
use crate::host::lock::Mutex;

/// The functions of a chip beside its ports. The calls are those of a [`Device`].
pub(crate) trait Chip: Send {
    /// Stops what the chip does by itself.
    fn pause(&mut self) {}

    /// Ends a pause.
    fn resume(&mut self) {}

    /// Returns the chip's registers.
    fn inspect(&self) -> Value;
}

struct ChipDevice<C> {
    name: &'static str,
    chip: Arc<Mutex<C>>,
}

/// Returns the device that stands for a chip.
pub(crate) fn device<C: Chip + 'static>(name: &'static str, chip: &Arc<Mutex<C>>) -> Arc<dyn Device> {
    Arc::new(ChipDevice { name, chip: chip.clone() })
}

impl<C: Chip> Device for ChipDevice<C> {
    fn identity(&self) -> Identity {
        Identity::new(self.name, "chip", Floor::Platform)
    }

    fn pause(&self) {
        self.chip.lock().pause();
    }

    fn resume(&self) {
        self.chip.lock().resume();
    }

    fn inspect(&self) -> Value {
        self.chip.lock().inspect()
    }
}

#[cfg(test)]
#[path = "chip_tests.rs"]
mod tests;
