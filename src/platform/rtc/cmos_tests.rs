use super::*;

fn word(memory: &[u8], at: usize) -> u64 {
    u16::from_le_bytes([memory[at], memory[at + 1]]).into()
}

/// Base, extended twice, above 16 MiB, above 4 GiB, in KiB.
fn sizes(memory_size: u64) -> [u64; 5] {
    let memory = memory(memory_size);
    let high = word(&memory, 0x5b) | u64::from(memory[0x5d]) << 16;
    [word(&memory, 0x15), word(&memory, 0x17), word(&memory, 0x30), word(&memory, 0x34) * 64, high * 64]
}

#[test]
fn each_register_has_the_size_of_memory_in_its_own_unit() {
    assert_eq!(sizes(1 << 20), [640, 0, 0, 0, 0]);
    assert_eq!(sizes(8 << 20), [640, 7 << 10, 7 << 10, 0, 0]);
    assert_eq!(sizes(64 << 20), [640, 63 << 10, 63 << 10, 48 << 10, 0]);
    assert_eq!(sizes(256 << 20), [640, 65535, 65535, 240 << 10, 0]);
    assert_eq!(sizes(5 << 30), [640, 65535, 65535, (3 << 20) - (16 << 10), 2 << 20]);
    assert_eq!(sizes(8 << 40)[4], 0xff_ffff * 64, "no more than three bytes hold");
}

#[test]
fn the_checksum_covers_the_bytes_of_the_bios_setup() {
    let memory = memory(64 << 20);
    let sum: u64 = memory[0x10..0x2e].iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(u64::from(memory[0x2e]) << 8 | u64::from(memory[0x2f]), sum);
    assert_eq!((memory[0x10], memory[0x12], memory[0x14]), (0, 0, 0x22), "no drives");
}
