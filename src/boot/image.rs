//! Determines the format of a kernel file.
//!
//! A file can match several formats. The order is:
//!
//! 1. A 64-bit ELF file with a PVH note. The note guarantees that the kernel can be entered that way; Linux since 5.0,
//!    FreeBSD and Xen have it. `e_entry` of such a file is less reliable: in Linux it is the entry of the 64-bit boot
//!    protocol, in others an entry for some loader of their own.
//! 2. A multiboot header, in an ELF file of any class, or with addresses of its own in any file.
//! 3. A 32-bit ELF file with a PVH note.
//! 4. Any other 64-bit ELF file: Linux without a note, entered at `e_entry` by the 64-bit boot protocol.
//! 5. A Linux bzImage, which also looks like a PE executable and a boot sector: entered at its 64-bit entry if it has
//!    one, else at its 32-bit entry.
//!
//! All other files are refused with an error that names their kind, see [`super::foreign`].

use super::entry::BootProtocol;
use super::error::BootError;
use super::file::ImageFile;
use super::layout::COMMAND_LINE;
use super::linux::SetupHeader;
use super::{bzimage, elf, foreign, multiboot};
use crate::memory::HOLE_START;

/// Number of bytes that are examined, up to the volume descriptor of an ISO 9660 image.
const HEAD_LENGTH: usize = 0x9000;

/// One part of a kernel file, and the memory for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its name for messages, with its article.
    pub what: String,
    /// Offset in the file.
    pub offset: u64,
    /// Length in the file.
    pub file_length: u64,
    /// Address in guest memory.
    pub address: u64,
    /// Length in memory: the file's bytes, followed by zeroes. At least `file_length`.
    pub memory_length: u64,
}

impl Segment {
    /// Returns the first address after it.
    pub(super) fn end(&self) -> u64 {
        self.address.saturating_add(self.memory_length)
    }
}

/// A recognised kernel: its segments and its entry.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub protocol: BootProtocol,
    pub segments: Vec<Segment>,
    pub entry: u64,
    /// Maximum length of the command line, without the final NUL.
    pub command_line_limit: u64,
    /// The first address that an initrd must not reach.
    pub initrd_limit: u64,
    /// The file's setup header, which is copied to the zero page of a bzImage.
    pub setup_header: Option<SetupHeader>,
    /// The kernel can be told of a framebuffer.
    pub draws: bool,
    /// A warning about the choice of the protocol.
    pub remark: Option<String>,
}

impl Kernel {
    /// Creates a kernel without requirements for its initrd and command line.
    pub(super) fn new(protocol: BootProtocol, entry: u64, segments: Vec<Segment>) -> Self {
        Self {
            protocol,
            segments,
            entry,
            command_line_limit: COMMAND_LINE.end - COMMAND_LINE.start - 1,
            // PVH and multiboot kernels read only 32 bits of the address.
            initrd_limit: HOLE_START,
            setup_header: None,
            draws: matches!(protocol, BootProtocol::Linux64 | BootProtocol::Linux32),
            remark: None,
        }
    }
}

/// Determines the format of `file`.
pub(super) fn recognise(file: &ImageFile) -> Result<Kernel, BootError> {
    let head = file.head(HEAD_LENGTH)?;
    if let Some(elf) = elf::Elf::recognise(file, &head)? {
        return recognise_elf(file, &head, elf);
    }
    if bzimage::is_one(&head) {
        return bzimage::kernel(file, &head);
    }
    let Some(header) = multiboot::Header::find(&head) else {
        return Err(foreign::refuse(file.name(), file.length(), &head));
    };
    // Boot loaders, and so disk images, contain the magic numbers, too.
    multiboot::kernel(file, &header, None)
        .map_err(|error| foreign::identify(file.name(), file.length(), &head).unwrap_or(error))
}

fn recognise_elf(file: &ImageFile, head: &[u8], elf: elf::Elf) -> Result<Kernel, BootError> {
    let (class, header) = (elf.class, multiboot::Header::find(head));
    if let Some(entry) = elf.pvh_entry.filter(|_| class == elf::Class::Bits64 || header.is_none()) {
        return elf.kernel(file, BootProtocol::Pvh, entry);
    }
    let unread_notes = elf.unread_notes;
    let mut kernel = match header {
        Some(header) => multiboot::kernel(file, &header, Some(elf))?,
        None => enter_bare_elf(file, head, &elf)?,
    };
    if let Some(problem) = unread_notes {
        let protocol = kernel.protocol;
        kernel.remark =
            Some(format!("its ELF notes {problem}, and no PVH entry was found; the protocol used is {protocol}"));
    }
    Ok(kernel)
}

/// Returns the kernel for an ELF file with neither a PVH note nor a multiboot header.
fn enter_bare_elf(file: &ImageFile, head: &[u8], elf: &elf::Elf) -> Result<Kernel, BootError> {
    foreign::refuse_multiboot2(file.name(), head)?;
    if let Some(interpreter) = &elf.interpreter {
        return Err(foreign::refuse_program(file.name(), interpreter));
    }
    if elf.class == elf::Class::Bits32 {
        return Err(BootError::NotAKernel {
            file: file.name().into(),
            what: "a 32-bit ELF file without a multiboot header or PVH note".into(),
            advice:
                "give it one of these in its first 8192 bytes or its notes, or name a 64-bit kernel; for Linux, name \
                     its bzImage"
                    .into(),
        });
    }
    // Linux has no thread-local storage; statically linked programs nearly always have some.
    if elf.thread_local {
        return Err(foreign::refuse_program(file.name(), ""));
    }
    let mut kernel = elf.kernel(file, BootProtocol::Linux64, elf.entry)?;
    kernel.command_line_limit = super::linux::COMMAND_LINE_LIMIT;
    kernel.initrd_limit = super::linux::INITRD_LIMIT;
    let (entry, protocol) = (elf.entry, kernel.protocol);
    kernel.remark = Some(format!(
        "it has neither a PVH note nor a multiboot header; it is entered at {entry:#x} by the {protocol}"
    ));
    Ok(kernel)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
