use super::super::testing::packet;
use super::*;
use proptest::prelude::*;

/// The simple model: adds 16-bit words one by one, as in RFC 1071.
fn naive(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn the_example_of_rfc_1071_has_the_published_sum() {
    assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
}

#[test]
fn the_checksum_of_a_known_ipv4_header_is_right() {
    let mut frame = vec![0; 14];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame
        .extend_from_slice(&[0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7]);
    frame.resize(14 + 0x73, 0);
    let headers = Headers::parse(&frame).unwrap();
    complete_ipv4_header(&mut frame, &headers);
    assert_eq!(frame[24..26], [0xb8, 0x61]);
    assert!(is_ipv4_header_right(&frame, &headers));
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    // A datagram whose words add up to ffff, because its payload is the difference.
    let mut frame = super::super::testing::packet_with(false, protocol::UDP, &[0, 0]);
    let headers = Headers::parse(&frame).unwrap();
    let checksum = be16(&frame, headers.transport + 6).unwrap();
    set_be16(&mut frame, headers.transport + 8, checksum);
    let open = leave_open(&mut frame, &headers).unwrap();
    complete(&mut frame, open);
    assert_eq!(be16(&frame, headers.transport + 6), Some(0xffff));
    assert_eq!(is_right(&frame, &headers), Some(true));
    set_be16(&mut frame, headers.transport + 6, 0);
    assert_eq!(is_right(&frame, &headers), Some(true), "without checksum");
}

proptest! {
    #[test]
    fn sums_agree_with_a_simple_model(bytes: Vec<u8>) {
        prop_assert_eq!(fold(sum(&bytes)), naive(&bytes));
    }

    #[test]
    fn a_computed_checksum_is_right_and_detects_a_changed_byte(
        is_ipv6: bool, is_tcp: bool, length in 0..2000_usize, padding in 0..20_usize, place: proptest::sample::Index, change in 1..=255_u8,
    ) {
        let mut frame = packet(is_ipv6, if is_tcp { protocol::TCP } else { protocol::UDP }, length);
        let headers = Headers::parse(&frame).unwrap();
        frame.resize(frame.len() + padding, 0x5a);
        prop_assert_eq!(is_right(&frame, &headers), Some(true));
        let index = headers.transport + place.index(headers.end - headers.transport);
        frame[index] ^= change;
        let zero = !is_tcp && be16(&frame, headers.transport + 6) == Some(0);
        prop_assert_eq!(is_right(&frame, &headers), if zero { (!is_ipv6).then_some(true) } else { Some(false) });
    }
}
