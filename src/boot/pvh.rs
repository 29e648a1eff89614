//! Boot information by the PVH ABI (Xen, docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h).

use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::handover::Handover;
use super::layout::{ACPI_TABLES, BOOT_INFORMATION, COMMAND_LINE, MapEntry};
use crate::memory::GuestMemory;

/// The version with a memory map.
const VERSION: u32 = 1;

const MODULE: u64 = BOOT_INFORMATION.start + size_of::<hvm_start_info>() as u64;
const MAP: u64 = MODULE + size_of::<hvm_modlist_entry>() as u64;

/// Writes `hvm_start_info` and what it points to. Returns its address, which the kernel gets in EBX.
pub(super) fn write_start_info(
    memory: &GuestMemory,
    handover: &Handover,
    map: &[MapEntry],
) -> Result<u64, GuestMemoryError> {
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        cmdline_paddr: COMMAND_LINE.start,
        rsdp_paddr: ACPI_TABLES.start,
        memmap_paddr: MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    if let Some(initrd) = &handover.initrd {
        info.nr_modules = 1;
        info.modlist_paddr = MODULE;
        let (paddr, size) = (initrd.range.start, initrd.range.end - initrd.range.start);
        memory.write_obj(hvm_modlist_entry { paddr, size, ..Default::default() }, GuestAddress(MODULE))?;
    }
    for (entry, address) in map.iter().zip((MAP..).step_by(size_of::<hvm_memmap_table_entry>())) {
        let (addr, size) = (entry.range.start, entry.range.end - entry.range.start);
        let entry = hvm_memmap_table_entry { addr, size, type_: entry.kind as u32, reserved: 0 };
        memory.write_obj(entry, GuestAddress(address))?;
    }
    memory.write_obj(info, GuestAddress(BOOT_INFORMATION.start))?;
    Ok(BOOT_INFORMATION.start)
}
