//! ELF files of both classes (System V ABI, chapters 4 and 5), and the Xen note by which a kernel offers a PVH entry.
//!
//! linux-loader has a loader for ELF files. It takes neither 32-bit files nor notes with an 8-byte alignment, does not look
//! at class, machine or type, and reads segments that lie over one another as often as they are named.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::entry::Protocol;
use super::error::BootError;
use super::file::ImageFile;
use super::foreign;
use super::image::{Kernel, Segment};

/// `Elf64_Ehdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header64 {
    pub ident: [u8; 16],
    pub kind: u16,
    pub machine: u16,
    pub version: u32,
    pub entry: u64,
    pub program_offset: u64,
    pub section_offset: u64,
    pub flags: u32,
    pub header_size: u16,
    pub program_size: u16,
    pub program_count: u16,
    pub section_size: u16,
    pub section_count: u16,
    pub name_section: u16,
}
const _: () = assert!(size_of::<Header64>() == 64);

/// `Elf32_Ehdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header32 {
    pub ident: [u8; 16],
    pub kind: u16,
    pub machine: u16,
    pub version: u32,
    pub entry: u32,
    pub program_offset: u32,
    pub section_offset: u32,
    pub flags: u32,
    pub header_size: u16,
    pub program_size: u16,
    pub program_count: u16,
    pub section_size: u16,
    pub section_count: u16,
    pub name_section: u16,
}
const _: () = assert!(size_of::<Header32>() == 52);

/// `Elf64_Phdr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Program64 {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub virtual_address: u64,
    pub physical_address: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub alignment: u64,
}
const _: () = assert!(size_of::<Program64>() == 56);

/// `Elf32_Phdr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Program32 {
    pub kind: u32,
    pub offset: u32,
    pub virtual_address: u32,
    pub physical_address: u32,
    pub file_size: u32,
    pub memory_size: u32,
    pub flags: u32,
    pub alignment: u32,
}
const _: () = assert!(size_of::<Program32>() == 32);

/// `Elf32_Nhdr` and `Elf64_Nhdr`, which are the same.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct NoteHeader {
    pub name_size: u32,
    pub content_size: u32,
    pub kind: u32,
}
const _: () = assert!(size_of::<NoteHeader>() == 12);

pub(super) const MAGIC: &[u8] = b"\x7fELF";
pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_INTERP: u32 = 3;
pub(super) const PT_NOTE: u32 = 4;
pub(super) const PT_TLS: u32 = 7;
pub(super) const MACHINE_386: u16 = 3;
pub(super) const MACHINE_X86_64: u16 = 62;
/// `XEN_ELFNOTE_PHYS32_ENTRY` of Xen's public/elfnote.h: the physical address of the PVH entry.
pub(super) const XEN_PHYS32_ENTRY: u32 = 18;

/// A linker makes a dozen at most; a file may not make us hold more.
const MAX_PROGRAM_HEADERS: u16 = 128;
/// Linux has less than 1 KiB of notes.
const MAX_NOTES_LENGTH: u64 = 64 << 10;
const FORMAT: &str = "ELF file";

/// The file's word size, `EI_CLASS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Bits32,
    Bits64,
}

/// What booting needs to know of an ELF file.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    pub class: Class,
    pub entry: u64,
    pub pvh_entry: Option<u64>,
    /// Whether it has thread-local storage.
    pub thread_local: bool,
    /// The segments that want memory.
    pub loads: Vec<Program64>,
}

/// The fields of either header that are used.
struct Header {
    class: Class,
    entry: u64,
    program_offset: u64,
    program_size: u16,
    program_count: u16,
}

impl Elf {
    /// Reads the headers of `file` if it is an ELF file, and refuses one that no x86 machine can start.
    pub(super) fn recognise(file: &ImageFile, head: &[u8]) -> Result<Option<Self>, BootError> {
        if !head.starts_with(MAGIC) {
            return Ok(None);
        }
        let header = Header::read(file, head)?;
        let programs = header.programs(file)?;
        if programs.iter().any(|program| program.kind == PT_INTERP) {
            return Err(foreign::refuse_program(file.name()));
        }
        let mut elf =
            Self { class: header.class, entry: header.entry, pvh_entry: None, thread_local: false, loads: Vec::new() };
        for program in programs {
            match program.kind {
                PT_LOAD if program.memory_size > 0 => {
                    file.require(&format!("segment {}", elf.loads.len()), program.offset, program.file_size)?;
                    elf.loads.push(program);
                }
                PT_NOTE if elf.pvh_entry.is_none() && program.file_size <= MAX_NOTES_LENGTH => {
                    file.require("the segment of notes", program.offset, program.file_size)?;
                    let mut notes = vec![0; program.file_size as usize];
                    file.read(program.offset, &mut notes)?;
                    elf.pvh_entry = find_pvh_entry(&notes, program.alignment);
                }
                PT_TLS => elf.thread_local = true,
                _ => {}
            }
        }
        Ok(Some(elf))
    }

    /// The kernel that this file is, entered at the physical address `entry`.
    pub(super) fn kernel(&self, file: &ImageFile, protocol: Protocol, entry: u64) -> Result<Kernel, BootError> {
        let mut segments = Vec::with_capacity(self.loads.len());
        for (index, load) in self.loads.iter().enumerate() {
            if load.memory_size < load.file_size {
                let (in_file, in_memory) = (load.file_size, load.memory_size);
                return Err(malformed(file, format!("segment {index} has {in_file} bytes for {in_memory} of memory")));
            }
            if load.physical_address.checked_add(load.memory_size).is_none() {
                return Err(malformed(file, format!("segment {index} wraps around the end of the address space")));
            }
            segments.push(Segment {
                what: format!("the kernel's segment {index}"),
                offset: load.offset,
                file_length: load.file_size,
                address: load.physical_address,
                memory_length: load.memory_size,
            });
        }
        let holds_entry =
            |segment: &Segment| entry.checked_sub(segment.address).is_some_and(|at| at < segment.memory_length);
        if !segments.iter().any(holds_entry) {
            return Err(malformed(file, format!("no loaded segment holds its {protocol} entry {entry:#x}")));
        }
        if entry > u64::from(u32::MAX) {
            return Err(malformed(file, format!("its {protocol} entry {entry:#x} is not below 4 GiB")));
        }
        Ok(Kernel::new(protocol, entry, segments))
    }

    /// The physical address of the virtual address `e_entry`, or `e_entry` itself if it is not one.
    ///
    /// The System V ABI has virtual addresses there, and GRUB takes it at its word; a kernel that is linked to
    /// high addresses but starts at low ones has the latter there as a rule.
    pub(super) fn physical_entry(&self) -> u64 {
        let offset_in =
            |load: &Program64| self.entry.checked_sub(load.virtual_address).filter(|at| *at < load.memory_size);
        let translate = |load: &Program64| offset_in(load).and_then(|at| load.physical_address.checked_add(at));
        self.loads.iter().find_map(translate).unwrap_or(self.entry)
    }
}

impl Header {
    fn read(file: &ImageFile, head: &[u8]) -> Result<Self, BootError> {
        file.require("the ELF identification", 0, 16)?;
        let big_endian = match head[5] {
            1 => false,
            2 => true,
            encoding => return Err(malformed(file, format!("its data encoding is {encoding}"))),
        };
        file.require("the ELF header", 0, size_of::<Header32>() as u64)?;
        let word = |at: usize| {
            let bytes = [head[at], head[at + 1]];
            if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
        };
        let (kind, machine) = (word(16), word(18));
        if big_endian || ![MACHINE_386, MACHINE_X86_64].contains(&machine) {
            return Err(foreign::refuse_machine(file.name(), machine));
        }
        foreign::refuse_elf_kind(file.name(), kind)?;
        match head[4] {
            1 => Self::read32(file, head),
            2 => Self::read64(file, head),
            class => Err(malformed(file, format!("its class is {class}"))),
        }
    }

    fn read32(file: &ImageFile, head: &[u8]) -> Result<Self, BootError> {
        let (header, _) = Header32::read_from_prefix(head).map_err(|_| short(file))?;
        Ok(Self {
            class: Class::Bits32,
            entry: header.entry.into(),
            program_offset: header.program_offset.into(),
            program_size: header.program_size,
            program_count: header.program_count,
        })
    }

    fn read64(file: &ImageFile, head: &[u8]) -> Result<Self, BootError> {
        file.require("the ELF header", 0, size_of::<Header64>() as u64)?;
        let (header, _) = Header64::read_from_prefix(head).map_err(|_| short(file))?;
        Ok(Self {
            class: Class::Bits64,
            entry: header.entry,
            program_offset: header.program_offset,
            program_size: header.program_size,
            program_count: header.program_count,
        })
    }

    /// The program headers, those of 32-bit files widened.
    fn programs(&self, file: &ImageFile) -> Result<Vec<Program64>, BootError> {
        let expected = match self.class {
            Class::Bits32 => size_of::<Program32>(),
            Class::Bits64 => size_of::<Program64>(),
        };
        let (size, count) = (self.program_size, self.program_count);
        if count == 0 {
            return Err(malformed(file, "it has no program headers, so nothing to load".into()));
        }
        if usize::from(size) != expected {
            return Err(malformed(file, format!("its program headers have {size} bytes, not {expected}")));
        }
        if count > MAX_PROGRAM_HEADERS {
            return Err(malformed(file, format!("it has {count} program headers, more than {MAX_PROGRAM_HEADERS}")));
        }
        let mut table = vec![0; expected * usize::from(count)];
        file.require("the program header table", self.program_offset, table.len() as u64)?;
        file.read(self.program_offset, &mut table)?;
        let read = |bytes: &[u8]| match self.class {
            Class::Bits32 => Program32::read_from_bytes(bytes).map(Program64::from).ok(),
            Class::Bits64 => Program64::read_from_bytes(bytes).ok(),
        };
        Ok(table.chunks_exact(expected).filter_map(read).collect())
    }
}

impl From<Program32> for Program64 {
    fn from(program: Program32) -> Self {
        Self {
            kind: program.kind,
            flags: program.flags,
            offset: program.offset.into(),
            virtual_address: program.virtual_address.into(),
            physical_address: program.physical_address.into(),
            file_size: program.file_size.into(),
            memory_size: program.memory_size.into(),
            alignment: program.alignment.into(),
        }
    }
}

/// Looks for the PVH entry in a segment of notes (System V ABI, "Note Section"; Xen, docs/misc/pvh.pandoc).
///
/// Names and contents are padded to 4 bytes, or to 8 where the segment says so. Linux writes the address
/// with 8 bytes, others with 4. Notes that do not add up end the search.
fn find_pvh_entry(notes: &[u8], alignment: u64) -> Option<u64> {
    let alignment = if alignment == 8 { 8 } else { 4 };
    let mut rest = notes;
    loop {
        let (header, body) = NoteHeader::read_from_prefix(rest).ok()?;
        let name = body.get(..header.name_size as usize)?;
        // Padding counts from the note's start, whose header has 12 bytes.
        let content_start = (size_of::<NoteHeader>() + name.len()).next_multiple_of(alignment);
        let content_end = content_start.checked_add(header.content_size as usize)?;
        let content = rest.get(content_start..content_end)?;
        if header.kind == XEN_PHYS32_ENTRY && name == b"Xen\0" {
            return match content.len() {
                4 => Some(u32::from_le_bytes(content.try_into().ok()?).into()),
                8 => Some(u64::from_le_bytes(content.try_into().ok()?)),
                _ => None,
            };
        }
        rest = rest.get(content_end.next_multiple_of(alignment)..)?;
    }
}

fn malformed(file: &ImageFile, problem: String) -> BootError {
    BootError::Malformed { file: file.name().into(), format: FORMAT, problem }
}

fn short(file: &ImageFile) -> BootError {
    malformed(file, "its header is short".into())
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
