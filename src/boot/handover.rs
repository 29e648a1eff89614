//! The values that the loader passes to a kernel's boot protocol.

use super::error::Occupant;

/// Boot information for the kernel, apart from the memory map.
#[derive(Debug, Default)]
pub(super) struct Handover {
    pub initrd: Option<Occupant>,
    /// The file name of the initrd, for protocols that pass the names of modules.
    pub initrd_name: String,
}
