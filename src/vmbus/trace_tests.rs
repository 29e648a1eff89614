use super::*;
use crate::vmbus::ids::{ChannelId, GpadlId, Version, VpIndex};
use crate::vmbus::message::{Message, message};
use crate::vmbus::packet::PacketKind;
use crate::vmbus::wire::Status;
use proptest::prelude::*;
use zerocopy::FromZeros;

fn line(message: &[u8]) -> String {
    MessageLine(message).to_string()
}

#[test]
fn messages_of_both_sides_are_readable_lines() {
    let mut contact = InitiateContact::new_zeroed();
    (contact.version, contact.target_vp) = (Version::V5_3, VpIndex(2));
    assert_eq!(line(&message(MessageType::INITIATE_CONTACT, &contact)), "INITIATE_CONTACT version 5.3 to VP 2");

    let mut offer = OfferChannel::new_zeroed();
    (offer.interface, offer.channel, offer.subchannel_index) = (interface::SCSI, ChannelId(7), 2);
    offer.connection = ChannelId(7).connection();
    assert_eq!(
        line(&Message::OfferChannel(offer).to_bytes()),
        "OFFERCHANNEL channel 7: SCSI 00000000-0000-0000-0000-000000000000, subchannel 2, signals to connection 0x2007"
    );

    let header = GpadlHeader { channel: ChannelId(1), gpadl: GpadlId(0xe1e10), range_bytes: 24, range_count: 1 };
    let mut bytes = message(MessageType::GPADL_HEADER, &header);
    bytes.extend([0; 24]);
    assert_eq!(line(&bytes), "GPADL_HEADER 0xe1e10 of channel 1: 1 ranges in 24 bytes, 24 here");

    let result = OpenResult { channel: ChannelId(1), open_id: 3, status: Status::UNSUCCESSFUL };
    let expected = "OPENCHANNEL_RESULT channel 1 (open 3): STATUS_UNSUCCESSFUL";
    assert_eq!(line(&Message::OpenResult(result).to_bytes()), expected);
}

#[test]
fn undecodable_messages_are_shown_as_bytes() {
    assert_eq!(line(&[1, 2]), "no message: 0102");
    assert_eq!(line(&message(MessageType(99), &[0xabu8; 2])), "message type 99, unreadable: abab");
    assert_eq!(line(&message(MessageType::CLOSECHANNEL, &[1u8; 3])), "CLOSECHANNEL, unreadable: 010101");
    assert!(line(&message(MessageType(99), &[0u8; 200])).ends_with("00… (200 bytes)"));
}

#[test]
fn a_packet_is_a_readable_line() {
    let header = PacketHeader {
        kind: PacketKind::GPA_DIRECT,
        payload_offset8: 5,
        length8: 13,
        flags: PacketHeader::COMPLETION_REQUESTED,
        transaction_id: 0x10,
    };
    assert_eq!(PacketLine(&header).to_string(), "GPA-direct packet, transaction 0x10, 64 bytes, wants completion");
}

proptest! {
    #[test]
    fn random_bytes_print_as_one_line(message_type in 0u32..30, body in prop::collection::vec(any::<u8>(), 0..240)) {
        prop_assert!(!line(&message(MessageType(message_type), &body[..])).contains('\n'));
        prop_assert!(!line(&body).contains('\n'));
    }
}
