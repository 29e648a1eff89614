//! The BIOS data area (IBM PC/AT Technical Reference, "BIOS Data Areas"), as after a start without keyboard, printer
//! and disk.

use crate::boot::layout::{BIOS_DATA_AREA, CONVENTIONAL_END, EXTENDED_START, SERIAL_PORT, VIDEO_PORT};

/// Size of the extended BIOS data area, which is stored in its first byte.
pub(super) const EXTENDED_KIBIBYTES: u8 = 1;
const _: () = assert!(CONVENTIONAL_END + ((EXTENDED_KIBIBYTES as u64) << 10) == 0xa_0000);
const _: () = assert!(CONVENTIONAL_END.is_multiple_of(1 << 10) && CONVENTIONAL_END < EXTENDED_START);

/// Equipment: a coprocessor, a display with 80 columns in colour, one serial port, no diskette drives.
pub(super) const EQUIPMENT: u16 = 1 << 1 | 0b10 << 4 | 1 << 9;
/// Start and end of the keyboard buffer for 16 keys, relative to the area's start. The buffer is empty.
const KEYS: (u16, u16) = (0x1e, 0x3e);
/// The interval timer's frequency in Hz, and the number of its counts per tick.
const TIMER: (u64, u64) = (1_193_182, 65_536);

/// Builds the area for this number of seconds after midnight.
pub(super) fn data_area(seconds: u64) -> Vec<u8> {
    let mut area = vec![0; (BIOS_DATA_AREA.end - BIOS_DATA_AREA.start) as usize];
    let mut put = |offset: usize, bytes: &[u8]| area[offset..offset + bytes.len()].copy_from_slice(bytes);
    let ticks = (seconds * TIMER.0 / TIMER.1) as u32;
    let extended_segment = (CONVENTIONAL_END >> 4) as u16;
    let conventional_kibibytes = (CONVENTIONAL_END >> 10) as u16;

    put(0x00, &SERIAL_PORT.to_le_bytes());
    put(0x0e, &extended_segment.to_le_bytes());
    put(0x10, &EQUIPMENT.to_le_bytes());
    put(0x13, &conventional_kibibytes.to_le_bytes());
    // Next key and next free place of the keyboard buffer.
    put(0x1a, &KEYS.0.to_le_bytes());
    put(0x1c, &KEYS.0.to_le_bytes());
    // Video mode 3, 80 columns, 4 KiB per page.
    put(0x49, &[3, 80, 0, 0, 0x10]);
    // Last and first line of the cursor, the active page, the video controller's port, its mode and palette.
    put(0x60, &[7, 6, 0]);
    put(0x63, &VIDEO_PORT.to_le_bytes());
    put(0x65, &[0x29, 0x30]);
    put(0x6c, &ticks.to_le_bytes());
    // No hard disk at 0x75. Timeouts of three printers and four serial ports.
    put(0x78, &[0x14, 0x14, 0x14, 0, 1, 1, 1, 1]);
    put(0x80, &KEYS.0.to_le_bytes());
    put(0x82, &KEYS.1.to_le_bytes());
    // The last row, and the height of a character.
    put(0x84, &[24, 16, 0]);
    area
}
