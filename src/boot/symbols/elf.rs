//! The symbol table of an ELF file, and other sections that help to locate code.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::orc::Orc;
use super::{Load, MAX_SYMBOLS, Symbol, Symbols};
use crate::boot::BootError;
use crate::boot::elf::{Header32, Header64, MAGIC, PT_LOAD, Program32, Program64};
use crate::boot::file::ImageFile;

/// `Elf64_Shdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Section64 {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    alignment: u64,
    entry_size: u64,
}
const _: () = assert!(size_of::<Section64>() == 64);

/// `Elf32_Shdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Section32 {
    name: u32,
    kind: u32,
    flags: u32,
    address: u32,
    offset: u32,
    size: u32,
    link: u32,
    info: u32,
    alignment: u32,
    entry_size: u32,
}
const _: () = assert!(size_of::<Section32>() == 40);

/// `Elf64_Sym`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Symbol64 {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}
const _: () = assert!(size_of::<Symbol64>() == 24);

/// `Elf32_Sym`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Symbol32 {
    name: u32,
    value: u32,
    size: u32,
    info: u8,
    other: u8,
    section: u16,
}
const _: () = assert!(size_of::<Symbol32>() == 16);

const SHT_SYMTAB: u32 = 2;
const SHF_ALLOC: u64 = 1 << 1;
const SHF_EXECINSTR: u64 = 1 << 2;
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STB_GLOBAL: u8 = 1;

/// A kernel has about 50 sections; with debug information, about 80.
const MAX_SECTIONS: usize = 4096;
const MAX_PROGRAMS: usize = 128;
const MAX_NAMES: u64 = 64 << 20;
/// Linux's has about 7 MB.
const MAX_ORC: u64 = 64 << 20;

/// The fields that are used of either header.
struct Header {
    wide: bool,
    /// Offset, entry size and count.
    programs: (u64, usize, usize),
    sections: (u64, usize, usize),
    name_section: usize,
}

/// Reads the symbols of `file`, or returns `None` if it is not an ELF file for x86.
pub(super) fn read(file: &ImageFile) -> Result<Option<Symbols>, BootError> {
    let head = file.head(size_of::<Header64>())?;
    let Some(header) = header(&head) else { return Ok(None) };
    let sections = header.sections(file)?;
    let is_code = |section: &&Section64| section.flags & SHF_EXECINSTR != 0 && section.flags & SHF_ALLOC != 0;
    let range = |section: &Section64| section.address..section.address.saturating_add(section.size);
    let code: Vec<Range<u64>> = sections.iter().filter(is_code).map(range).collect();
    let mut symbols = match sections.iter().find(|section| section.kind == SHT_SYMTAB) {
        Some(table) => header.symbols(file, table, &sections, &code)?,
        None => Symbols::new(Vec::new(), Vec::new(), code),
    };
    symbols.loads = header.loads(file)?;
    symbols.orc = header.orc(file, &sections)?;
    Ok(Some(symbols))
}

fn header(head: &[u8]) -> Option<Header> {
    // Little-endian files only.
    if !head.starts_with(MAGIC) || head.get(5) != Some(&1) {
        return None;
    }
    match head.get(4) {
        Some(1) => {
            let (header, _) = Header32::read_from_prefix(head).ok()?;
            Some(Header {
                wide: false,
                programs: (header.program_offset.into(), header.program_size.into(), header.program_count.into()),
                sections: (header.section_offset.into(), header.section_size.into(), header.section_count.into()),
                name_section: header.name_section.into(),
            })
        }
        Some(2) => {
            let (header, _) = Header64::read_from_prefix(head).ok()?;
            Some(Header {
                wide: true,
                programs: (header.program_offset, header.program_size.into(), header.program_count.into()),
                sections: (header.section_offset, header.section_size.into(), header.section_count.into()),
                name_section: header.name_section.into(),
            })
        }
        _ => None,
    }
}

impl Header {
    fn sections(&self, file: &ImageFile) -> Result<Vec<Section64>, BootError> {
        self.table(file, "the section headers", self.sections, MAX_SECTIONS, |bytes| match self.wide {
            true => Section64::read_from_prefix(bytes).ok().map(|(section, _)| section),
            false => Section32::read_from_prefix(bytes).ok().map(|(section, _)| section.into()),
        })
    }

    fn loads(&self, file: &ImageFile) -> Result<Vec<Load>, BootError> {
        let programs =
            self.table(file, "the program headers", self.programs, MAX_PROGRAMS, |bytes| match self.wide {
                true => Program64::read_from_prefix(bytes).ok().map(|(program, _)| program),
                false => Program32::read_from_prefix(bytes).ok().map(|(program, _)| program.into()),
            })?;
        let load = |program: Program64| Load {
            virtual_address: program.virtual_address,
            physical_address: program.physical_address,
            size: program.memory_size,
        };
        let moves = |load: &Load| load.virtual_address != load.physical_address;
        Ok(programs.into_iter().filter(|program| program.kind == PT_LOAD).map(load).filter(moves).collect())
    }

    /// Reads a table with at most `max` entries.
    fn table<T>(
        &self,
        file: &ImageFile,
        what: &str,
        (offset, size, count): (u64, usize, usize),
        max: usize,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, BootError> {
        if size == 0 || count == 0 {
            return Ok(Vec::new());
        }
        let bytes = content(file, what, offset, (size * count.min(max)) as u64, u64::MAX)?;
        Ok(bytes.chunks_exact(size).filter_map(read).collect())
    }

    fn symbols(
        &self,
        file: &ImageFile,
        table: &Section64,
        sections: &[Section64],
        code: &[Range<u64>],
    ) -> Result<Symbols, BootError> {
        let size = if self.wide { size_of::<Symbol64>() } else { size_of::<Symbol32>() };
        let bytes = content(file, "the symbol table", table.offset, table.size, (MAX_SYMBOLS * size) as u64)?;
        let text = match sections.get(table.link as usize) {
            Some(names) => content(file, "the symbols' names", names.offset, names.size, MAX_NAMES)?,
            None => Vec::new(),
        };
        let entries = bytes.chunks_exact(size).filter_map(|bytes| match self.wide {
            true => Symbol64::read_from_bytes(bytes).ok(),
            false => Symbol32::read_from_bytes(bytes).ok().map(Symbol64::from),
        });
        let is_code = |entry: &Symbol64| {
            matches!(entry.info & 0xf, STT_NOTYPE | STT_FUNC) && code.iter().any(|range| range.contains(&entry.value))
        };
        let mut entries: Vec<_> = entries.filter(is_code).collect();
        // If there are several at one address, functions and global symbols come first.
        entries.sort_by_key(|entry| (entry.info & 0xf != STT_FUNC, entry.info >> 4 != STB_GLOBAL));
        let symbols = entries.into_iter().filter_map(|entry| {
            let name = text.get(entry.name as usize..)?;
            let length = name.iter().position(|byte| *byte == 0)? as u32;
            let name = entry.name..entry.name + length;
            (length > 0).then_some(Symbol { address: entry.value, size: entry.size, name })
        });
        let symbols = symbols.collect();
        Ok(Symbols::new(symbols, text, code.to_vec()))
    }

    fn orc(&self, file: &ImageFile, sections: &[Section64]) -> Result<Option<Orc>, BootError> {
        let Some(names) = sections.get(self.name_section).filter(|_| self.wide) else { return Ok(None) };
        let names = content(file, "the sections' names", names.offset, names.size, MAX_NAMES)?;
        let named = |wanted: &str| {
            sections.iter().find(|section| {
                let rest = names.get(section.name as usize..).unwrap_or_default();
                rest.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
            })
        };
        let Some((places, entries)) = named(".orc_unwind_ip").zip(named(".orc_unwind")) else { return Ok(None) };
        let first = places.address;
        let places = content(file, "the section .orc_unwind_ip", places.offset, places.size, MAX_ORC)?;
        let entries = content(file, "the section .orc_unwind", entries.offset, entries.size, MAX_ORC)?;
        Ok(Some(Orc::new(first, places, entries, named(".orc_header").is_some())))
    }
}

impl From<Section32> for Section64 {
    fn from(section: Section32) -> Self {
        Self {
            name: section.name,
            kind: section.kind,
            flags: section.flags.into(),
            address: section.address.into(),
            offset: section.offset.into(),
            size: section.size.into(),
            link: section.link,
            info: section.info,
            alignment: section.alignment.into(),
            entry_size: section.entry_size.into(),
        }
    }
}

impl From<Symbol32> for Symbol64 {
    fn from(symbol: Symbol32) -> Self {
        let Symbol32 { name, value, size, info, other, section } = symbol;
        Self { name, info, other, section, value: value.into(), size: size.into() }
    }
}

/// Reads a part of the file, at most `max` bytes.
fn content(file: &ImageFile, what: &str, offset: u64, size: u64, max: u64) -> Result<Vec<u8>, BootError> {
    let size = size.min(max);
    // Checked before memory is allocated.
    file.require(what, offset, size)?;
    let mut bytes = vec![0; size as usize];
    file.read(offset, &mut bytes)?;
    Ok(bytes)
}
