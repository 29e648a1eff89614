//! Multiboot kernels (Multiboot Specification 0.6.96): the header in the image, and the boot information.

use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::elf::Elf;
use super::entry::BootProtocol;
use super::error::BootError;
use super::file::ImageFile;
use super::handover::{Framebuffer, Handover};
use super::image::{Kernel, Segment};
use super::layout::{BOOT_INFORMATION, COMMAND_LINE, CONVENTIONAL_END, EXTENDED_START, MapEntry, MemoryKind};
use crate::memory::{GuestMemory, HOLE_START};

/// The header is in this part of the file.
const SEARCH_LENGTH: usize = 8192;
pub(super) const HEADER_MAGIC: u32 = 0x1bad_b002;
/// The value of EAX at entry.
pub(super) const ENTRY_MAGIC: u32 = 0x2bad_b002;
/// The header asks for a video mode: its kind, width, height and depth follow the addresses.
pub(super) const WANTS_VIDEO: u32 = 1 << 2;
/// The kind of a mode: a linear framebuffer.
const LINEAR: u32 = 0;
/// The header has addresses of its own, which take precedence over those of an ELF header.
pub(super) const HAS_ADDRESSES: u32 = 1 << 16;
/// The low half of the flags are requirements that a loader must support. Of the known ones, page-aligned modules and
/// memory information are always provided; a video mode is only a preference.
const UNKNOWN_WISHES: u32 = 0xfff8;
const FORMAT: &str = "multiboot image";

/// The fields of the header, and its offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    offset: u64,
    flags: u32,
    addresses: Addresses,
    /// The kernel wants to draw into a framebuffer.
    draws: bool,
}

/// The fields that are valid with [`HAS_ADDRESSES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Addresses {
    pub header: u32,
    pub load: u32,
    pub load_end: u32,
    pub bss_end: u32,
    pub entry: u32,
}
const _: () = assert!(size_of::<Addresses>() == 20);

impl Header {
    /// Searches for a header with a valid checksum.
    pub(super) fn find(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(SEARCH_LENGTH)];
        (0..head.len()).step_by(4).find_map(|offset| {
            let ([magic, flags, checksum], rest) = <[u32; 3]>::read_from_prefix(&head[offset..]).ok()?;
            if magic != HEADER_MAGIC || magic.wrapping_add(flags).wrapping_add(checksum) != 0 {
                return None;
            }
            let mode = <[u32; 4]>::read_from_prefix(rest.get(size_of::<Addresses>()..).unwrap_or_default());
            let draws = flags & WANTS_VIDEO != 0 && mode.is_ok_and(|([kind, ..], _)| kind == LINEAR);
            let addresses = match Addresses::read_from_prefix(rest) {
                _ if flags & HAS_ADDRESSES == 0 => Addresses::default(),
                Ok((addresses, _)) => addresses,
                Err(_) => return None,
            };
            Some(Self { offset: offset as u64, flags, addresses, draws })
        })
    }

    /// Returns the segment that the header's own addresses describe.
    fn segment(&self, file: &ImageFile) -> Result<Segment, BootError> {
        let Addresses { header, load, load_end, bss_end, entry } = self.addresses;
        let difference = |what: &str, above: u32, below: u32| {
            let order = || malformed(file, format!("its {what} ({above:#x}) is below {below:#x}"));
            above.checked_sub(below).map(u64::from).ok_or_else(order)
        };
        let before = difference("header_addr", header, load)?;
        let early = || malformed(file, format!("its load_addr ({load:#x}) is before the start of the file"));
        let offset = self.offset.checked_sub(before).ok_or_else(early)?;
        let file_length = match load_end {
            0 => file.length() - offset,
            _ => difference("load_end_addr", load_end, load)?,
        };
        file.require("what its multiboot header loads", offset, file_length)?;
        let memory_length = match bss_end {
            0 => file_length,
            _ => difference("bss_end_addr", bss_end, load)?,
        };
        if memory_length < file_length {
            return Err(malformed(file, format!("its bss_end_addr ({bss_end:#x}) is before the end of its data")));
        }
        if u64::from(entry).checked_sub(load.into()).is_none_or(|at| at >= memory_length) {
            return Err(malformed(
                file,
                format!("its entry_addr ({entry:#x}) is outside of the segment that it loads"),
            ));
        }
        Ok(Segment { what: "the kernel".into(), offset, file_length, address: load.into(), memory_length })
    }
}

/// Returns the segments of a multiboot kernel, according to its multiboot header, or else its ELF header.
pub(super) fn kernel(file: &ImageFile, header: &Header, elf: Option<Elf>) -> Result<Kernel, BootError> {
    let unknown = header.flags & UNKNOWN_WISHES;
    if unknown != 0 {
        return Err(malformed(
            file,
            format!("its header requires features ({unknown:#x}) that multiboot does not have"),
        ));
    }
    let kernel = if header.flags & HAS_ADDRESSES != 0 {
        let segment = header.segment(file)?;
        Kernel::new(BootProtocol::Multiboot, header.addresses.entry.into(), vec![segment])
    } else {
        let neither = || malformed(file, "its header has no addresses, and it is not an ELF file either".into());
        let elf = elf.ok_or_else(neither)?;
        elf.kernel(file, BootProtocol::Multiboot, elf.physical_entry())?
    };
    Ok(Kernel { draws: header.draws, ..kernel })
}

/// Returns the kernel's command line. As with QEMU and GRUB Legacy, it begins with the kernel's name.
pub(super) fn command_line(kernel: &str, arguments: &str) -> String {
    if arguments.is_empty() { kernel.into() } else { format!("{kernel} {arguments}") }
}

/// The multiboot information, section 3.3.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Information {
    pub flags: u32,
    pub memory_lower: u32,
    pub memory_upper: u32,
    pub boot_device: u32,
    pub command_line: u32,
    pub module_count: u32,
    pub modules: u32,
    pub symbols: [u32; 4],
    pub map_length: u32,
    pub map: u32,
    pub drives_length: u32,
    pub drives: u32,
    pub configuration_table: u32,
    pub boot_loader_name: u32,
    pub apm_table: u32,
    pub vbe: [u32; 4],
    pub framebuffer: FramebufferInformation,
}
const _: () = assert!(size_of::<Information>() == 116);

/// The framebuffer in the multiboot information.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct FramebufferInformation {
    pub address: [u32; 2],
    pub pitch: u32,
    pub width: u32,
    pub height: u32,
    /// Bits of a pixel.
    pub depth: u8,
    /// 1: red, green and blue, whose lowest bits and numbers of bits follow.
    pub kind: u8,
    pub colours: [[u8; 2]; 3],
}
const _: () = assert!(size_of::<FramebufferInformation>() == 28);

impl From<Framebuffer> for FramebufferInformation {
    fn from(framebuffer: Framebuffer) -> Self {
        Self {
            address: [framebuffer.address, 0],
            pitch: framebuffer.pitch(),
            width: framebuffer.width.into(),
            height: framebuffer.height.into(),
            depth: 32,
            kind: 1,
            colours: [[16, 8], [8, 8], [0, 8]],
        }
    }
}

/// A module, section 3.3.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Module {
    pub start: u32,
    pub end: u32,
    pub text: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<Module>() == 16);

/// An entry of the memory map, section 3.3. `size` does not include itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(super) struct Memory {
    pub size: u32,
    pub base: u64,
    pub length: u64,
    pub kind: u32,
}
const _: () = assert!(size_of::<Memory>() == 24);

const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;
const HAS_FRAMEBUFFER: u32 = 1 << 12;

/// Writes the information and what it points to. Returns its address, which the kernel gets in EBX.
pub(super) fn write_information(
    memory: &GuestMemory,
    handover: &Handover,
    map: &[MapEntry],
) -> Result<u64, vm_memory::GuestMemoryError> {
    let mut page = vec![0; size_of::<Information>()];
    let mut append = |bytes: &[u8]| {
        let address = BOOT_INFORMATION.start as u32 + page.len() as u32;
        page.extend_from_slice(bytes);
        page.resize(page.len().next_multiple_of(8), 0);
        address
    };
    let map_bytes: Vec<u8> = map.iter().flat_map(|entry| Memory::from(entry).as_bytes().to_vec()).collect();
    let upper_end = map.iter().filter(|entry| is_upper(entry)).map(|entry| entry.range.end).max();
    let mut information = Information {
        flags: HAS_MEMORY | HAS_COMMAND_LINE | HAS_MAP | HAS_LOADER_NAME,
        memory_lower: (CONVENTIONAL_END >> 10) as u32,
        memory_upper: ((upper_end.unwrap_or(EXTENDED_START) - EXTENDED_START) >> 10) as u32,
        command_line: COMMAND_LINE.start as u32,
        map_length: map_bytes.len() as u32,
        map: append(&map_bytes),
        boot_loader_name: append(b"viridian\0"),
        ..Default::default()
    };
    if let Some(framebuffer) = handover.framebuffer {
        information.flags |= HAS_FRAMEBUFFER;
        information.framebuffer = framebuffer.into();
    }
    if let Some(initrd) = &handover.initrd {
        let text = append(&[handover.initrd_name.as_bytes(), b"\0"].concat());
        // Below the hole, so the addresses fit in 32 bits.
        let module = Module { start: initrd.range.start as u32, end: initrd.range.end as u32, text, reserved: 0 };
        information.flags |= HAS_MODULES;
        information.module_count = 1;
        information.modules = append(module.as_bytes());
    }
    page[..size_of::<Information>()].copy_from_slice(information.as_bytes());
    memory.write_slice(&page, GuestAddress(BOOT_INFORMATION.start))?;
    Ok(BOOT_INFORMATION.start)
}

/// Returns `true` if `entry` is the memory between the first mebibyte and the first hole above it.
fn is_upper(entry: &MapEntry) -> bool {
    entry.kind == MemoryKind::Usable && entry.range.start == EXTENDED_START && entry.range.end <= HOLE_START
}

impl From<&MapEntry> for Memory {
    fn from(entry: &MapEntry) -> Self {
        let (base, length) = (entry.range.start, entry.range.end - entry.range.start);
        Self { size: size_of::<Self>() as u32 - 4, base, length, kind: entry.kind as u32 }
    }
}

fn malformed(file: &ImageFile, problem: String) -> BootError {
    BootError::Malformed { file: file.name().into(), format: FORMAT, problem }
}

#[cfg(test)]
#[path = "multiboot_tests.rs"]
mod tests;
