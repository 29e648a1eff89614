use super::*;
use proptest::prelude::*;
use zerocopy::FromZeros;

#[test]
fn a_request_has_the_layout_that_linux_reads() {
    let header = Header {
        framework: Version::new(3, 0),
        message_type: MessageType::SHUTDOWN,
        version: Version::new(3, 2),
        body_length: 4,
        status: Status::SUCCESS,
        transaction_id: 9,
        flags: Header::TRANSACTION | Header::REQUEST,
        reserved: [0; 2],
    };
    let expected = [
        1, 0, 0, 0, 24, 0, 0, 0, // vmbuspipe_hdr: flags, msgsize
        3, 0, 0, 0, 3, 0, 3, 0, 2, 0, 4, 0, // icverframe, icmsgtype, icvermsg, icmsgsize
        0, 0, 0, 0, 9, 3, 0, 0, // status, ictransaction_id, icflags, reserved
        1, 2, 3, 4,
    ];
    assert_eq!(packet(&header, &[1, 2, 3, 4]), expected);
    assert_eq!(split(&expected), Ok((header, &[1, 2, 3, 4][..])));
}

#[test]
fn a_negotiation_lists_the_framework_versions_first() {
    let body = negotiation(&[Version::new(1, 0), Version::new(3, 0)], &[Version::new(4, 0)]);
    assert_eq!(body, [2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn the_choice_of_the_guest_is_one_version_of_each() {
    let reply = |counts: [u8; 2]| [&[counts[0], 0, counts[1], 0, 0, 0, 0, 0], &[3, 0, 0, 0, 4, 0, 1, 0][..]].concat();
    assert_eq!(negotiated(&reply([1, 1])), Some((Version::new(3, 0), Version::new(4, 1))));
    assert_eq!(negotiated(&reply([0, 0])), None, "Linux says so if it supports none");
    assert_eq!(negotiated(&reply([1, 2])), None);
    assert_eq!(negotiated(&reply([1, 1])[..15]), None);
}

#[test]
fn lengths_that_exceed_the_packet_are_refused() {
    let header = |body_length| Header { body_length, ..Header::new_zeroed() };
    let mut bytes = packet(&header(4), &[0; 4]);
    assert_eq!(split(&bytes[..27]), Err(Violation::Short(27)));
    assert_eq!(split(&[]), Err(Violation::Short(0)));
    assert!(matches!(split(&packet(&header(5), &[0; 4])), Err(Violation::Length { body: 5, .. })));
    assert!(split(&packet(&header(3), &[0; 4])).is_ok_and(|(_, body)| body.len() == 3), "a body may be shorter");
    bytes[4] = 25;
    assert!(matches!(split(&bytes), Err(Violation::Length { message: 25, .. })));
    bytes[4] = 19;
    assert!(matches!(split(&bytes), Err(Violation::Length { message: 19, .. })), "no room for the header");
    bytes[0] = 2;
    assert_eq!(split(&bytes), Err(Violation::Kind(2)));
    assert_eq!(split(&vec![1; MAX_PACKET + 1]), Err(Violation::Long(MAX_PACKET + 1)));
}

proptest! {
    #[test]
    fn random_packets_are_split_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..80), length in 0..100_u32) {
        let mut payload = payload;
        if payload.len() > 8 {
            payload[..4].copy_from_slice(&1_u32.to_le_bytes());
            payload[4..8].copy_from_slice(&length.to_le_bytes());
        }
        if let Ok((header, body)) = split(&payload) {
            prop_assert_eq!(body.len(), usize::from(header.body_length));
            prop_assert!(body.len() + HEADERS <= payload.len());
            let _ = negotiated(body);
        }
    }
}
