use super::*;
use crate::boot::fixtures::{CONTENT, bare_elf64, elf32, elf64, loaded, note, program, pvh_note};

fn recognise(bytes: Vec<u8>) -> Result<Option<Elf>, BootError> {
    let file = ImageFile::embedded("k", bytes.leak()).unwrap();
    let head = file.head(0x9000).unwrap();
    Elf::recognise(&file, &head)
}

fn error(bytes: Vec<u8>) -> String {
    recognise(bytes).unwrap_err().to_string().trim_start_matches("the embedded image k is ").into()
}

/// Returns the error for a 64-bit kernel with these program headers.
fn kernel_error(entry: u64, programs: &[Program64]) -> String {
    let file = ImageFile::embedded("k", elf64(entry, programs, &[0xf4; 64]).leak()).unwrap();
    let elf = Elf::recognise(&file, &file.head(0x9000).unwrap()).unwrap().unwrap();
    let error = elf.kernel(&file, BootProtocol::Linux64, entry).unwrap_err().to_string();
    error.trim_start_matches("the embedded image k is not a valid ELF file: ").into()
}

#[test]
fn a_file_without_the_magic_number_is_not_an_elf_file() {
    assert!(recognise(b"\x7fELG".to_vec()).unwrap().is_none());
}

#[test]
fn files_of_32_and_64_bits_are_read() {
    let programs = [loaded(CONTENT, 0x10_0000, 16, 32), program(0x6474_e551, 0, 0), loaded(0, 0x20_0000, 0, 0)];
    for bytes in [elf64(0x10_0000, &programs, &[1; 16]), elf32(0x10_0000, &programs, &[1; 16])] {
        let elf = recognise(bytes).unwrap().unwrap();
        assert_eq!((elf.entry, elf.pvh_entry, elf.loads.len()), (0x10_0000, None, 1));
        let load = elf.loads[0];
        assert_eq!(
            (load.offset, load.physical_address, load.file_size, load.memory_size),
            (CONTENT, 0x10_0000, 16, 32)
        );
    }
}

#[test]
fn the_error_for_a_truncated_file_names_the_missing_part() {
    let tail = "copy or build it again";
    let cut = |length| bare_elf64()[..length].to_vec();
    assert!(error(cut(5)).starts_with("truncated: the ELF identification reaches to byte 16, but the file has only 5"));
    assert!(error(cut(20)).starts_with("truncated: the ELF header reaches to byte 52, but the file has only 20"));
    assert!(error(cut(60)).starts_with("truncated: the ELF header reaches to byte 64, but the file has only 60"));
    let table = "truncated: the program header table reaches to byte 120, but the file has only 100; ";
    assert_eq!(error(cut(100)), format!("{table}{tail}"));
    let segment = "truncated: segment 0 reaches to byte 1088, but the file has only 1087; ";
    assert_eq!(error(cut(1087)), format!("{segment}{tail}"));
}

#[test]
fn files_for_other_machines_are_refused_with_the_name_of_the_machine() {
    let with = |machine: u16| {
        let mut bytes = bare_elf64();
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        error(bytes)
    };
    assert_eq!(with(183), "an ELF file for arm64; name a kernel built for x86-64");
    assert_eq!(with(243), "an ELF file for RISC-V; name a kernel built for x86-64");
    assert_eq!(with(9999), "an ELF file for machine number 9999; name a kernel built for x86-64");
    let mut big_endian = bare_elf64();
    big_endian[5] = 2;
    big_endian[18..20].copy_from_slice(&22u16.to_be_bytes());
    assert_eq!(error(big_endian), "an ELF file for S/390; name a kernel built for x86-64");
}

#[test]
fn object_files_and_core_dumps_are_refused_with_their_type() {
    let with = |kind: u8| {
        let mut bytes = bare_elf64();
        bytes[16] = kind;
        error(bytes)
    };
    assert_eq!(with(1), "an object file or kernel module; link it to a kernel");
    assert_eq!(with(4), "a core dump; name a kernel");
    assert_eq!(with(0), "an ELF file of type 0; name a kernel");
}

#[test]
fn invalid_headers_are_refused_with_the_invalid_value() {
    let with = |offset: usize, value: u8| {
        let mut bytes = bare_elf64();
        bytes[offset] = value;
        error(bytes).trim_start_matches("not a valid ELF file: ").to_string()
    };
    assert_eq!(with(4, 3), "its class is 3");
    assert_eq!(with(5, 0), "its data encoding is 0");
    assert_eq!(with(54, 32), "its program headers have 32 bytes, not 56");
    assert_eq!(with(56, 0), "it has no program headers, so nothing to load");
    assert_eq!(with(57, 0xff), "it has 65281 program headers, more than 128");
    assert!(with(39, 0xff).starts_with("truncated: the program header table reaches to byte 18"));
}

#[test]
fn invalid_segments_are_refused_with_the_invalid_value() {
    let fine = loaded(CONTENT, 0x10_0000, 16, 16);
    let shrinking = loaded(CONTENT, 0x20_0000, 16, 8);
    assert_eq!(kernel_error(0x10_0000, &[fine, shrinking]), "segment 1 has 16 bytes for 8 of memory");
    let wrapping = loaded(CONTENT, u64::MAX, 1, 2);
    assert_eq!(kernel_error(0, &[wrapping]), "segment 0 wraps around the end of the address space");
    let outside = "no loaded segment holds its Linux 64-bit boot protocol entry 0x100010";
    assert_eq!(kernel_error(0x10_0010, &[fine]), outside);
    let high = loaded(CONTENT, 5 << 30, 16, 16);
    assert!(kernel_error(5 << 30, &[high]).ends_with("entry 0x140000000 is not below 4 GiB"));
    let beyond = loaded(u64::MAX, 0, 2, 2);
    assert!(error(elf64(0, &[beyond], &[])).starts_with("truncated: segment 0"));
}

#[test]
fn an_entry_that_is_a_virtual_address_is_translated() {
    let mut high = loaded(CONTENT, 0x10_0000, 16, 16);
    high.virtual_address = 0xc010_0000;
    let entry = |entry| recognise(elf64(entry, &[high], &[0; 16])).unwrap().unwrap().physical_entry();
    assert_eq!(entry(0xc010_0008), 0x10_0008);
    assert_eq!(entry(0x10_0008), 0x10_0008);
}

#[test]
fn only_the_first_64_kib_of_notes_are_read() {
    let mut bytes = elf64(0, &[program(PT_NOTE, 0, MAX_NOTES_LENGTH)], &[]);
    assert!(error(bytes.clone()).starts_with("truncated: the segment of notes"));
    bytes[64..120].copy_from_slice(program(PT_NOTE, CONTENT, MAX_NOTES_LENGTH + 16).as_bytes());
    bytes.extend_from_slice(&note(b"Xen\0", 17, &[0; 64], 4));
    bytes.resize((CONTENT + MAX_NOTES_LENGTH + 16) as usize, 1);
    let elf = recognise(bytes.clone()).unwrap().unwrap();
    assert_eq!(elf.pvh_entry, None);
    assert_eq!(elf.unread_notes, Some("are longer than 64 KiB, of which only the first are read"));
    let start = CONTENT as usize;
    bytes[start..start + 24].copy_from_slice(&pvh_note(0x5678));
    let elf = recognise(bytes).unwrap().unwrap();
    assert_eq!((elf.pvh_entry, elf.unread_notes), (Some(0x5678), None));
}

#[test]
fn a_note_that_is_only_in_a_section_is_found() {
    let notes = pvh_note(0x5678);
    let with = |wide: bool, kind: u32, count: u16, length: u64| {
        let segment = loaded(CONTENT, 0x10_0000, 0x40, 0x40);
        let content = [[0xf4; 0x40].as_slice(), &notes].concat();
        let mut bytes = if wide { elf64(0, &[segment], &content) } else { elf32(0, &[segment], &content) };
        let (table, at) = (bytes.len() as u64, CONTENT + 0x40);
        if wide {
            bytes[40..48].copy_from_slice(&table.to_le_bytes());
            bytes[58..62].copy_from_slice(&[64, 0, count as u8, (count >> 8) as u8]);
            bytes.extend_from_slice(&[0; 64]);
            bytes.extend_from_slice([0, kind, 2, 0].as_bytes());
            bytes.extend_from_slice([0, at, length, 0, 4, 0].as_bytes());
        } else {
            bytes[32..36].copy_from_slice(&(table as u32).to_le_bytes());
            bytes[46..50].copy_from_slice(&[40, 0, count as u8, (count >> 8) as u8]);
            bytes.extend_from_slice(&[0; 40]);
            bytes.extend_from_slice([0, kind, 2, 0, at as u32, length as u32, 0, 0, 4, 0].as_bytes());
        }
        recognise(bytes).unwrap().unwrap().pvh_entry
    };
    for wide in [true, false] {
        assert_eq!(with(wide, 7, 2, notes.len() as u64), Some(0x5678));
        assert_eq!(with(wide, 1, 2, notes.len() as u64), None, "no notes");
        assert_eq!(with(wide, 7, 1, notes.len() as u64), None, "not in the table");
        assert_eq!(with(wide, 7, 3, notes.len() as u64), None, "the table is not in the file");
        assert_eq!(with(wide, 7, 0xffff, notes.len() as u64), None, "a table that is too long");
        assert_eq!(with(wide, 7, 2, u64::MAX), None, "a section beyond the file");
    }
}

#[test]
fn an_interpreter_is_read_up_to_its_nul_and_escaped() {
    let with = |offset, length, content: &[u8]| {
        recognise(elf64(0, &[program(PT_INTERP, offset, length)], content)).unwrap().unwrap().interpreter
    };
    assert_eq!(with(CONTENT, 9, b"/lib/ld\0x"), Some("/lib/ld".into()));
    assert_eq!(with(CONTENT, 4, b"\x1b[2J"), Some("\\u{1b}[2J".into()));
    assert_eq!(with(u64::MAX, u64::MAX, b""), Some(String::new()));
}
