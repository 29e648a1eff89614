use super::*;

#[test]
fn fixed_sense_is_eighteen_bytes_with_the_block_in_its_information_field() {
    let bytes = Sense::UNRECOVERED_READ_ERROR.with_information(0x1234).encode(false);
    assert_eq!(bytes[..], [0xf0, 0, 3, 0, 0, 0x12, 0x34, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]);
}

#[test]
fn fixed_sense_leaves_out_a_block_that_needs_more_than_32_bits() {
    let bytes = Sense::WRITE_ERROR.with_information(1 << 32).encode(false);
    assert_eq!((bytes[0], &bytes[3..7]), (0x70, &[0; 4][..]));
}

#[test]
fn descriptor_sense_carries_64_bits_and_fits_a_storvsp_packet() {
    let bytes = Sense::WRITE_ERROR.with_information(1 << 32).encode(true);
    assert_eq!(bytes[..], [0x72, 3, 0x0c, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(Sense::INVALID_OPCODE.encode(true)[..], [0x72, 5, 0x20, 0, 0, 0, 0, 0]);
}
