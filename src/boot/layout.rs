//! The machine's address map: ports, interrupts and addresses of devices, and the places of boot structures.
//!
//! The ACPI tables ([`super::acpi`]) tell the guest these constants, and the devices in [`crate::platform`] use them.
//! Boot structures are below 640 KiB, so that a machine with 1 MiB boots, too. A kernel may reuse their memory once it
//! no longer needs them.

use std::ops::Range;

use crate::memory::{self, HOLE_END, HOLE_START};

/// Address of the IOAPIC, in a machine that has one.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Address of each VP's local APIC until the guest moves it.
pub const LOCAL_APIC: u64 = 0xfee0_0000;

/// First of the eight ports of the serial port COM1.
pub const SERIAL_PORT: u16 = 0x3f8;
/// The serial port's ISA interrupt.
pub const SERIAL_IRQ: u32 = 4;
/// Index port of the real-time clock; its data port follows.
pub const RTC_PORT: u16 = 0x70;
/// Index port of the colour display's video controller; its data port follows.
pub const VIDEO_PORT: u16 = 0x3d4;
/// The debug port: a byte written here goes to the console.
pub const DEBUG_PORT: u16 = 0xe9;
/// The exit port: a value written here ends the machine and becomes its exit code.
pub const EXIT_PORT: u16 = 0xf4;

/// PM1a event block (ACPI 6.5, 4.8.3.1): status, then enable, two bytes each.
pub const PM1A_EVENT_PORT: u16 = 0x600;
/// Length of the PM1a event block.
pub const PM1A_EVENT_LENGTH: u8 = 4;
/// PM1a control block (ACPI 6.5, 4.8.3.2).
pub const PM1A_CONTROL_PORT: u16 = 0x604;
/// Length of the PM1a control block.
pub const PM1A_CONTROL_LENGTH: u8 = 2;
/// The PM timer (ACPI 6.5, 4.8.3.3), 32 bits wide, 3.579545 MHz.
pub const PM_TIMER_PORT: u16 = 0x608;
/// Length of the PM timer block.
pub const PM_TIMER_LENGTH: u8 = 4;
/// The address register of PCI configuration space; its data register follows.
pub const PCI_PORT: u16 = 0xcf8;
/// The reset register (ACPI 6.5, 4.8.3.6), also the chipset reset port of a PC.
pub const RESET_PORT: u16 = 0xcf9;
/// The value that the guest writes to [`RESET_PORT`] to reset the machine.
pub const RESET_VALUE: u8 = 6;
/// The system control interrupt.
pub const SCI_IRQ: u32 = 9;
/// SLP_TYP of the PM1a control block for S5, soft off (ACPI 6.5, 7.4.2.6).
pub const S5_SLEEP_TYPE: u8 = 5;
/// The same for S4: the guest has written its memory to a disk, and the machine is off.
pub const S4_SLEEP_TYPE: u8 = 4;

/// The MMIO range for VMBus devices: below the interrupt controllers and KVM's own pages.
pub const VMBUS_MMIO: Range<u64> = 0xf800_0000..IOAPIC;
const _: () = assert!(HOLE_START <= VMBUS_MMIO.start && VMBUS_MMIO.end <= HOLE_END);
const _: () = assert!(VMBUS_MMIO.start < VMBUS_MMIO.end && VMBUS_MMIO.end <= LOCAL_APIC);

/// The picture that a kernel can draw before it has a driver for the screen: at the start of the MMIO range.
pub const FRAMEBUFFER: u32 = VMBUS_MMIO.start as u32;
/// The memory of the video function on the PCI bus, from which drivers take what they tell the video device on VMBus.
pub const VIDEO_MEMORY: Range<u32> = FRAMEBUFFER..FRAMEBUFFER + (64 << 20);
const _: () = assert!(VIDEO_MEMORY.end as u64 <= VMBUS_MMIO.end);
/// Size of a second MMIO range for VMBus devices, above all memory, that a machine has if its screen does not fit into
/// [`VIDEO_MEMORY`]: Linux's driver asks for all of what the screen's offer says.
pub const LARGE_VIDEO_MEMORY: u64 = 128 << 20;

/// End of conventional memory: a PC's extended BIOS data area begins here.
pub const CONVENTIONAL_END: u64 = 0x9_fc00;
/// Start of memory after the hole for video memory and firmware.
pub const EXTENDED_START: u64 = 0x10_0000;

/// The ACPI tables, where a guest without another pointer searches: the RSDP is at the start.
pub const ACPI_TABLES: Range<u64> = 0xe_0000..MP_TABLE.start;
/// The MP table, where kernels from before ACPI search.
pub const MP_TABLE: Range<u64> = 0xf_0000..SERVICE_CODE.start;
/// The code behind the interrupt vectors, up to the reset vector.
pub const SERVICE_CODE: Range<u64> = 0xf_f000..EXTENDED_START;

/// The interrupt vectors of real mode.
pub const INTERRUPT_VECTORS: Range<u64> = 0..BIOS_DATA_AREA.start;
/// The BIOS data area.
pub const BIOS_DATA_AREA: Range<u64> = 0x400..0x500;

// Linux 6.1's decompressor clears the last 8 KiB below 0x9f000 while it still uses the page tables of its entry
// (find_trampoline_placement in its arch/x86/boot/compressed), so stay below.
/// The descriptor table of 32-bit and 64-bit entries.
pub const GDT: u64 = 0x9_1000;
/// Six pages of page tables for 64-bit entries.
pub const PAGE_TABLES: u64 = 0x9_2000;
/// One page for the protocol's boot information: zero page, `hvm_start_info`, or multiboot information.
pub const BOOT_INFORMATION: Range<u64> = 0x9_8000..0x9_9000;
/// The kernel's command line with its final NUL.
pub const COMMAND_LINE: Range<u64> = 0x9_9000..0x9_d000;
/// Places for a flat image's initial stack: the first that does not overlap the image is used.
///
/// The first is what a boot sector expects. Real mode without segments reaches the first two.
pub const STACKS: [Range<u64>; 3] = [0x6c00..0x7c00, 0xf000..0x1_0000, 0x8_f000..0x9_0000];

/// The kind of a range of guest physical memory. The values are those of E820, multiboot and PVH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// Usable by the guest.
    Usable = 1,
    /// Reserved, apart from reading ACPI tables there.
    Reserved = 2,
}

/// One entry of the memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The guest physical addresses.
    pub range: Range<u64>,
    /// The kind of memory.
    pub kind: MemoryKind,
}

/// Returns the memory map of a machine with `size` bytes of memory, for all boot protocols.
pub fn memory_map(size: u64) -> Vec<MapEntry> {
    let usable = |range| MapEntry { range, kind: MemoryKind::Usable };
    let mut map = Vec::with_capacity(4);
    for range in memory::ranges(size) {
        if range.start > 0 {
            map.push(usable(range));
            continue;
        }
        map.push(usable(0..range.end.min(CONVENTIONAL_END)));
        if range.end > CONVENTIONAL_END {
            let hole = CONVENTIONAL_END..range.end.min(EXTENDED_START);
            map.push(MapEntry { range: hole, kind: MemoryKind::Reserved });
        }
        if range.end > EXTENDED_START {
            map.push(usable(EXTENDED_START..range.end));
        }
    }
    map
}

/// Returns the memory size, in whole MiB, of a machine that has memory up to `end`.
///
/// Returns `None` if there is no such size: `end` is in the hole, or beyond the physical address space.
pub fn size_reaching(end: u64) -> Option<u64> {
    /// No x86-64 processor has more than 52 bits of physical address.
    const LIMIT: u64 = 1 << 52;
    let size = match end {
        end if end <= HOLE_START => end,
        end if end <= HOLE_END || end > LIMIT => return None,
        end => end - (HOLE_END - HOLE_START),
    };
    Some(size.next_multiple_of(1 << 20))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
