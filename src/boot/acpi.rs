//! The ACPI tables, which describe the machine to the guest (ACPI 6.5).
//!
//! The platform is fixed hardware that is always in ACPI mode: no SMI command port, PM1a registers and a PM timer, soft
//! off by S5, a reset register. Tables are in [`ACPI_TABLES`]. The RSDP comes first, so that a guest without another
//! pointer to it finds it by its signature. The DSDT is in `dsdt.rs`.

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use zerocopy::{Immutable, IntoBytes};

pub use super::description::Description;
use super::description::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use super::dsdt;
use super::error::BootError;
use super::layout::{
    ACPI_TABLES, IOAPIC, LOCAL_APIC, PM_TIMER_LENGTH, PM_TIMER_PORT, PM1A_CONTROL_LENGTH, PM1A_CONTROL_PORT,
    PM1A_EVENT_LENGTH, PM1A_EVENT_PORT, RESET_PORT, RESET_VALUE, SCI_IRQ,
};

/// The last APIC id that is not the broadcast id of xAPICs.
pub(super) const LAST_XAPIC_ID: u32 = 254;

/// Maximum number of VPs, limited by names and space.
const MAX_PROCESSORS: usize = 1024;

/// Returns the tables of a machine, to be written at the start of [`ACPI_TABLES`].
///
/// # Errors
/// Returns an error if there are too many VPs.
pub fn tables(description: &Description) -> Result<Vec<u8>, BootError> {
    let too_large = || BootError::TablesTooLarge {
        processors: description.apic_ids.len(),
        room: ACPI_TABLES.end - ACPI_TABLES.start,
        limit: MAX_PROCESSORS,
    };
    if description.apic_ids.len() > MAX_PROCESSORS {
        return Err(too_large());
    }
    // A table points to tables that were appended before it. The space for the RSDP at the start is reserved.
    let mut area = Area { bytes: vec![0; Rsdp::len()] };
    let dsdt = area.append(dsdt::dsdt(description).as_slice());
    let facs = area.append(FACS::new().as_bytes());
    let fadt = area.append(&bytes(&fadt(dsdt, facs)));
    let madt = area.append(madt(description).as_slice());
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = area.append(&bytes(&xsdt));
    area.bytes[..Rsdp::len()].copy_from_slice(Rsdp::new(OEM_ID, xsdt).as_bytes());
    if area.bytes.len() as u64 > ACPI_TABLES.end - ACPI_TABLES.start {
        return Err(too_large());
    }
    Ok(area.bytes)
}

/// Consecutive tables from the start of [`ACPI_TABLES`].
struct Area {
    bytes: Vec<u8>,
}

impl Area {
    /// Appends a table and returns its guest physical address. All tables get the 64-byte alignment that the FACS
    /// requires.
    fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let address = ACPI_TABLES.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Returns the fixed ACPI description table (5.2.9).
fn fadt(dsdt: u64, facs: u64) -> FADT {
    /// There are ISA devices: the serial port and the clock. Without the 8042 flag, guests do not search for a
    /// keyboard; the reset line of port 0x64 works without the flag.
    const LEGACY_DEVICES: u16 = 1 << 0;
    const VGA_NOT_PRESENT: u16 = 1 << 2;
    /// Latencies above 100 and 1000 µs mean that C2 and C3 are not supported.
    const NO_SLEEP_STATE: u16 = 0xffff;

    let port = |port: u16, length: u8, access| GAS::new(AddressSpace::SystemIo, 8 * length, 0, access, port.into());
    // Without the flag `PwrButton`, the power button is the fixed one of the PM1 registers.
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    // Old guests read the 32-bit fields, new ones the 64-bit fields, so both are set.
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.sci_int = (SCI_IRQ as u16).into();
    fadt.pm1a_evt_blk = u32::from(PM1A_EVENT_PORT).into();
    fadt.pm1_evt_len = PM1A_EVENT_LENGTH;
    fadt.x_pm1a_evt_blk = port(PM1A_EVENT_PORT, PM1A_EVENT_LENGTH, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(PM1A_CONTROL_PORT).into();
    fadt.pm1_cnt_len = PM1A_CONTROL_LENGTH;
    fadt.x_pm1a_cnt_blk = port(PM1A_CONTROL_PORT, PM1A_CONTROL_LENGTH, AccessSize::WordAccess);
    fadt.pm_tmr_blk = u32::from(PM_TIMER_PORT).into();
    fadt.pm_tmr_len = PM_TIMER_LENGTH;
    fadt.x_pm_tmr_blk = port(PM_TIMER_PORT, PM_TIMER_LENGTH, AccessSize::DwordAccess);
    fadt.p_lvl2_lat = NO_SLEEP_STATE.into();
    fadt.p_lvl3_lat = NO_SLEEP_STATE.into();
    fadt.iapc_boot_arch = (LEGACY_DEVICES | VGA_NOT_PRESENT).into();
    fadt.reset_reg = port(RESET_PORT, 1, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    fadt.finalize()
}

/// Processor local APIC structure (5.2.12.2).
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct LocalApic {
    kind: u8,
    length: u8,
    processor_uid: u8,
    apic_id: u8,
    flags: u32,
}
const _: () = assert!(size_of::<LocalApic>() == 8);

/// Processor local x2APIC structure (5.2.12.12).
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct LocalX2Apic {
    kind: u8,
    length: u8,
    reserved: u16,
    x2apic_id: u32,
    flags: u32,
    processor_uid: u32,
}
const _: () = assert!(size_of::<LocalX2Apic>() == 16);

/// I/O APIC structure (5.2.12.3).
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct IoApic {
    kind: u8,
    length: u8,
    id: u8,
    reserved: u8,
    address: u32,
    first_interrupt: u32,
}
const _: () = assert!(size_of::<IoApic>() == 12);

/// Interrupt source override structure (5.2.12.5).
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct SourceOverride {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    interrupt: u32,
    flags: u16,
}
const _: () = assert!(size_of::<SourceOverride>() == 10);

/// Returns the multiple APIC description table (5.2.12).
fn madt(description: &Description) -> Sdt {
    const REVISION: u8 = 5;
    /// There are also two 8259 interrupt controllers.
    const PCAT_COMPAT: u32 = 1 << 0;
    const ENABLED: u32 = 1 << 0;
    /// Conforms to the specification of the bus.
    const CONFORMS: u16 = 0;
    const LEVEL_ACTIVE_HIGH: u16 = 0b1101;

    let mut madt = Sdt::new(*b"APIC", 36, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let mut entries = Vec::new();
    entries.dword(LOCAL_APIC as u32);
    entries.dword(if description.pics { PCAT_COMPAT } else { 0 });
    for (uid, apic_id) in (0u32..).zip(&description.apic_ids) {
        match (u8::try_from(uid), u8::try_from(*apic_id)) {
            (Ok(processor_uid), Ok(apic_id)) if u32::from(apic_id) <= LAST_XAPIC_ID => {
                entries.vec(LocalApic { kind: 0, length: 8, processor_uid, apic_id, flags: ENABLED }.as_bytes());
            }
            _ => {
                let (x2apic_id, flags) = (*apic_id, ENABLED);
                let entry = LocalX2Apic { kind: 9, length: 16, reserved: 0, x2apic_id, flags, processor_uid: uid };
                entries.vec(entry.as_bytes());
            }
        }
    }
    let address = IOAPIC as u32;
    entries.vec(IoApic { kind: 1, length: 12, id: 0, reserved: 0, address, first_interrupt: 0 }.as_bytes());
    // The interval timer's ISA interrupt 0 is the IOAPIC's pin 2, as in PCs.
    let timer = description.pics.then_some((0, 2, CONFORMS));
    for (source, interrupt, flags) in timer.into_iter().chain([(SCI_IRQ as u8, SCI_IRQ, LEVEL_ACTIVE_HIGH)]) {
        entries.vec(SourceOverride { kind: 2, length: 10, bus: 0, source, interrupt, flags }.as_bytes());
    }
    madt.append_slice(&entries);
    madt
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
