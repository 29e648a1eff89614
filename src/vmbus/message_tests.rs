use super::*;
use crate::vmbus::ids::{ChannelId, GpadlId};
use crate::vmbus::wire::{ChannelReference, Status};
use crate::wire::guid::{Guid, interface};
use zerocopy::FromZeros;

#[test]
fn a_short_message_is_refused_and_a_longer_one_is_accepted() {
    let bodies: [(MessageType, usize); 9] = [
        (MessageType::INITIATE_CONTACT, 32),
        (MessageType::OPENCHANNEL, 140),
        (MessageType::CLOSECHANNEL, 4),
        (MessageType::GPADL_HEADER, 12),
        (MessageType::GPADL_BODY, 8),
        (MessageType::GPADL_TEARDOWN, 8),
        (MessageType::RELID_RELEASED, 4),
        (MessageType::TL_CONNECT_REQUEST, 32),
        (MessageType::MODIFYCHANNEL, 8),
    ];
    for (message_type, length) in bodies {
        let mut bytes = message(message_type, &vec![0u8; length][..]);
        assert!(Request::parse(&bytes).is_ok(), "{message_type}");
        bytes.push(0);
        assert!(Request::parse(&bytes).is_ok(), "{message_type}");
        bytes.truncate(8 + length - 1);
        let needed = 8 + length;
        assert_eq!(Request::parse(&bytes), Err(ParseError::Short { message_type, needed, length: needed - 1 }));
    }
}

#[test]
fn messages_that_guests_do_not_send_are_refused() {
    assert_eq!(Request::parse(&[]), Err(ParseError::Length(0)));
    assert_eq!(Request::parse(&[0; 7]), Err(ParseError::Length(7)));
    assert_eq!(Request::parse(&[0; 241]), Err(ParseError::Length(241)));
    for number in [0, 1, 2, 4, 6, 10, 12, 15, 17, 18, 23, 24, 25, u32::MAX] {
        let bytes = message(MessageType(number), &[0u8; 200]);
        assert_eq!(Request::parse(&bytes), Err(ParseError::Type(MessageType(number))));
    }
}

#[test]
fn the_ranges_of_a_gpadl_follow_its_header() {
    let header = GpadlHeader { channel: ChannelId(3), gpadl: GpadlId(4), range_bytes: 24, range_count: 1 };
    let mut bytes = message(MessageType::GPADL_HEADER, &header);
    bytes.extend_from_slice(&[7; 24]);
    assert_eq!(Request::parse(&bytes), Ok(Request::GpadlHeader(header, &[7; 24])));
}

#[test]
fn messages_of_the_host_have_the_layout_of_the_protocol() {
    let result = OpenResult { channel: ChannelId(0x0102), open_id: 9, status: Status::SUCCESS };
    let expected = [6, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Message::OpenResult(result).to_bytes()[..], expected);
    assert_eq!(Message::AllOffersDelivered.to_bytes()[..], [4, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Message::UnloadResponse.to_bytes()[..], [17, 0, 0, 0, 0, 0, 0, 0]);
    let rescind = Message::RescindChannelOffer(ChannelReference { channel: ChannelId(5) });
    assert_eq!(rescind.to_bytes()[..], [2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);

    let mut offer = OfferChannel::new_zeroed();
    offer.interface = interface::SCSI;
    offer.instance = Guid::new(1);
    let bytes = Message::OfferChannel(offer).to_bytes();
    assert_eq!(bytes.len(), 196);
    assert_eq!(&bytes[8..24], interface::SCSI.as_bytes());
}
