use super::*;
use crate::boot::fixtures::{bzimage, bzimage32};

fn recognise(bytes: Vec<u8>) -> Result<Kernel, BootError> {
    let file = ImageFile::embedded("k", bytes.leak()).unwrap();
    let head = file.head(0x9000).unwrap();
    assert!(is_one(&head));
    kernel(&file, &head)
}

fn error(bytes: Vec<u8>) -> String {
    recognise(bytes).unwrap_err().to_string().trim_start_matches("the embedded image k is ").into()
}

fn with(offset: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bzimage(4096);
    bytes[offset..offset + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn the_protected_mode_code_is_loaded_at_the_headers_preferred_address() {
    let kernel = recognise(bzimage(4096)).unwrap();
    assert_eq!((kernel.protocol, kernel.entry), (BootProtocol::Linux64, 0x100_0200));
    assert_eq!((kernel.command_line_limit, kernel.initrd_limit), (2047, 0x8000_0000));
    let what = "the kernel".into();
    let (offset, address) = (1024, 0x100_0000);
    let expected = Segment { what, offset, file_length: 4096, address, memory_length: 0x20_0000 };
    assert_eq!(kernel.segments, [expected]);
}

#[test]
fn data_after_the_code_is_not_loaded() {
    let mut signed = bzimage(4096);
    signed.extend_from_slice(&[0xee; 700]);
    assert_eq!(recognise(signed).unwrap().segments[0].file_length, 4096);
}

#[test]
fn the_code_may_lack_up_to_fifteen_bytes_at_its_end() {
    let mut bytes = bzimage(4096);
    bytes.truncate(1024 + 4081);
    assert_eq!(recognise(bytes.clone()).unwrap().segments[0].file_length, 4081);
    bytes.pop();
    let expected =
        "truncated: the protected-mode code reaches to byte 5105, but the file has only 5104; copy or build it again";
    assert_eq!(error(bytes), expected);
}

#[test]
fn a_file_that_ends_in_its_header_is_truncated() {
    let mut bytes = bzimage(4096);
    bytes.truncate(0x210);
    assert!(error(bytes).starts_with("truncated: the setup header reaches to byte 620, but the file has only 528"));
}

#[test]
fn zero_setup_sectors_mean_four() {
    let mut bytes = with(0x1f1, &[0]);
    bytes.resize(5 * 512 + 4096, 0);
    assert_eq!(recognise(bytes).unwrap().segments[0].offset, 5 * 512);
}

#[test]
fn a_64_bit_entry_beyond_the_end_of_the_file_is_refused() {
    let expected = "not a valid Linux bzImage: its protected-mode code of 512 bytes is too short for a 64-bit entry";
    assert_eq!(error(bzimage(512)), expected);
    assert_eq!(recognise(bzimage32(512)).unwrap().entry, 0x100_0000);
}

/// Returns a 32-bit kernel with changes to its header.
fn with32(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = bzimage32(4096);
    for (offset, value) in changes {
        bytes[*offset..offset + value.len()].copy_from_slice(value);
    }
    bytes
}

#[test]
fn a_kernel_without_a_64_bit_entry_is_entered_by_the_32_bit_protocol() {
    let kernel = recognise(bzimage32(4096)).unwrap();
    assert_eq!((kernel.protocol, kernel.entry), (BootProtocol::Linux32, 0x100_0000));
    assert_eq!((kernel.segments[0].address, kernel.segments[0].memory_length), (0x100_0000, 0x20_0000));
    let start = kernel.setup_header.unwrap().code32_start;
    assert_eq!(start, 0x100_0000);
    // Before protocol 2.12, there is no flag for a 64-bit entry, and its bits have another meaning.
    let old = recognise(with32(&[(0x206, &[11, 2]), (0x236, &[1])])).unwrap();
    assert_eq!((old.protocol, old.entry), (BootProtocol::Linux32, 0x100_0000));
}

#[test]
fn the_32_bit_entry_keeps_its_offset_in_the_code() {
    let entry = |start: u32| recognise(with32(&[(0x214, &start.to_le_bytes())])).map(|kernel| kernel.entry);
    assert_eq!(entry(0x10_0000).unwrap(), 0x100_0000);
    assert_eq!(entry(0x10_0020).unwrap(), 0x100_0020);
    assert_eq!(entry(0).unwrap(), 0x100_0000);
    let text = entry(0x10_1000).unwrap_err().to_string();
    assert!(text.ends_with("its entry 0x1001000 is outside of the code, which is loaded at 0x1000000"), "{text}");
    assert!(entry(u32::MAX).is_err());
}

#[test]
fn fields_that_an_old_header_lacks_get_the_defaults_of_its_protocol() {
    // Protocol 2.09 has no preferred address, 2.05 no length of the command line, and 2.02 no limit for the initrd.
    let limits = |version: u8| {
        let kernel = recognise(with32(&[(0x206, &[version, 2])])).unwrap();
        (kernel.segments[0].address, kernel.command_line_limit, kernel.initrd_limit)
    };
    assert_eq!(limits(10), (0x100_0000, 2047, 0x8000_0000));
    assert_eq!(limits(9), (0x10_0000, 2047, 0x8000_0000));
    assert_eq!(limits(5), (0x10_0000, 255, 0x8000_0000));
    assert_eq!(limits(2), (0x10_0000, 255, 0x3800_0000));
    let expected = "a Linux kernel of boot protocol 2.01, which only a BIOS can start, in real mode; use a kernel of \
                    Linux 2.4 or later";
    assert_eq!(error(with32(&[(0x206, &[1, 2])])), expected);
}

#[test]
fn a_zimage_is_loaded_at_its_code32_start() {
    let low = with32(&[(0x206, &[4, 2]), (0x211, &[0]), (0x214, &0x1000u32.to_le_bytes())]);
    let kernel = recognise(low).unwrap();
    assert_eq!((kernel.protocol, kernel.entry, kernel.segments[0].address), (BootProtocol::Linux32, 0x1000, 0x1000));
}

#[test]
fn preferred_addresses_above_4_gib_are_refused() {
    for address in [u64::MAX, u64::from(u32::MAX), 1 << 32] {
        assert!(
            error(with(0x258, &address.to_le_bytes())).ends_with(&format!("at {address:#x}, which is not below 4 GiB"))
        );
    }
}

#[test]
fn only_fields_inside_the_header_are_used() {
    // The header ends after xloadflags. The bytes after it are code, and must not be used as fields.
    let bytes = with(0x201, &[0x238u16 as u8 - 2]);
    let header = recognise(bytes).unwrap().setup_header.unwrap();
    let (flags, size, address) = (header.xloadflags, header.cmdline_size, header.pref_address);
    assert_eq!((flags, size, address), (1, 0, 0));
}

#[test]
fn the_command_line_limit_is_bounded_by_the_reserved_memory() {
    let kernel = recognise(with(0x238, &u32::MAX.to_le_bytes())).unwrap();
    assert_eq!(kernel.command_line_limit, COMMAND_LINE.end - COMMAND_LINE.start - 1);
}
