//! The memory of a machine, for those who share memory among machines.

use super::Machine;
use crate::memory::PAGE_SIZE;

/// The memory that a machine has and needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// Its minimum: its size, if that is fixed.
    pub min: u64,
    /// Its maximum.
    pub max: u64,
    /// The memory that it has.
    pub assigned: u64,
    /// The memory that it has or may get if it is told no other target.
    pub reserved: u64,
    /// The memory that its guest needs, if it has reported.
    pub demand: Option<u64>,
}

impl Machine {
    /// Returns the memory that the machine has and needs.
    pub(crate) fn memory_use(&self) -> MemoryUse {
        let size = self.shared.config.memory.size.0;
        match self.shared.providers.memory.handle().map(|handle| handle.status()) {
            None => MemoryUse { min: size, max: size, assigned: size, reserved: size, demand: None },
            Some(status) => MemoryUse {
                min: status.minimum_bytes,
                max: status.maximum_bytes,
                assigned: status.assigned_bytes,
                reserved: status.reserved_bytes,
                demand: status.demand_bytes,
            },
        }
    }

    /// Sets the size to which the guest is brought, if its size changes.
    pub(crate) fn set_memory_target(&self, bytes: u64) {
        self.shared.providers.memory.handle().inspect(|handle| _ = handle.set_target(bytes / PAGE_SIZE));
    }
}
