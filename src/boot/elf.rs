//! ELF files of both classes (System V ABI, chapters 4 and 5), and the Xen note with a kernel's PVH entry.
//!
//! linux-loader's ELF loader accepts neither 32-bit files nor notes with an 8-byte alignment, does not check class,
//! machine or type, and reads overlapping segments repeatedly.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::entry::BootProtocol;
use super::error::BootError;
use super::file::ImageFile;
use super::image::{Kernel, Segment};
use super::{foreign, notes};

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

pub(super) const MAGIC: &[u8] = b"\x7fELF";
pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_INTERP: u32 = 3;
pub(super) const PT_NOTE: u32 = 4;
pub(super) const PT_TLS: u32 = 7;
pub(super) const MACHINE_386: u16 = 3;
pub(super) const MACHINE_X86_64: u16 = 62;

/// Limit on the memory that a file can use. Linkers create at most a dozen.
const MAX_PROGRAM_HEADERS: u16 = 128;
/// Linux has about 40 sections; compilers that give each function its own section create thousands.
const MAX_SECTION_HEADERS: u16 = 4096;
/// Linux has less than 1 KiB of notes.
const MAX_NOTES_LENGTH: u64 = 64 << 10;
const FORMAT: &str = "ELF file";

/// The file's word size, `EI_CLASS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Bits32,
    Bits64,
}

/// The parts of an ELF file that booting needs.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    pub class: Class,
    pub entry: u64,
    pub pvh_entry: Option<u64>,
    /// The reason why a PVH note, if there is one, could not be read.
    pub unread_notes: Option<&'static str>,
    /// The interpreter of a program. Kernels can have one, too: every Solo5 unikernel names one that does not exist.
    pub interpreter: Option<String>,
    /// Whether it has thread-local storage.
    pub thread_local: bool,
    /// The segments to load.
    pub loads: Vec<Program64>,
}

/// The fields that are used of either header.
struct Header {
    class: Class,
    entry: u64,
    program_offset: u64,
    program_size: u16,
    program_count: u16,
    section_offset: u64,
    section_size: u16,
    section_count: u16,
}

impl Elf {
    /// Parses the headers of `file` if it is an ELF file. Refuses files that no x86 machine can boot.
    pub(super) fn recognise(file: &ImageFile, head: &[u8]) -> Result<Option<Self>, BootError> {
        if !head.starts_with(MAGIC) {
            return Ok(None);
        }
        let header = Header::read(file, head)?;
        let programs = header.programs(file)?;
        let mut elf = Self {
            class: header.class,
            entry: header.entry,
            pvh_entry: None,
            unread_notes: None,
            interpreter: None,
            thread_local: false,
            loads: Vec::new(),
        };
        for program in programs {
            match program.kind {
                PT_LOAD if program.memory_size > 0 => {
                    file.require(&format!("segment {}", elf.loads.len()), program.offset, program.file_size)?;
                    elf.loads.push(program);
                }
                PT_NOTE => {
                    file.require("the segment of notes", program.offset, program.file_size)?;
                    elf.read_notes(file, program.offset, program.file_size, program.alignment)?;
                }
                PT_INTERP => elf.interpreter = Some(read_interpreter(file, &program)),
                PT_TLS => elf.thread_local = true,
                _ => {}
            }
        }
        if elf.pvh_entry.is_none() {
            for section in header.note_sections(file) {
                elf.read_notes(file, section.offset, section.size, section.alignment)?;
            }
        }
        Ok(Some(elf))
    }

    /// Searches for a PVH entry in a part of the file that contains notes.
    fn read_notes(&mut self, file: &ImageFile, offset: u64, length: u64, alignment: u64) -> Result<(), BootError> {
        if self.pvh_entry.is_some() {
            return Ok(());
        }
        if length > MAX_NOTES_LENGTH {
            self.unread_notes = Some("are longer than 64 KiB, of which only the first are read");
        }
        let mut notes = vec![0; length.min(MAX_NOTES_LENGTH) as usize];
        file.read(offset, &mut notes)?;
        match notes::find_pvh_entry(&notes, alignment) {
            Ok(Some(entry)) => (self.pvh_entry, self.unread_notes) = (Some(entry), None),
            Ok(None) => {}
            Err(problem) => self.unread_notes = self.unread_notes.or(Some(problem)),
        }
        Ok(())
    }

    /// Returns the kernel in this file, with the physical address `entry` as its entry.
    pub(super) fn kernel(&self, file: &ImageFile, protocol: BootProtocol, entry: u64) -> Result<Kernel, BootError> {
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

    /// Returns the physical address of the virtual address `e_entry`, or `e_entry` itself if it is not one.
    ///
    /// By the System V ABI, it is a virtual address, and GRUB treats it as such. But in kernels that are linked to high
    /// addresses and start at low ones, it is usually a physical address.
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
            section_offset: header.section_offset.into(),
            section_size: header.section_size,
            section_count: header.section_count,
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
            section_offset: header.section_offset,
            section_size: header.section_size,
            section_count: header.section_count,
        })
    }

    /// Returns the program headers. Those of 32-bit files are converted to 64 bits.
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

    /// Returns the note sections, for a file without a note segment. Loading does not need sections, so an unreadable
    /// table counts as empty.
    fn note_sections(&self, file: &ImageFile) -> Vec<NoteSection> {
        let expected = match self.class {
            Class::Bits32 => 40,
            Class::Bits64 => 64,
        };
        if usize::from(self.section_size) != expected || self.section_count > MAX_SECTION_HEADERS {
            return Vec::new();
        }
        let mut table = vec![0; expected * usize::from(self.section_count)];
        if file.read(self.section_offset, &mut table).is_err() {
            return Vec::new();
        }
        let within = |section: &NoteSection| {
            section.offset.checked_add(section.size).is_some_and(|end| section.size > 0 && end <= file.length())
        };
        table.chunks_exact(expected).filter_map(|bytes| NoteSection::read(self.class, bytes)).filter(within).collect()
    }
}

/// The location of a note section in the file.
struct NoteSection {
    offset: u64,
    size: u64,
    alignment: u64,
}

impl NoteSection {
    /// Parses a section header, `Elf32_Shdr` or `Elf64_Shdr`. Returns `None` for a section of another kind.
    fn read(class: Class, header: &[u8]) -> Option<Self> {
        const SHT_NOTE: u32 = 7;
        let narrow = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
        let wide = |at: usize| Some(u64::from_le_bytes(*header.get(at..)?.first_chunk()?));
        if narrow(4)? != SHT_NOTE {
            return None;
        }
        Some(match class {
            Class::Bits32 => {
                Self { offset: narrow(16)?.into(), size: narrow(20)?.into(), alignment: narrow(32)?.into() }
            }
            Class::Bits64 => Self { offset: wide(24)?, size: wide(32)?, alignment: wide(48)? },
        })
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

/// Reads the path of a program's interpreter, as far as it is printable.
fn read_interpreter(file: &ImageFile, program: &Program64) -> String {
    const LONGEST: u64 = 128;
    let mut path = vec![0; program.file_size.min(LONGEST) as usize];
    if file.read(program.offset, &mut path).is_err() {
        path.clear();
    }
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(path).escape_default().to_string()
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
