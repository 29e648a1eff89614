//! The content of the clock's memory as left by a PC's setup program (IBM PC/AT Technical Reference, "Real-Time Clock/CMOS RAM
//! Information"; Bochs and QEMU for what lies above 16 MiB).

use crate::boot::layout::memory_map;
use crate::memory::HOLE_END;

/// Equipment: a coprocessor, a display of 80 columns in colour. No drives for diskettes. See also the BIOS data area.
const EQUIPMENT: u8 = 1 << 1 | 0b10 << 4;
const BASE_KIBIBYTES: u16 = 640;
const MIB: u64 = 1 << 20;

/// Returns the memory of a machine with `memory_size` bytes. The clock's own registers are zero.
///
/// No diskettes (0x10), no disks (0x12), no shutdown reason (0x0f), no diagnosis (0x0e).
pub(super) fn memory(memory_size: u64) -> [u8; 128] {
    let mut memory = [0; 128];
    let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
    let map = memory_map(memory_size);
    let length_from =
        |start: u64| map.iter().find(|entry| entry.range.contains(&start)).map_or(0, |entry| entry.range.end - start);
    let bounded = |size: u64| u16::try_from(size).unwrap_or(u16::MAX).to_le_bytes();

    put(0x14, &[EQUIPMENT]);
    put(0x15, &BASE_KIBIBYTES.to_le_bytes());
    // In KiB above 1 MiB, twice: as configured in setup, and as found by the self-test.
    let extended = bounded(length_from(MIB) >> 10);
    put(0x17, &extended);
    put(0x30, &extended);
    // In units of 64 KiB: above 16 MiB, and above 4 GiB with a byte more.
    put(0x34, &bounded(length_from(16 * MIB) >> 16));
    let high = (length_from(HOLE_END) >> 16).min(0xff_ffff);
    put(0x5b, &high.to_le_bytes()[..3]);
    let sum: u16 = memory[0x10..0x2e].iter().map(|byte| u16::from(*byte)).sum();
    memory[0x2e..0x30].copy_from_slice(&sum.to_be_bytes());
    memory
}

#[cfg(test)]
#[path = "cmos_tests.rs"]
mod tests;
