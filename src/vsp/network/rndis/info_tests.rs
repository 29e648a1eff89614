use super::*;
use proptest::prelude::*;

#[test]
fn per_packet_information_has_the_layout_of_linux() {
    let information = Information { checksum: Some(5), vlan: Some(Vlan(0x1230)), ..Information::default() };
    let mut bytes = [0; MAX_INFORMATION];
    let length = information.write(&mut bytes);
    let words: Vec<u32> = bytes[..length].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [16, 0, 12, 5, 16, 6, 12, 0x1230]);
}

#[test]
fn a_tag_has_the_same_fields_in_both_orders() {
    // Priority 5, drop eligible, VLAN 0x123.
    assert_eq!(TagControl::from(Vlan(5 | 1 << 3 | 0x123 << 4)), TagControl(0xb123));
    for tag in [0, 0xffff, 0xb123, 0x1000, 0xe000, 1] {
        assert_eq!(TagControl::from(Vlan::from(TagControl(tag))), TagControl(tag));
    }
}

#[test]
fn unknown_per_packet_information_is_skipped() {
    let words: [u32; 9] = [20, 11, 12, 7, 7, 16, 8, 12, 99];
    let information = Information::parse(&words.as_bytes()[..36]).unwrap();
    assert_eq!(information, Information { hash: Some(99), ..Information::default() });
}

#[test]
fn per_packet_information_that_exceeds_its_message_is_refused() {
    let parse = |words: &[u32]| Information::parse(words.as_bytes());
    assert!(matches!(parse(&[16, 0]), Err(InformationError::Size { .. })));
    assert!(matches!(parse(&[0, 0, 12, 0]), Err(InformationError::Size { size: 0, .. })));
    assert!(matches!(parse(&[20, 0, 12, 0]), Err(InformationError::Size { size: 20, left: 16 })));
    assert!(matches!(parse(&[16, 0, 13, 0]), Err(InformationError::Value { offset: 13, size: 16 })));
    assert!(matches!(parse(&[16, 0, u32::MAX, 0]), Err(InformationError::Value { .. })));
}

proptest! {
    #[test]
    fn per_packet_information_can_be_read_back(checksum: Option<u32>, large_send: Option<u32>, vlan: Option<u32>, hash: Option<u32>, id: Option<(u8, u16)>) {
        let information = Information {
            checksum,
            large_send: large_send.map(LargeSend),
            vlan: vlan.map(Vlan),
            hash,
            packet_id: id.map(|(flags, id)| PacketId { version: 1, flags, id }),
        };
        let mut bytes = [0; MAX_INFORMATION];
        let length = information.write(&mut bytes);
        prop_assert_eq!(Information::parse(&bytes[..length]), Ok(information));
    }

    #[test]
    fn random_per_packet_information_never_panics(bytes: Vec<u8>) {
        let _ = Information::parse(&bytes);
    }
}
