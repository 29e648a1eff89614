use super::*;
use crate::vmbus::connection::test_guest::{Guest, offer, offered, offered_again, refused, rescinded};
use crate::vmbus::wire::ChannelReference;

/// Posts a guest's request, and returns the host's form of it.
fn asks(guest: &mut Guest, endpoint: u128) -> ConnectRequest {
    let request = TlConnectRequest { endpoint: Guid::new(endpoint), service: Guid::new(1) };
    match guest.post(MessageType::TL_CONNECT_REQUEST, &request)[..] {
        [BusAction::Connect(request)] => request,
        ref actions => panic!("{actions:?}"),
    }
}

fn refusals(guest: &mut Guest) -> Vec<Guid> {
    let endpoint = |message| match message {
        Message::TlConnectResult(result) if result.status == Status::CONNECTION_REFUSED => result.endpoint,
        other => panic!("{other:?}"),
    };
    guest.messages().into_iter().map(endpoint).collect()
}

#[test]
fn a_request_is_refused_as_the_version_specifies() {
    for (version, answers) in [(Version::V4_0, 0), (Version::V4_1, 1), (Version::V5_3, 1)] {
        let mut guest = Guest::new();
        guest.contact(version);
        guest.messages();
        let request = asks(&mut guest, 7);
        guest.host.refuse_socket(&request);
        assert_eq!(refusals(&mut guest), vec![Guid::new(7); answers]);
        guest.host.refuse_socket(&request);
        assert_eq!(refusals(&mut guest), [], "it is refused once");
    }
    let mut guest = Guest::new();
    guest.contact(Version::V3_0);
    guest.messages();
    let body = TlConnectRequest { endpoint: Guid::new(7), service: Guid::new(1) };
    let refusal = refused(&guest.post(MessageType::TL_CONNECT_REQUEST, &body));
    assert!(matches!(refusal, Refusal::NotInVersion { .. }), "{refusal}");
}

#[test]
fn extra_bytes_of_a_newer_guests_request_are_ignored() {
    let mut guest = Guest::connected(0);
    let body = [[7_u8; 16], [1; 16], [9; 16]];
    let actions = guest.post(MessageType::TL_CONNECT_REQUEST, &body);
    assert!(
        matches!(actions[..], [BusAction::Connect(request)] if request.endpoint == zerocopy::transmute!([7_u8; 16]))
    );
}

#[test]
fn a_request_is_granted_by_an_offer() {
    let mut guest = Guest::connected(1);
    let request = asks(&mut guest, 7);
    assert_eq!(guest.host.offer_socket(offer(7), Some(&request)), Ok(ChannelId(2)));
    assert_eq!(offered(&guest.messages()), [2]);
    assert_eq!(guest.host.offer_socket(offer(8), Some(&request)), Err(OfferError::NoGuest), "it is decided");
    let again = asks(&mut guest, 7);
    assert!(matches!(guest.host.offer_socket(offer(7), Some(&again)), Err(OfferError::Duplicate { .. })));
    assert_eq!(refusals(&mut guest), [Guid::new(7)]);
}

#[test]
fn undecided_requests_are_bounded() {
    let mut guest = Guest::connected(0);
    let requests: Vec<_> = (0..MAX_UNDECIDED as u128).map(|endpoint| asks(&mut guest, endpoint)).collect();
    let body = TlConnectRequest { endpoint: Guid::new(1000), service: Guid::new(1) };
    assert_eq!(refused(&guest.post(MessageType::TL_CONNECT_REQUEST, &body)), Refusal::Undecided(MAX_UNDECIDED));
    assert_eq!(refusals(&mut guest), [Guid::new(1000)]);
    guest.host.refuse_socket(&requests[0]);
    asks(&mut guest, 1001);
}

#[test]
fn a_decision_for_an_earlier_kernel_has_no_effect() {
    let mut guest = Guest::connected(0);
    let request = asks(&mut guest, 7);
    offered_again(&mut guest);
    guest.host.refuse_socket(&request);
    assert_eq!(guest.host.offer_socket(offer(7), Some(&request)), Err(OfferError::NoGuest));
    assert_eq!(guest.messages(), []);
}

#[test]
fn a_guest_that_has_not_requested_offers_gets_no_connection() {
    let mut guest = Guest::new();
    assert_eq!(guest.host.offer_socket(offer(1), None), Err(OfferError::NoGuest));
    guest.contact(Version::V5_3);
    assert_eq!(guest.host.offer_socket(offer(1), None), Err(OfferError::NoGuest));
    guest.contact(Version::V3_0);
    guest.post(MessageType::REQUESTOFFERS, &[0_u8; 0]);
    assert_eq!(guest.host.offer_socket(offer(1), None), Err(OfferError::NoGuest));
    assert!(offered_again(&mut guest).is_empty());
}

#[test]
fn a_connection_is_offered_once_and_ends_with_the_guest() {
    let mut guest = Guest::connected(1);
    guest.host.offer_socket(offer(7), None).unwrap();
    guest.host.offer_socket(offer(8), None).unwrap();
    guest.messages();
    guest.open_fully(2);
    // The next kernel connects. The first connection is open, so it must end first.
    assert!(matches!(
        guest.contact(Version::V5_3)[..],
        [BusAction::Close(ChannelId(2)), BusAction::Remove(ChannelId(3))]
    ));
    assert!(matches!(guest.host.closed(ChannelId(2))[..], [BusAction::Remove(ChannelId(2))]));
    guest.post(MessageType::REQUESTOFFERS, &[0_u8; 0]);
    assert_eq!(offered(&guest.messages()), [1]);
}

#[test]
fn a_connection_that_the_guest_declines_is_removed() {
    let mut guest = Guest::connected(1);
    guest.host.offer_socket(offer(7), None).unwrap();
    guest.messages();
    assert!(matches!(guest.release(2)[..], [BusAction::Remove(ChannelId(2))]));
    assert!(guest.release(1).is_empty(), "another device is offered again later");
}

#[test]
fn unreleased_channels_count_towards_the_limit() {
    let mut guest = Guest::connected(1);
    for endpoint in 0..MAX_SOCKETS as u128 {
        let channel = guest.host.offer_socket(offer(100 + endpoint), None).unwrap();
        guest.messages();
        guest.gpadl(channel.0, 1, &[0]);
        assert!(guest.host.is_answered(channel));
        assert!(guest.host.rescind(channel).is_empty());
        assert!(guest.messages().contains(&rescinded(channel.0)));
    }
    assert_eq!(guest.host.offer_socket(offer(99), None), Err(OfferError::TooManySockets));
    assert!(guest.host.offer(offer(99)).is_ok(), "other devices have room");
    let body = ChannelReference { channel: ChannelId(2) };
    assert!(matches!(guest.post(MessageType::RELID_RELEASED, &body)[..], [BusAction::Remove(_)]));
    assert_eq!(guest.host.offer_socket(offer(98), None), Ok(ChannelId(2)));
}

#[test]
fn any_use_of_the_channel_by_the_guest_counts_as_an_answer() {
    let mut guest = Guest::connected(0);
    let channel = guest.host.offer_socket(offer(7), None).unwrap();
    assert!(!guest.host.is_answered(channel) && !guest.host.is_answered(ChannelId(9)));
    guest.messages();
    guest.open_fully(channel.0);
    assert!(guest.host.is_answered(channel));
}
