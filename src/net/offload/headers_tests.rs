use super::super::testing::packet;
use super::*;

#[test]
fn headers_are_found_behind_tags() {
    let plain = packet(false, protocol::TCP, 10);
    let headers = Headers::parse(&plain).unwrap();
    assert_eq!((headers.network, headers.transport, headers.end), (14, 34, plain.len()));
    let mut tagged = plain;
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    tagged.splice(12..12, [0x88, 0xa8, 0, 6]);
    let headers = Headers::parse(&tagged).unwrap();
    assert_eq!((headers.network, headers.transport), (22, 42));
    assert_eq!(headers.ports(&tagged).unwrap(), [0x12, 0x34, 0, 80]);
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(Headers::parse(&tagged), None);
}

#[test]
fn extension_headers_are_skipped() {
    let mut frame = packet(true, protocol::UDP, 4);
    // A hop-by-hop header of eight bytes and a routing header of sixteen.
    frame.splice(54..54, [43, 0, 0, 0, 0, 0, 0, 0, protocol::UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame[20] = 0;
    let length = (frame.len() - 54) as u16;
    set_be16(&mut frame, 18, length);
    let headers = Headers::parse(&frame).unwrap();
    assert_eq!((headers.protocol, headers.transport, headers.fragment), (protocol::UDP, 78, false));
    frame[54] = 44;
    frame[62] = protocol::UDP;
    let headers = Headers::parse(&frame).unwrap();
    assert!(headers.fragment);
    assert_eq!(headers.checksum_offset(), None);
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let mut frame = packet(false, protocol::UDP, 1);
    let end = frame.len();
    frame.resize(60, 0);
    assert_eq!(Headers::parse(&frame).unwrap().end, end);
    frame[17] = 0;
    assert_eq!(Headers::parse(&frame).unwrap().end, 60);
}

#[test]
fn fragments_have_no_transport_checksum() {
    let mut frame = packet(false, protocol::UDP, 30);
    for flags in [0x2000_u16, 0x0001, 0x1fff] {
        set_be16(&mut frame, 20, flags);
        let headers = Headers::parse(&frame).unwrap();
        assert!(headers.fragment && headers.checksum_offset().is_none());
    }
}

#[test]
fn packets_with_inconsistent_headers_are_not_parsed() {
    let good = packet(false, protocol::TCP, 4);
    for (place, value) in [(14, 0x55), (14, 0x44), (14, 0x4f), (17, 1), (16, 0xff)] {
        let mut bad = good.clone();
        bad[place] = value;
        let parsed = Headers::parse(&bad);
        assert!(parsed.is_none() || parsed.unwrap().checksum_offset().is_none(), "{place}: {value:#x}");
    }
}

proptest::proptest! {
    #[test]
    fn parsed_headers_always_lie_within_the_frame(bytes: Vec<u8>, kind in 0..3_usize) {
        let mut frame = vec![0; 12];
        frame.extend_from_slice([&[8, 0, 0x45][..], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x46]][kind]);
        frame.extend_from_slice(&bytes);
        if let Some(headers) = Headers::parse(&frame) {
            proptest::prop_assert!(headers.network < headers.transport && headers.transport <= headers.end && headers.end <= frame.len());
            if let Some(offset) = headers.checksum_offset() {
                proptest::prop_assert!(headers.transport + usize::from(offset) + 2 <= headers.end);
            }
        }
    }
}
