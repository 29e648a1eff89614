//! The description of a machine in its ACPI tables, and the author of the tables.

use std::ops::Range;

pub(super) const OEM_ID: [u8; 6] = *b"VRIDIN";
pub(super) const OEM_TABLE_ID: [u8; 8] = *b"VIRIDIAN";
pub(super) const OEM_REVISION: u32 = 1;

/// The properties in which the tables of machines differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The x2APIC id of each VP, in VP-index order.
    pub apic_ids: Vec<u32>,
    /// `true` if the machine has a PC's two 8259 interrupt controllers and its interval timer, in addition to the IOAPIC.
    pub pics: bool,
    /// `true` if the guest can hibernate: enter S4, from which a machine wakes by a new start.
    pub hibernation: bool,
    /// `true` if the machine has a screen, which guests of generation 1 look for on the PCI bus.
    pub screen: bool,
    /// A second range of MMIO addresses for VMBus devices, above 4 GiB. Empty if there is none.
    pub large_window: Range<u64>,
}
