//! Kernels that tests build, and other helpers of tests.

use std::path::{Path, PathBuf};

use zerocopy::IntoBytes;

use super::elf::{self, Header32, Header64, Program32, Program64};
use super::notes::{NoteHeader, XEN_PHYS32_ENTRY};
use super::{acpi, multiboot};
use crate::memory::{self, GuestMemory};

/// Creates guest memory of this size in MiB.
pub(super) fn machine(mebibytes: u64) -> GuestMemory {
    memory::create(mebibytes << 20, memory::Backing::Shared).unwrap()
}

/// Returns the tables' input for a machine with one VP.
pub(super) fn one_vp() -> acpi::Description {
    acpi::Description { apic_ids: vec![0], ..acpi::Description::default() }
}

/// Writes a file into a temporary directory.
pub(super) fn save(directory: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Returns the path as it appears in messages.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Returns a program header that loads `file_size` bytes at `offset` to `address`.
pub(super) fn loaded(offset: u64, address: u64, file_size: u64, memory_size: u64) -> Program64 {
    Program64 {
        kind: elf::PT_LOAD,
        offset,
        virtual_address: address,
        physical_address: address,
        file_size,
        memory_size,
        ..Default::default()
    }
}

/// Returns a program header of another kind.
pub(super) fn program(kind: u32, offset: u64, file_size: u64) -> Program64 {
    Program64 { kind, offset, file_size, alignment: 4, ..Default::default() }
}

pub(super) fn header64(entry: u64, programs: usize) -> Header64 {
    let mut ident = [0; 16];
    ident[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    Header64 {
        ident,
        kind: 2,
        machine: elf::MACHINE_X86_64,
        version: 1,
        entry,
        program_offset: 64,
        section_offset: 0,
        flags: 0,
        header_size: 64,
        program_size: 56,
        program_count: programs as u16,
        section_size: 0,
        section_count: 0,
        name_section: 0,
    }
}

/// Returns a 64-bit ELF file: headers, then `content` at [`CONTENT`].
pub(super) fn elf64(entry: u64, programs: &[Program64], content: &[u8]) -> Vec<u8> {
    let mut bytes = header64(entry, programs.len()).as_bytes().to_vec();
    bytes.extend_from_slice(programs.as_bytes());
    bytes.resize(CONTENT as usize, 0);
    bytes.extend_from_slice(content);
    bytes
}

/// Returns a 32-bit ELF file: headers, then `content` at [`CONTENT`].
pub(super) fn elf32(entry: u32, programs: &[Program64], content: &[u8]) -> Vec<u8> {
    let header = header64(0, programs.len());
    let mut ident = header.ident;
    ident[4] = 1;
    let header = Header32 {
        ident,
        kind: 2,
        machine: elf::MACHINE_386,
        version: 1,
        entry,
        program_offset: 52,
        section_offset: 0,
        flags: 0,
        header_size: 52,
        program_size: 32,
        program_count: programs.len() as u16,
        section_size: 0,
        section_count: 0,
        name_section: 0,
    };
    let mut bytes = header.as_bytes().to_vec();
    for program in programs {
        let narrow = Program32 {
            kind: program.kind,
            offset: program.offset as u32,
            virtual_address: program.virtual_address as u32,
            physical_address: program.physical_address as u32,
            file_size: program.file_size as u32,
            memory_size: program.memory_size as u32,
            flags: program.flags,
            alignment: program.alignment as u32,
        };
        bytes.extend_from_slice(narrow.as_bytes());
    }
    bytes.resize(CONTENT as usize, 0);
    bytes.extend_from_slice(content);
    bytes
}

/// Offset of the content in the ELF files that are built here.
pub(super) const CONTENT: u64 = 0x400;

/// Returns one note, padded to `alignment`.
pub(super) fn note(name: &[u8], kind: u32, content: &[u8], alignment: usize) -> Vec<u8> {
    let header = NoteHeader { name_size: name.len() as u32, content_size: content.len() as u32, kind };
    let mut bytes = [header.as_bytes(), name].concat();
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    bytes
}

/// Returns a note with a PVH entry as Linux writes it.
pub(super) fn pvh_note(entry: u64) -> Vec<u8> {
    note(b"Xen\0", XEN_PHYS32_ENTRY, &entry.to_le_bytes(), 4)
}

/// Returns an ELF file with code at 1 MiB and a PVH entry there.
pub(super) fn pvh_kernel() -> Vec<u8> {
    let notes = pvh_note(0x10_0010);
    let programs =
        [loaded(CONTENT, 0x10_0000, 0x40, 0x1000), program(elf::PT_NOTE, CONTENT + 0x40, notes.len() as u64)];
    elf64(0x10_0000, &programs, &[[0xf4; 0x40].as_slice(), &notes].concat())
}

/// Returns an ELF file with code at 1 MiB, without a note or header for its entry.
pub(super) fn bare_elf64() -> Vec<u8> {
    elf64(0x10_0020, &[loaded(CONTENT, 0x10_0000, 0x40, 0x2000)], &[0xf4; 0x40])
}

/// Returns a multiboot header without addresses.
pub(super) fn multiboot_header(flags: u32) -> Vec<u8> {
    let checksum = 0u32.wrapping_sub(multiboot::HEADER_MAGIC).wrapping_sub(flags);
    [multiboot::HEADER_MAGIC, flags, checksum].as_bytes().to_vec()
}

/// Returns a 32-bit ELF file with a multiboot header at 1 MiB, entered after it.
pub(super) fn multiboot_kernel() -> Vec<u8> {
    let mut content = multiboot_header(3);
    content.resize(0x40, 0xf4);
    elf32(0x10_000c, &[loaded(CONTENT, 0x10_0000, 0x40, 0x3000)], &content)
}

/// Returns a bzImage with one setup sector, `length` bytes of protected-mode code, and what Linux writes into its header.
pub(super) fn bzimage(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0x1f1, &[1]);
    put(0x1f4, &(length.div_ceil(16) as u32).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x20fu16.to_le_bytes());
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x100_0000u64.to_le_bytes());
    put(0x260, &0x20_0000u32.to_le_bytes());
    bytes.resize(1024 + length, 0x90);
    bytes
}

/// Returns a bzImage of a 32-bit kernel, as Linux 6.1 has it.
pub(super) fn bzimage32(length: usize) -> Vec<u8> {
    let mut bytes = bzimage(length);
    bytes[0x211] = 1;
    bytes[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    bytes[0x236] = 4;
    bytes
}

/// Returns an image that is part of the test program.
pub(super) fn embed(bytes: Vec<u8>) -> super::KernelSource {
    super::KernelSource::Embedded { name: "test", bytes: bytes.leak() }
}
