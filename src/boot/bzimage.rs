//! The Linux bzImage: setup sectors, followed by the compressed kernel (Linux, Documentation/x86/boot.rst).
//!
//! A kernel for x86-64 since Linux 3.8 states that it has a 64-bit entry, and is entered there. All others are entered
//! by the 32-bit protocol: 32-bit kernels, older ones, and programs that only look like Linux, such as memtest86+.
//!
//! linux-loader's loader treats everything after the setup sectors as the kernel. So it neither detects truncated files
//! nor skips a signature at the end. Only its types are used here.

use vm_memory::ByteValued;

use super::entry::BootProtocol;
use super::error::BootError;
use super::file::ImageFile;
use super::image::{Kernel, Segment};
use super::layout::COMMAND_LINE;
use super::linux::{BOOT_FLAG, HEADER_MAGIC, LOADED_HIGH, PROTOCOL_2_12, SetupHeader};

const SECTOR: u64 = 512;
/// Offset of the setup header in the file, and in the zero page.
pub(super) const HEADER_OFFSET: usize = 0x1f1;
/// The header ends this many bytes after the offset in the second byte of its jump instruction.
const JUMP_END: usize = 0x202;
/// The 64-bit entry, relative to the start of the protected-mode code.
const ENTRY_64: u64 = 0x200;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
/// The address of kernels that do not specify one, and the base of `code32_start`.
const LOAD_HIGH: u64 = 0x10_0000;
/// The first protocol that passes the command line by a pointer.
const PROTOCOL_2_02: u16 = 0x202;
/// The first protocol with `initrd_addr_max`, and the limit in older ones.
const PROTOCOL_2_03: u16 = 0x203;
const INITRD_LIMIT_BEFORE: u64 = 0x3800_0000;
/// The first protocol with `cmdline_size`, and the limit in older ones.
const PROTOCOL_2_06: u16 = 0x206;
const COMMAND_LINE_LIMIT_BEFORE: u64 = 255;
/// The first protocol with `pref_address` and `init_size`.
const PROTOCOL_2_10: u16 = 0x20a;
const FORMAT: &str = "Linux bzImage";

/// Returns `true` if a file that starts with `head` is a bzImage of any version.
pub(super) fn is_one(head: &[u8]) -> bool {
    head.get(0x1fe..0x200) == Some(&BOOT_FLAG.to_le_bytes())
        && head.get(0x202..0x206) == Some(&HEADER_MAGIC.to_le_bytes())
}

/// Returns the segments of a bzImage.
pub(super) fn kernel(file: &ImageFile, head: &[u8]) -> Result<Kernel, BootError> {
    file.require("the setup header", HEADER_OFFSET as u64, size_of::<SetupHeader>() as u64)?;
    let mut header = read_header(head);
    let (version, flags) = (header.version, header.xloadflags);
    if version < PROTOCOL_2_02 {
        return Err(BootError::NotAKernel {
            file: file.name().into(),
            what: format!(
                "a Linux kernel of boot protocol {}.{:02}, which only a BIOS can start, in real mode",
                version >> 8,
                version & 0xff
            ),
            advice: "use a kernel of Linux 2.4 or later".into(),
        });
    }
    let malformed = |problem| BootError::Malformed { file: file.name().into(), format: FORMAT, problem };

    // A count of 0 means 4, for compatibility with loaders before boot protocol 2.00.
    let sectors = if header.setup_sects == 0 { 4 } else { u64::from(header.setup_sects) };
    let offset = (sectors + 1) * SECTOR;
    let stated = u64::from(header.syssize) * 16;
    // The size is in units of 16 bytes. The kernel can end within the last unit.
    file.require("the protected-mode code", offset, stated.saturating_sub(15))?;
    let length = stated.min(file.length() - offset);
    let has_64_bit_entry = version >= PROTOCOL_2_12 && flags & XLF_KERNEL_64 != 0;
    if has_64_bit_entry && length <= ENTRY_64 {
        return Err(malformed(format!("its protected-mode code of {length} bytes is too short for a 64-bit entry")));
    }

    let (address, entry) = if has_64_bit_entry {
        (header.pref_address, header.pref_address.saturating_add(ENTRY_64))
    } else {
        place_32(&header)
    };
    let memory_length = length.max(header.init_size.into());
    if address.checked_add(memory_length).is_none_or(|end| end > u64::from(u32::MAX)) {
        return Err(malformed(format!("it needs {memory_length} bytes at {address:#x}, which is not below 4 GiB")));
    }
    if !(address..address + length).contains(&entry) {
        return Err(malformed(format!("its entry {entry:#x} is outside of the code, which is loaded at {address:#x}")));
    }
    let protocol = if has_64_bit_entry { BootProtocol::Linux64 } else { BootProtocol::Linux32 };
    if protocol == BootProtocol::Linux32 {
        // Below 4 GiB, as checked above.
        header.code32_start = entry as u32;
    }
    let command_line_limit =
        if version < PROTOCOL_2_06 { COMMAND_LINE_LIMIT_BEFORE } else { header.cmdline_size.into() };
    let initrd_limit =
        if version < PROTOCOL_2_03 { INITRD_LIMIT_BEFORE } else { u64::from(header.initrd_addr_max) + 1 };
    let segment = Segment { what: "the kernel".into(), offset, file_length: length, address, memory_length };
    Ok(Kernel {
        command_line_limit: command_line_limit.min(COMMAND_LINE.end - COMMAND_LINE.start - 1),
        initrd_limit,
        setup_header: Some(header),
        ..Kernel::new(protocol, entry, vec![segment])
    })
}

/// Returns the address of a kernel that is entered by the 32-bit protocol, and its entry.
fn place_32(header: &SetupHeader) -> (u64, u64) {
    let start = u64::from(header.code32_start);
    if header.loadflags & LOADED_HIGH == 0 {
        // The setup code of a zImage would move it down to its start address.
        return (start, start);
    }
    let (version, preferred) = (header.version, header.pref_address);
    let address = if version >= PROTOCOL_2_10 && preferred != 0 { preferred } else { LOAD_HIGH };
    (address, address.saturating_add(start.saturating_sub(LOAD_HIGH)))
}

/// Returns the setup header, as far as this kernel's boot protocol defines it. The rest is zero, as the protocol
/// requires.
fn read_header(head: &[u8]) -> SetupHeader {
    let mut header = SetupHeader::default();
    let end = JUMP_END + usize::from(head[JUMP_END - 1]);
    let bytes = head.get(HEADER_OFFSET..end).unwrap_or(&head[HEADER_OFFSET..]);
    let length = bytes.len().min(size_of::<SetupHeader>());
    header.as_mut_slice()[..length].copy_from_slice(&bytes[..length]);
    header
}

#[cfg(test)]
#[path = "bzimage_tests.rs"]
mod tests;
