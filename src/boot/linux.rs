//! The zero page of the 64-bit and 32-bit boot protocols (Linux, Documentation/x86/boot.rst and zero-page.rst).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, screen_info, setup_header};
use vm_memory::{Bytes, GuestAddress};

use super::handover::{Framebuffer, Handover};
use super::layout::{ACPI_TABLES, BOOT_INFORMATION, COMMAND_LINE, EXTENDED_START, MapEntry};
use crate::memory::{GuestMemory, PAGE_SIZE};

/// The part of the zero page that a bzImage contains.
pub(super) type SetupHeader = setup_header;

const _: () = assert!(size_of::<boot_params>() as u64 == PAGE_SIZE);
const _: () = assert!(BOOT_INFORMATION.end - BOOT_INFORMATION.start >= PAGE_SIZE);

/// `COMMAND_LINE_SIZE` of x86 Linux, minus the NUL, for kernels that do not state their limit.
pub(super) const COMMAND_LINE_LIMIT: u64 = 2047;
/// The highest address of an initrd in every x86-64 Linux, for files that do not state it.
pub(super) const INITRD_LIMIT: u64 = 0x8000_0000;

/// "HdrS": a setup header of boot protocol 2.00 or later.
pub(super) const HEADER_MAGIC: u32 = 0x5372_6448;
/// The boot sector's signature before it.
pub(super) const BOOT_FLAG: u16 = 0xaa55;
/// Boot protocol 2.12, the first with `xloadflags`.
pub(super) const PROTOCOL_2_12: u16 = 0x20c;
/// `type_of_loader` for a loader without a number.
const LOADER_UNDEFINED: u8 = 0xff;
/// `loadflags`: the protected-mode code is above 1 MiB.
pub(super) const LOADED_HIGH: u8 = 1 << 0;

/// `orig_video_isVGA`: a framebuffer that firmware has set up, as UEFI does. Linux then takes it without further questions (its
/// drivers/firmware/sysfb.c and drivers/video/fbdev/efifb.c).
const VIDEO_TYPE_EFI: u8 = 0x70;

/// Returns the setup header for a kernel that has none: an ELF file.
fn default_header() -> SetupHeader {
    SetupHeader {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        version: PROTOCOL_2_12,
        loadflags: LOADED_HIGH,
        ..Default::default()
    }
}

/// Writes the zero page. Returns its address, which the kernel gets in RSI (ESI).
pub(super) fn write_zero_page(
    memory: &GuestMemory,
    header: Option<SetupHeader>,
    handover: &Handover,
    map: &[MapEntry],
) -> Result<u64, vm_memory::GuestMemoryError> {
    let mut header = header.unwrap_or_else(default_header);
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = COMMAND_LINE.start as u32;
    let mut page = boot_params { acpi_rsdp_addr: ACPI_TABLES.start, ..Default::default() };
    if let Some(initrd) = &handover.initrd {
        // Always below the hole, so both fit in 32 bits.
        header.ramdisk_image = initrd.range.start as u32;
        header.ramdisk_size = (initrd.range.end - initrd.range.start) as u32;
    }
    page.hdr = header;
    // The results of BIOS calls 0x88 and 0xe801, for kernels that do not use the memory map.
    let upper = map.iter().find(|entry| entry.range.start == EXTENDED_START).map_or(0..0, |entry| entry.range.clone());
    let upper_kibibytes = (upper.end - upper.start) >> 10;
    page.screen_info.ext_mem_k = upper_kibibytes.min(0xfc00) as u16;
    page.alt_mem_k = upper_kibibytes as u32;
    if let Some(framebuffer) = &handover.framebuffer {
        page.screen_info = screen_info { ext_mem_k: page.screen_info.ext_mem_k, ..describe(framebuffer) };
    }
    page.e820_entries = map.len() as u8;
    for (index, entry) in map.iter().enumerate() {
        let (addr, size) = (entry.range.start, entry.range.end - entry.range.start);
        page.e820_table[index] = boot_e820_entry { addr, size, r#type: entry.kind as u32 };
    }
    memory.write_obj(page, GuestAddress(BOOT_INFORMATION.start))?;
    Ok(BOOT_INFORMATION.start)
}

/// Returns the framebuffer as the zero page describes it.
fn describe(framebuffer: &Framebuffer) -> screen_info {
    screen_info {
        orig_video_isVGA: VIDEO_TYPE_EFI,
        lfb_base: framebuffer.address,
        lfb_size: framebuffer.length(),
        lfb_width: framebuffer.width,
        lfb_height: framebuffer.height,
        lfb_depth: 32,
        // A screen has at most 7680 pixels in a line, so this fits.
        lfb_linelength: framebuffer.pitch() as u16,
        blue_size: 8,
        green_size: 8,
        green_pos: 8,
        red_size: 8,
        red_pos: 16,
        rsvd_size: 8,
        rsvd_pos: 24,
        ..Default::default()
    }
}
