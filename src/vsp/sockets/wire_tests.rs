use super::*;

fn packet(packet_type: u32, size: u32, room: usize) -> Vec<u8> {
    let header = PipeHeader { packet_type, size };
    [zerocopy::IntoBytes::as_bytes(&header), &vec![7; room]].concat()
}

#[test]
fn a_packet_contains_its_data_and_padding() {
    assert_eq!(data(&packet(1, 3, 8)), Ok(&[7; 3][..]));
    assert_eq!(data(&packet(1, 0, 0)), Ok(&[][..]));
    assert_eq!(data(&packet(1, MAX_FROM_GUEST as u32, MAX_FROM_GUEST)).map(<[u8]>::len), Ok(MAX_FROM_GUEST));
    assert_eq!(PipeHeader::of(0x1234), [1, 0, 0, 0, 0x34, 0x12, 0, 0]);
}

#[test]
fn a_packet_that_contradicts_itself_is_malformed() {
    assert_eq!(data(&[1, 0, 0, 0, 0, 0, 0]), Err(Malformed::Short(7)));
    assert_eq!(data(&[]), Err(Malformed::Short(0)));
    for packet_type in [0, 2, 3, u32::MAX] {
        assert_eq!(data(&packet(packet_type, 0, 8)), Err(Malformed::Type(packet_type)));
    }
    assert_eq!(data(&packet(1, 9, 8)), Err(Malformed::Size { size: 9, room: 8 }));
    for size in [MAX_FROM_GUEST as u32 + 1, u32::MAX] {
        assert_eq!(data(&packet(1, size, 8)), Err(Malformed::Long(size)));
    }
}
