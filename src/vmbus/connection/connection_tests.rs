use super::test_guest::*;
use super::*;
use crate::vmbus::message::ParseError;
use crate::vmbus::wire::MessageType;

#[test]
fn every_version_is_accepted_with_the_response_of_that_version() {
    for version in Version::ALL {
        let mut guest = Guest::new();
        assert!(guest.contact(version).is_empty());
        assert_eq!(guest.host.version(), Some(version));
        let outgoing = guest.host.next_message().unwrap();
        let connection = if version >= Version::V5_0 { 4 } else { version.0 };
        assert_eq!(outgoing.message, version_response(1, connection));
        let vp = if version >= Version::V3_0 { VpIndex(3) } else { VpIndex(0) };
        assert_eq!((outgoing.vp, outgoing.sint), (vp, SintIndex::VMBUS));
    }
}

#[test]
fn a_guest_that_tries_versions_downwards_gets_the_newest_allowed() {
    let mut guest = Guest::new();
    guest.host.settings.max_version = Version::V4_0;
    assert!(guest.host.listens_on(ConnectionId::MESSAGES));
    assert!(!guest.host.listens_on(ConnectionId::MESSAGES_5), "as an old host");
    let answers: Vec<bool> = Version::ALL
        .into_iter()
        .rev()
        .map(|version| {
            guest.contact(version);
            guest.messages() != [version_response(0, 0)]
        })
        .collect();
    assert_eq!(answers, [false, false, false, false, false, true, true, true]);
    for version in [0x0000_000d, 0x0001_0001, 0x0006_0000, 0, u32::MAX] {
        let max_version = Version::V4_0;
        let version = Version(version);
        assert_eq!(refused(&guest.contact(version)), Refusal::Version { version, max_version });
        assert_eq!(guest.messages(), [version_response(0, 0)]);
        assert_eq!(guest.host.version(), None);
    }
}

#[test]
fn a_contact_that_names_a_missing_vp_or_sint_is_refused() {
    let mut guest = Guest::new();
    let mut contact = contact(Version::V5_3);
    contact.target_vp = VpIndex(4);
    let actions = guest.post(MessageType::INITIATE_CONTACT, &contact);
    assert_eq!(refused(&actions), Refusal::NoSuchVp { target: VpIndex(4), vp_count: 4 });
    let outgoing = guest.host.next_message().unwrap();
    assert_eq!((outgoing.vp, outgoing.message), (VpIndex(0), version_response(0, 0)));

    contact.target_vp = VpIndex(1);
    contact.interrupt_page_or_target[0] = 3;
    assert_eq!(refused(&guest.post(MessageType::INITIATE_CONTACT, &contact)), Refusal::Sint(3));
    contact.interrupt_page_or_target[..2].copy_from_slice(&[2, 1]);
    assert_eq!(refused(&guest.post(MessageType::INITIATE_CONTACT, &contact)), Refusal::Vtl(1));
    contact.version = Version::V4_1;
    assert!(guest.post(MessageType::INITIATE_CONTACT, &contact).is_empty(), "an interrupt page's address");
}

#[test]
fn messages_must_use_the_connection_id_of_their_version() {
    for (version, right, wrong) in [(Version::V4_1, 1, 4), (Version::V5_0, 4, 1)] {
        let mut guest = Guest::new();
        guest.contact(version);
        guest.port = ConnectionId(wrong);
        let (connection, expected) = (ConnectionId(wrong), ConnectionId(right));
        let refusal = Refusal::WrongConnection { connection, expected };
        assert_eq!(refused(&guest.post(MessageType::REQUESTOFFERS, &[0u8; 0])), refusal);
        guest.port = ConnectionId(right);
        assert!(guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]).is_empty());
    }
}

#[test]
fn messages_before_contact_are_not_answered() {
    let mut guest = Guest::new();
    guest.host.offer(offer(1)).unwrap();
    assert_eq!(refused(&guest.post(MessageType::REQUESTOFFERS, &[0u8; 0])), Refusal::NotConnected);
    assert_eq!(refused(&guest.gpadl(1, 1, &[0, 1, 2, 3])), Refusal::NotConnected);
    assert_eq!(refused(&guest.open(1, 1)), Refusal::NotConnected);
    let short = guest.host.receive(ConnectionId::MESSAGES, &[1, 2, 3]);
    assert_eq!(refused(&short), Refusal::Parse(ParseError::Length(3)));
    assert_eq!(guest.messages(), []);
}

#[test]
fn a_contact_without_unload_is_answered_after_the_old_rings_are_released() {
    let mut guest = Guest::connected(3);
    guest.open_fully(1);
    guest.gpadl(2, 2, &[4, 5, 6, 7]);
    guest.open(2, 2);
    guest.host.offer(offer(1).subchannel(1)).unwrap();
    guest.gpadl(3, 5, &[9]);
    let actions = guest.contact(Version::V4_0);
    assert!(matches!(actions[..], [BusAction::Close(ChannelId(1)), BusAction::Remove(ChannelId(4))]), "{actions:?}");
    assert_eq!(guest.messages(), [], "what the old kernel did not read is gone");
    assert_eq!(refused(&guest.post(MessageType::REQUESTOFFERS, &[0u8; 0])), Refusal::NotConnected);
    assert!(guest.host.closed(ChannelId(1)).is_empty());
    assert!(matches!(guest.host.opened(ChannelId(2), true)[..], [BusAction::Close(ChannelId(2))]));
    assert_eq!(guest.messages(), []);
    // Several contacts before an answer: only the last one counts.
    guest.contact(Version::V5_0);
    assert!(guest.host.closed(ChannelId(2)).is_empty());
    assert_eq!(guest.messages(), [version_response(1, 4)]);
    guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
    assert_eq!(offered(&guest.messages()), [1, 2, 3]);
    assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
    guest.open_fully(2);
}

#[test]
fn requests_of_the_previous_kernel_are_not_answered_to_the_next() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    guest.close(1);
    guest.teardown(1, 1);
    guest.open(1, 1);
    guest.contact(Version::V5_3);
    assert!(guest.host.closed(ChannelId(1)).is_empty());
    assert_eq!(guest.messages(), [version_response(1, 4)]);
}

#[test]
fn an_unload_is_answered_once_for_each_request_when_all_channels_are_closed() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    assert!(matches!(guest.post(MessageType::UNLOAD, &[0u8; 0])[..], [BusAction::Close(_)]));
    assert!(guest.post(MessageType::UNLOAD, &[0u8; 0]).is_empty());
    assert_eq!(guest.messages(), []);
    guest.host.closed(ChannelId(1));
    let outgoing = guest.host.next_message().unwrap();
    assert_eq!((outgoing.vp, outgoing.message), (VpIndex(3), Message::UnloadResponse));
    assert_eq!(guest.messages(), []);
    guest.post(MessageType::UNLOAD, &[0u8; 0]);
    assert_eq!(guest.messages(), [Message::UnloadResponse]);
    assert_eq!(offered_again(&mut guest), [1]);
}

#[test]
fn a_reset_disconnects_the_guest_without_messages() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    assert!(matches!(guest.host.reset()[..], [BusAction::Close(_)]));
    guest.host.closed(ChannelId(1));
    assert_eq!((guest.messages(), guest.host.version()), (vec![], None));
    assert_eq!(guest.host.target, VpIndex::BOOT);
}

#[test]
fn requests_of_a_guest_that_does_not_read_are_bounded() {
    let mut guest = Guest::connected(1);
    let mut asked = 0;
    while !guest.host.is_busy() {
        guest.open(1, 1);
        asked += 1;
    }
    assert_eq!(asked, MAX_HELD_BACK);
    assert_eq!(refused(&guest.open(1, 1)), Refusal::Busy);
    assert_eq!(guest.host.outbox.len(), MAX_HELD_BACK);
    guest.host.next_message();
    assert!(matches!(refused(&guest.open(1, 1)), Refusal::NoSuchGpadl(_)));
    guest.contact(Version::V5_3);
    assert_eq!(guest.messages().len(), 1, "a new kernel is not kept waiting by the old");
}
