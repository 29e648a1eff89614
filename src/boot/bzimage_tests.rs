use super::*;
use crate::boot::fixtures::bzimage;

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
fn the_protected_mode_code_goes_where_the_header_prefers() {
    let kernel = recognise(bzimage(4096)).unwrap();
    assert_eq!((kernel.protocol, kernel.entry), (Protocol::Linux64, 0x100_0200));
    assert_eq!((kernel.command_line_limit, kernel.initrd_limit), (2047, 0x8000_0000));
    let what = "the kernel".into();
    let (offset, address) = (1024, 0x100_0000);
    let expected = Segment { what, offset, file_length: 4096, address, memory_length: 0x20_0000 };
    assert_eq!(kernel.segments, [expected]);
}

#[test]
fn what_follows_the_code_is_left_alone() {
    let mut signed = bzimage(4096);
    signed.extend_from_slice(&[0xee; 700]);
    assert_eq!(recognise(signed).unwrap().segments[0].file_length, 4096);
}

#[test]
fn code_may_end_within_its_last_sixteen_bytes_but_not_before() {
    let mut bytes = bzimage(4096);
    bytes.truncate(1024 + 4081);
    assert_eq!(recognise(bytes.clone()).unwrap().segments[0].file_length, 4081);
    bytes.pop();
    let expected =
        "truncated: the protected-mode code reaches to byte 5105, but the file has only 5104; copy or build it again";
    assert_eq!(error(bytes), expected);
}

#[test]
fn a_file_that_ends_in_its_header_says_so() {
    let mut bytes = bzimage(4096);
    bytes.truncate(0x210);
    assert!(error(bytes).starts_with("truncated: the setup header reaches to byte 620, but the file has only 528"));
}

#[test]
fn no_setup_sectors_mean_four() {
    let mut bytes = with(0x1f1, &[0]);
    bytes.resize(5 * 512 + 4096, 0);
    assert_eq!(recognise(bytes).unwrap().segments[0].offset, 5 * 512);
}

#[test]
fn kernels_without_a_64_bit_entry_are_refused() {
    let tail = "without a 64-bit entry; name a kernel built for x86-64, Linux 3.8 or later";
    assert_eq!(error(with(0x236, &[0, 0])), format!("a Linux bzImage (boot protocol 2.15) {tail}"));
    assert_eq!(error(with(0x206, &[6, 2])), format!("a Linux bzImage (boot protocol 2.06) {tail}"));
    let expected = "not a sound Linux bzImage: its protected-mode code has 512 bytes, so no 64-bit entry";
    assert_eq!(error(bzimage(512)), expected);
}

#[test]
fn absurd_addresses_are_refused() {
    for address in [u64::MAX, u64::from(u32::MAX), 1 << 32] {
        assert!(error(with(0x258, &address.to_le_bytes())).ends_with(&format!("at {address:#x}, not below 4 GiB")));
    }
}

#[test]
fn only_what_the_file_calls_its_header_is_taken_over() {
    // The header ends after xloadflags; what follows is code, and must not be believed.
    let bytes = with(0x201, &[0x238u16 as u8 - 2]);
    let header = recognise(bytes).unwrap().setup_header.unwrap();
    let (flags, size, address) = (header.xloadflags, header.cmdline_size, header.pref_address);
    assert_eq!((flags, size, address), (1, 0, 0));
}

#[test]
fn a_huge_command_line_limit_is_bounded_by_our_room() {
    let kernel = recognise(with(0x238, &u32::MAX.to_le_bytes())).unwrap();
    assert_eq!(kernel.command_line_limit, COMMAND_LINE.end - COMMAND_LINE.start - 1);
}
