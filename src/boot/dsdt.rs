//! The DSDT: processors, the classic devices, the VMBus device and S5 (ACPI 6.5, chapters 6 to 8 and 20).
//!
//! In ASL:
//!
//! ```text
//! Name (_S5, Package { 5, 5, 0, 0 })
//! Name (_S4, Package { 4, 4, 0, 0 })                              // if the guest can hibernate
//! Scope (_SB) {
//!     Device (C000) { Name (_HID, "ACPI0007") Name (_UID, 0) }    // one a VP
//!     Device (COM1) { Name (_HID, EisaId ("PNP0501")) … IO (0x3f8), Interrupt { 4 } }
//!     Device (RTC)  { Name (_HID, EisaId ("PNP0B00")) … IO (0x70) }
//!     Device (PCI0) { Name (_HID, EisaId ("PNP0A03")) … WordBusNumber (0), IO (0xcf8), DWordMemory }  // with a screen
//!     Device (VMOD) { Name (_HID, "ACPI0004") … DWordMemory (the MMIO window), QWordMemory (for a large screen)
//!         Device (VMBS) { Name (_HID, "VMBUS") … } }
//! }
//! ```
//!
//! Hyper-V's firmware has the VMBus device inside a module device with the MMIO window, and guests expect that. Linux
//! reads the `_CRS` of the VMBus device, which must exist, then of its ancestors up to the first with a memory window
//! (vmbus_acpi_add in its drivers/hv/vmbus_drv.c). FreeBSD searches only the parent for the window.

use std::ops::Range;

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, Package, ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;

use super::description::{Description, OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use super::layout::{
    PCI_PORT, RTC_PORT, S4_SLEEP_TYPE, S5_SLEEP_TYPE, SERIAL_IRQ, SERIAL_PORT, VIDEO_MEMORY, VMBUS_MMIO,
};

/// Builds the table of a machine. `description` has at most 4096 VPs, because their names have three digits.
pub(super) fn dsdt(description: &Description) -> Sdt {
    /// From revision 2 on, integers have 64 bits.
    const REVISION: u8 = 2;
    let mut dsdt = Sdt::new(*b"DSDT", 36, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let mut aml = Vec::new();
    let states = [("_S5_", S5_SLEEP_TYPE, true), ("_S4_", S4_SLEEP_TYPE, description.hibernation)];
    for (name, kind, _) in states.into_iter().filter(|(_, _, is_offered)| *is_offered) {
        let sleep: [&dyn Aml; 4] = [&kind, &kind, &0u8, &0u8];
        Name::new(name.into(), &Package::new(sleep.to_vec())).to_aml_bytes(&mut aml);
    }
    let mut devices = Vec::new();
    for index in 0..description.apic_ids.len() {
        processor(index).to_aml_bytes(&mut devices);
    }
    serial_port(&mut devices);
    clock(&mut devices);
    if description.screen {
        pci(&mut devices);
    }
    vmbus(&description.large_window, &mut devices);
    aml.extend(Scope::raw("_SB_".into(), devices));
    dsdt.append_slice(&aml);
    dsdt
}

/// Returns a processor, with the same `_UID` as in the MADT.
fn processor(index: usize) -> impl Aml {
    struct Processor(usize);
    impl Aml for Processor {
        fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
            let path = format!("C{:03X}", self.0);
            let (id, uid) = (Name::new("_HID".into(), &"ACPI0007"), Name::new("_UID".into(), &self.0));
            Device::new(path.as_str().into(), vec![&id, &uid]).to_aml_bytes(sink);
        }
    }
    Processor(index)
}

fn serial_port(devices: &mut Vec<u8>) {
    let id = Name::new("_HID".into(), &EISAName::new("PNP0501"));
    let uid = Name::new("_UID".into(), &1u8);
    let ports = IO::new(SERIAL_PORT, SERIAL_PORT, 1, 8);
    let interrupt = Interrupt::new(true, true, false, false, SERIAL_IRQ);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &interrupt]));
    Device::new("COM1".into(), vec![&id, &uid, &resources]).to_aml_bytes(devices);
}

/// The real-time clock. It has no interrupt, because it has no alarm.
fn clock(devices: &mut Vec<u8>) {
    let id = Name::new("_HID".into(), &EISAName::new("PNP0B00"));
    let ports = IO::new(RTC_PORT, RTC_PORT, 1, 2);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports]));
    Device::new("RTC_".into(), vec![&id, &resources]).to_aml_bytes(devices);
}

/// The PCI bus, on which drivers look for the screen of a machine of generation 1. Its window is in that of VMBus, as there.
fn pci(devices: &mut Vec<u8>) {
    let id = Name::new("_HID".into(), &EISAName::new("PNP0A03"));
    let uid = Name::new("_UID".into(), &0u8);
    let numbers = AddressSpace::new_bus_number(0u16, 0);
    let ports = IO::new(PCI_PORT, PCI_PORT, 1, 8);
    let (first, last) = (VIDEO_MEMORY.start, VIDEO_MEMORY.end - 1);
    let window = AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&numbers, &ports, &window]));
    Device::new("PCI0".into(), vec![&id, &uid, &resources]).to_aml_bytes(devices);
}

fn vmbus(large: &Range<u64>, devices: &mut Vec<u8>) {
    let bus_id = Name::new("_HID".into(), &"VMBUS");
    let bus_name = Name::new("_DDN".into(), &"VMBUS");
    let uid = Name::new("_UID".into(), &0u8);
    let no_resources = Name::new("_CRS".into(), &ResourceTemplate::new(Vec::new()));
    let bus = Device::new("VMBS".into(), vec![&bus_id, &bus_name, &uid, &no_resources]);

    let (first, last) = (VMBUS_MMIO.start as u32, (VMBUS_MMIO.end - 1) as u32);
    let window = AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, first, last, None);
    let module_id = Name::new("_HID".into(), &"ACPI0004");
    let mut windows: Vec<&dyn Aml> = vec![&window];
    let last = large.end.saturating_sub(1);
    let large_window = AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, large.start, last, None);
    if !large.is_empty() {
        windows.push(&large_window);
    }
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(windows));
    Device::new("VMOD".into(), vec![&module_id, &uid, &resources, &bus]).to_aml_bytes(devices);
}

#[cfg(test)]
#[path = "dsdt_tests.rs"]
mod tests;
