//! The Linux bzImage: setup sectors, then the compressed kernel with its 64-bit entry (Linux, Documentation/x86/boot.rst).
//!
//! linux-loader has a loader for it, which takes whatever follows the setup sectors for the kernel and so
//! neither notices a file that is cut off nor leaves a signature at its end alone. The types are used from there.

use vm_memory::ByteValued;

use super::entry::Protocol;
use super::error::BootError;
use super::file::ImageFile;
use super::image::{Kernel, Segment};
use super::layout::COMMAND_LINE;
use super::linux::{BOOT_FLAG, HEADER_MAGIC, PROTOCOL_2_12, SetupHeader};

const SECTOR: u64 = 512;
/// Where the setup header is in the file, and in the zero page.
pub(super) const HEADER_OFFSET: usize = 0x1f1;
/// The header ends this much after the offset in its jump instruction's second byte.
const JUMP_END: usize = 0x202;
/// The 64-bit entry, counted from the start of the protected-mode code.
const ENTRY_64: u64 = 0x200;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
const FORMAT: &str = "Linux bzImage";

/// Whether a file that starts so is a bzImage of any age.
pub(super) fn is_one(head: &[u8]) -> bool {
    head.get(0x1fe..0x200) == Some(&BOOT_FLAG.to_le_bytes())
        && head.get(0x202..0x206) == Some(&HEADER_MAGIC.to_le_bytes())
}

/// Where the parts of a bzImage go.
pub(super) fn kernel(file: &ImageFile, head: &[u8]) -> Result<Kernel, BootError> {
    file.require("the setup header", HEADER_OFFSET as u64, size_of::<SetupHeader>() as u64)?;
    let header = read_header(head);
    let (version, flags) = (header.version, header.xloadflags);
    if version < PROTOCOL_2_12 || flags & XLF_KERNEL_64 == 0 {
        return Err(BootError::NotAKernel {
            file: file.name().into(),
            what: format!(
                "a Linux bzImage (boot protocol {}.{:02}) without a 64-bit entry",
                version >> 8,
                version & 0xff
            ),
            advice: "name a kernel built for x86-64, Linux 3.8 or later".into(),
        });
    }
    let malformed = |problem| BootError::Malformed { file: file.name().into(), format: FORMAT, problem };

    // A count of 0 means 4, for the sake of loaders from before boot protocol 2.00.
    let sectors = if header.setup_sects == 0 { 4 } else { u64::from(header.setup_sects) };
    let offset = (sectors + 1) * SECTOR;
    let stated = u64::from(header.syssize) * 16;
    // The size counts units of 16 bytes; a kernel may end within the last.
    file.require("the protected-mode code", offset, stated.saturating_sub(15))?;
    let length = stated.min(file.length() - offset);
    if length <= ENTRY_64 {
        return Err(malformed(format!("its protected-mode code has {length} bytes, so no 64-bit entry")));
    }

    let address = header.pref_address;
    let memory_length = length.max(header.init_size.into());
    if address.checked_add(memory_length).is_none_or(|end| end > u64::from(u32::MAX)) {
        return Err(malformed(format!("it wants {memory_length} bytes at {address:#x}, not below 4 GiB")));
    }
    let segment = Segment { what: "the kernel".into(), offset, file_length: length, address, memory_length };
    Ok(Kernel {
        command_line_limit: u64::from(header.cmdline_size).min(COMMAND_LINE.end - COMMAND_LINE.start - 1),
        initrd_limit: u64::from(header.initrd_addr_max) + 1,
        setup_header: Some(header),
        ..Kernel::new(Protocol::Linux64, address + ENTRY_64, vec![segment])
    })
}

/// The setup header, as far as this kernel's boot protocol has one; the rest stays zero, as the protocol asks.
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
