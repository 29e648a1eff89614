use std::io::Write;

use super::*;
use crate::guest_images::EMBEDDED;

const VSC: KernelSource = KernelSource::Embedded { name: "vsc", bytes: EMBEDDED };

fn shown(symbols: &Symbols, address: u64) -> Option<String> {
    symbols.name(address).map(|place| place.to_string())
}

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

#[test]
fn addresses_are_resolved_by_the_kernels_own_symbols() {
    let symbols = Symbols::of_kernel(&VSC).unwrap();
    let main = symbols.address_of("main").expect("the image has a function main");
    assert_eq!(shown(&symbols, main).as_deref(), Some("main+0x0"));
    assert_eq!(shown(&symbols, main + 3).as_deref(), Some("main+0x3"));
    assert!(symbols.is_code(main));
    assert_eq!(shown(&symbols, 8), None, "no code is there");
}

#[test]
fn a_symbol_file_may_be_an_elf_file_or_a_system_map() {
    let elf = file(EMBEDDED);
    let main = Symbols::read(elf.path()).unwrap().address_of("main").unwrap();
    let map =
        file(b"ffffffff81000000 T _text\nffffffff81000040 t start\nffffffff81000080 D data\nffffffff81000100 W stop\n");
    let symbols = Symbols::read(map.path()).unwrap();
    assert_ne!(main, 0);
    assert_eq!(shown(&symbols, 0xffff_ffff_8100_0090).as_deref(), Some("start+0x50"), "data are no code");
    assert_eq!(shown(&symbols, 0xffff_ffff_8100_0100).as_deref(), Some("stop+0x0"));
    assert_eq!(shown(&symbols, 0xffff_ffff_8000_0000), None);
}

#[test]
fn a_file_without_symbols_is_refused_with_a_reason() {
    for content in [&b"nothing of the kind"[..], b"0000000000000000 T hidden\n", b"\x7fELF\x02\x01"] {
        let error = Symbols::read(file(content).path()).unwrap_err().to_string();
        assert!(error.contains("has no symbols"), "{error}");
    }
}

#[test]
fn symbols_follow_a_kernel_that_has_relocated_itself() {
    let map = file(b"ffffffff81000000 T _text\nffffffff81000040 T start\nffffffff81000080 T stop\n");
    let mut symbols = Symbols::read(map.path()).unwrap();
    symbols.slide_by(0x1200_0000);
    assert_eq!(shown(&symbols, 0xffff_ffff_9300_0041).as_deref(), Some("start+0x1"));
    assert_eq!(shown(&symbols, 0xffff_ffff_8100_0041), None);
}

#[test]
fn code_at_its_physical_address_is_resolved_too() {
    let symbols = Symbols {
        symbols: vec![Symbol { address: 0x8010_0010, size: 0x20, name: 0..5 }],
        text: b"early".to_vec(),
        code: std::iter::once(0x8010_0000..0x8010_1000).collect(),
        loads: vec![Load { virtual_address: 0x8010_0000, physical_address: 0x10_0000, size: 0x1000 }],
        ..Symbols::default()
    };
    assert_eq!(shown(&symbols, 0x10_0014).as_deref(), Some("early+0x4"));
    assert_eq!(shown(&symbols, 0x10_0030), None, "the function has ended");
    assert_eq!(shown(&symbols, 0x10_1000), None, "the segment has ended");
}

#[test]
fn symbol_names_are_escaped_and_truncated() {
    assert_eq!(printable(b"a\x1b[2J\n\xff b"), "a?[2J???b");
    assert_eq!(printable(&[b'x'; 1000]), "x".repeat(MAX_NAME) + "...");
}

#[test]
fn a_truncated_or_damaged_file_is_an_error_or_yields_other_symbols() {
    let end = EMBEDDED.len();
    for length in (0..256).chain((end - 4096..end).step_by(61)) {
        let _ = Symbols::read(file(&EMBEDDED[..length]).path());
    }
    // The header, and the section headers at the end.
    let sections = u64::from_le_bytes(EMBEDDED[40..48].try_into().unwrap()) as usize;
    for at in (0..64).chain(sections..end) {
        for value in [0, 0x7f, 0xff] {
            let mut damaged = EMBEDDED.to_vec();
            damaged[at] = value;
            let _ = Symbols::read(file(&damaged).path())
                .map(|symbols| (0..64).filter_map(|page| symbols.name(page << 12)).count());
        }
    }
}
