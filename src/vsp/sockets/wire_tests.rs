use super::*;

fn size_of(packet_type: u32, bytes: u32, room: usize) -> Result<usize, Malformed> {
    size(Some(PipeHeader { packet_type, size: bytes }), PipeHeader::LENGTH + room)
}

#[test]
fn a_packet_contains_its_data_and_padding() {
    assert_eq!(size_of(1, 3, 8), Ok(3));
    assert_eq!(size_of(1, 0, 0), Ok(0));
    assert_eq!(size_of(1, MAX_FROM_GUEST as u32, MAX_FROM_GUEST), Ok(MAX_FROM_GUEST));
    assert_eq!(PipeHeader::of(0x1234), [1, 0, 0, 0, 0x34, 0x12, 0, 0]);
}

#[test]
fn a_packet_that_contradicts_itself_is_malformed() {
    assert_eq!(size(None, 7), Err(Malformed::Short(7)));
    assert_eq!(size(None, 0), Err(Malformed::Short(0)));
    for packet_type in [0, 2, 3, u32::MAX] {
        assert_eq!(size_of(packet_type, 0, 8), Err(Malformed::Type(packet_type)));
    }
    assert_eq!(size_of(1, 9, 8), Err(Malformed::Size { size: 9, room: 8 }));
    for bytes in [MAX_FROM_GUEST as u32 + 1, u32::MAX] {
        assert_eq!(size_of(1, bytes, 8), Err(Malformed::Long(bytes)));
    }
}
