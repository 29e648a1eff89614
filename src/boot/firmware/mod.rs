//! The data that a PC's firmware leaves below 1 MiB for kernels.
//!
//! There is no firmware here. But kernels that were written for PCs expect its data: Xen and Linux read the end of
//! conventional memory from the BIOS data area, xv6 and GNU Mach find their processors in the MP table, and boot
//! sectors call the services behind the interrupt vectors. So these are written before the VPs run:
//!
//! | address | content |
//! | --- | --- |
//! | 0 to 0x3ff | the interrupt vectors of real mode, to the [`services`] |
//! | 0x400 to 0x4ff | the BIOS data area: see [`data_area`] |
//! | 0x9fc00 | the extended BIOS data area, whose first byte is its size in KiB |
//! | 0xf0000 | the MP table: see [`mp_table`] |
//! | 0xff000 to 0xfffff | the code of the services, the reset vector, the machine's model |
//!
//! As on a PC, the memory map reserves what the kernel may not overwrite after it has its own interrupt table: from the
//! extended data area up. If a kernel is loaded over one of the parts, the kernel wins and that part is not written.

mod data_area;
mod mp_table;
mod services;

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use super::acpi::Description;
use super::error::{BootError, Occupant};
use super::layout::{BIOS_DATA_AREA, CONVENTIONAL_END, INTERRUPT_VECTORS, MP_TABLE, SERVICE_CODE};
use super::placement::Placement;

/// The parts that were placed, with their content.
pub(super) type Parts = Vec<(Occupant, Vec<u8>)>;

/// Claims memory for each part that does not overlap anything else.
pub(super) fn claim(placement: &mut Placement, machine: &Description) -> Result<Parts, BootError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % (24 * 60 * 60);
    let vectors = INTERRUPT_VECTORS.start;
    let parts = [
        ("the interrupt vectors", vectors, services::vectors()),
        ("the BIOS data area", BIOS_DATA_AREA.start, data_area::data_area(seconds)),
        ("the extended BIOS data area", CONVENTIONAL_END, vec![data_area::EXTENDED_KIBIBYTES]),
        ("the MP table", MP_TABLE.start, mp_table::mp_table(machine)),
        ("the firmware's services", SERVICE_CODE.start, services::code()),
    ];
    let mut claimed = Vec::with_capacity(parts.len());
    for (what, start, bytes) in parts {
        if placement.occupant(&range(start, &bytes)).is_none() {
            claimed.push((placement.claim(what, start, bytes.len() as u64)?, bytes));
        }
    }
    Ok(claimed)
}

fn range(start: u64, bytes: &[u8]) -> Range<u64> {
    start..start + bytes.len() as u64
}

#[cfg(test)]
#[path = "firmware_tests.rs"]
mod tests;
