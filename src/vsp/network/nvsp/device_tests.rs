use super::super::testing::*;
use super::super::wire::{SEND_TABLE, SEND_TABLE_OFFSET};
use super::*;
use crate::vsp::network::rndis::oid::Oid;
use crate::vsp::network::rndis::wire::{MessageType as RndisType, RequestId, message as rndis_message};

fn read<T: FromBytes + KnownLayout + Immutable>(payload: &[u8], message_type: MessageType) -> T {
    let (found, body) = split(payload).unwrap();
    assert_eq!(found, message_type);
    T::read_from_prefix(body).ok().unwrap().0
}

#[test]
fn linux_negotiates_the_newest_version() {
    let guest = Guest::new();
    for newest in Version::ALL {
        let mut device = device_of(newest, 1);
        for version in Version::ALL.into_iter().rev() {
            let outcome = send(&mut device, &guest, MessageType::INIT, &init(version.number()));
            let complete: InitComplete = read(completion(&outcome), MessageType::INIT_COMPLETE);
            assert_eq!(complete.status == Status::SUCCESS, version <= newest);
            if version <= newest {
                break;
            }
            assert_eq!(complete.status, Status::PROTOCOL_TOO_NEW);
        }
        assert_eq!(device.version(), Some(newest));
    }
}

#[test]
fn of_a_range_of_versions_the_newest_is_chosen() {
    let guest = Guest::new();
    for (minimum, maximum, version) in [
        (2, 0x5_0000, Some(Version::V5)),
        (2, 0x9_0000, Some(Version::V6_1)),
        (3, 4, None),
        (0, 1, None),
        (5, 2, Some(Version::V1)),
    ] {
        let mut device = device(1);
        send(&mut device, &guest, MessageType::INIT, &Init { minimum, maximum });
        assert_eq!(device.version(), version);
    }
}

#[test]
fn completions_have_the_length_that_drivers_expect() {
    let guest = Guest::new();
    for (version, length) in [(Version::V1, 28), (Version::V6, 28), (Version::V6_1, 40)] {
        let mut device = device(1);
        let outcome = send(&mut device, &guest, MessageType::INIT, &init(version.number()));
        assert_eq!(completion(&outcome).len(), length);
    }
}

#[test]
fn other_messages_before_the_version_are_refused() {
    let guest = Guest::new();
    let mut device = device(1);
    let outcome = send(
        &mut device,
        &guest,
        MessageType::SEND_RECEIVE_BUFFER,
        &wire::SendBuffer { gpadl: RECEIVE, id: 1, reserved: 0 },
    );
    assert_eq!(outcome.refusal, Some(Refusal::Unexpected(MessageType::SEND_RECEIVE_BUFFER)));
    assert!(device.path().receive.is_none());
    let outcome = device.receive_control(&rndis_message(RndisType::KEEPALIVE, &RequestId { request_id: 1 }, &[]));
    assert_eq!(outcome.refusal, Some(Refusal::Unexpected(MessageType::SEND_RNDIS_PACKET)));
    assert_eq!(completion(&outcome), rndis_complete(Status::FAIL));
}

#[test]
fn the_size_of_a_receive_section_follows_from_the_mtu() {
    for (mtu, expected) in [(1500, 1500), (9000, 9000), (20, 68), (60_000, 9000)] {
        let guest = Guest::new();
        let mut device = device(1);
        send(&mut device, &guest, MessageType::INIT, &init(0x6_0001));
        let config = NdisConfig { frame_length: mtu + 14, reserved: 0, capabilities: [0; 2] };
        send(&mut device, &guest, MessageType::SEND_NDIS_CONFIG, &config);
        let buffer = wire::SendBuffer { gpadl: RECEIVE, id: RECEIVE_ID, reserved: 0 };
        let outcome = send(&mut device, &guest, MessageType::SEND_RECEIVE_BUFFER, &buffer);
        assert_eq!(outcome.actions[0], NvspAction::UpdatePath, "the path stands before the guest hears of it");
        let complete: ReceiveBufferComplete = read(completion(&outcome), MessageType::SEND_RECEIVE_BUFFER_COMPLETE);
        assert_eq!((complete.status, complete.division_count, complete.offset), (Status::SUCCESS, 1, 0));
        let length = complete.section_size * complete.section_count;
        assert!(length <= 1 << 20 && length + complete.section_size > 1 << 20);
        assert_eq!(complete.end_offset, length);
        assert_eq!(complete.section_size, receive_section(expected));
        assert_eq!(device.adapter().mtu(), expected);
    }
}

#[test]
fn invalid_buffers_are_refused_with_a_status() {
    let mut guest = Guest::new();
    guest.add(GpadlId(7), 600, 4);
    let mut device = device(1);
    send(&mut device, &guest, MessageType::INIT, &init(0x6_0001));
    for gpadl in [GpadlId(99), GpadlId(7)] {
        let buffer = wire::SendBuffer { gpadl, id: 1, reserved: 0 };
        let outcome = send(&mut device, &guest, MessageType::SEND_RECEIVE_BUFFER, &buffer);
        let complete: ReceiveBufferComplete = read(completion(&outcome), MessageType::SEND_RECEIVE_BUFFER_COMPLETE);
        assert_eq!((complete.status, outcome.refusal), (Status::FAIL, Some(Refusal::Buffer(gpadl))));
        assert_eq!(completion(&outcome).len(), 40);
    }
    let outcome = send(
        &mut device,
        &guest,
        MessageType::SEND_SEND_BUFFER,
        &wire::SendBuffer { gpadl: GpadlId(99), id: 1, reserved: 0 },
    );
    let complete: SendBufferComplete = read(completion(&outcome), MessageType::SEND_SEND_BUFFER_COMPLETE);
    assert_eq!(complete.status, Status::FAIL);
}

#[test]
fn a_second_buffer_is_refused_until_the_first_is_revoked() {
    let guest = Guest::new();
    let (mut device, path) = ready(&guest, 0);
    let first = path.receive.as_ref().unwrap().generation;
    let again = wire::SendBuffer { gpadl: RECEIVE, id: 5, reserved: 0 };
    assert!(send(&mut device, &guest, MessageType::SEND_RECEIVE_BUFFER, &again).refusal.is_some());
    let revoke = RevokeBuffer { id: RECEIVE_ID, reserved: 0 };
    let outcome = send(&mut device, &guest, MessageType::REVOKE_RECEIVE_BUFFER, &revoke);
    assert_eq!(outcome.actions[..], [NvspAction::UpdatePath, NvspAction::Complete(Vec::new())]);
    assert!(device.path().receive.is_none());
    assert!(send(&mut device, &guest, MessageType::SEND_RECEIVE_BUFFER, &again).refusal.is_none());
    let second = device.path().receive.clone().unwrap();
    assert_eq!((second.id, second.generation), (5, first + 1));
    send(&mut device, &guest, MessageType::REVOKE_SEND_BUFFER, &revoke);
    assert!(device.path().send.is_none());
}

#[test]
fn a_buffer_whose_gpadl_is_torn_down_is_no_longer_used() {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, 0);
    assert_eq!(device.release(SEND)[..], [NvspAction::UpdatePath]);
    assert!(device.path().send.is_none() && device.path().receive.is_some());
    device.release(RECEIVE);
    assert!(device.path().receive.is_none());
}

#[test]
fn subchannels_are_granted_once_and_up_to_their_maximum() {
    let guest = Guest::new();
    for (asked, granted) in [(7, 3), (3, 3), (1, 1), (u32::MAX, 3)] {
        let (mut device, _) = ready(&guest, 0);
        let request = Subchannel { operation_or_status: 1, count: asked };
        let outcome = send(&mut device, &guest, MessageType::SUBCHANNEL, &request);
        let answer: Subchannel = read(completion(&outcome), MessageType::SUBCHANNEL);
        assert_eq!((answer.operation_or_status, answer.count), (Status::SUCCESS.0, granted));
        assert_eq!(outcome.actions[1], NvspAction::OfferSubchannels(granted as u16));
        let NvspAction::Send(table) = &outcome.actions[2] else { panic!("{:?}", outcome.actions) };
        assert_eq!(table.len(), SEND_TABLE_OFFSET + 4 * SEND_TABLE);
        let entries: Vec<u32> =
            table[SEND_TABLE_OFFSET..].chunks(4).map(|entry| u32::from_le_bytes(entry.try_into().unwrap())).collect();
        assert!(entries.iter().enumerate().all(|(index, entry)| *entry == index as u32 % (granted + 1)));
        let again = send(&mut device, &guest, MessageType::SUBCHANNEL, &request);
        let answer: Subchannel = read(completion(&again), MessageType::SUBCHANNEL);
        assert_eq!(answer.operation_or_status, Status::FAIL.0);
    }
}

#[test]
fn a_device_with_one_queue_has_no_subchannels() {
    let guest = Guest::new();
    let mut device = device(1);
    set_up(&mut device, &guest, Version::V6_1, 1500, 0);
    let outcome = send(&mut device, &guest, MessageType::SUBCHANNEL, &Subchannel { operation_or_status: 1, count: 4 });
    let answer: Subchannel = read(completion(&outcome), MessageType::SUBCHANNEL);
    assert_eq!((answer.operation_or_status, answer.count, outcome.actions.len()), (Status::SUCCESS.0, 0, 1));
}

#[test]
fn messages_of_later_versions_are_refused() {
    let guest = Guest::new();
    for (message_type, since) in [
        (MessageType::SEND_NDIS_CONFIG, Version::V2),
        (MessageType::SWITCH_DATA_PATH, Version::V4),
        (MessageType::SUBCHANNEL, Version::V5),
        (MessageType::PD_API, Version::V6),
    ] {
        for version in Version::ALL {
            let mut device = device(2);
            send(&mut device, &guest, MessageType::INIT, &init(version.number()));
            let outcome = send(&mut device, &guest, message_type, &[1_u32; 4]);
            let refused = outcome.refusal == Some(Refusal::Unexpected(message_type));
            assert!(
                refused == (version < since) || message_type == MessageType::SUBCHANNEL,
                "{message_type} {version}"
            );
            assert!(!outcome.actions.is_empty(), "every message is completed");
        }
    }
}

#[test]
fn a_switch_to_the_virtual_function_is_answered_without_a_payload() {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, 0);
    let outcome = send(&mut device, &guest, MessageType::SWITCH_DATA_PATH, &SwitchDataPath { active: 1 });
    assert_eq!(outcome.actions[..], [NvspAction::Complete(Vec::new())]);
    assert!(device.path().running);
}

#[test]
fn coalescing_needs_version_6_1_and_a_driver_that_supports_it() {
    let guest = Guest::new();
    let hardware = |version, capabilities| {
        let mut device = device(1);
        set_up(&mut device, &guest, version, 1500, capabilities);
        let mut parameters = vec![0x80, 3, 26, 0];
        parameters.resize(26, 0);
        parameters[22..24].copy_from_slice(&[2, 2]);
        set(&mut device, Oid::TCP_OFFLOAD_PARAMETERS, &parameters);
        device.path().offloads.coalescing4
    };
    assert!(hardware(Version::V6_1, NdisConfig::COALESCING));
    assert!(!hardware(Version::V6_1, 0));
    assert!(!hardware(Version::V6, NdisConfig::COALESCING));
}

#[test]
fn the_path_changes_before_the_reply_is_sent() {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, 0);
    let outcome = set(&mut device, Oid::GEN_CURRENT_PACKET_FILTER, &0_u32.to_le_bytes());
    let order: Vec<_> = outcome.actions.iter().map(std::mem::discriminant).collect();
    let expected = [NvspAction::Complete(Vec::new()), NvspAction::UpdatePath, NvspAction::Indicate(Vec::new())];
    assert_eq!(order, expected.each_ref().map(std::mem::discriminant));
    assert!(!device.path().wants(&[0xff; 60]));
}

#[test]
fn the_filter_is_applied_to_each_kind_of_address() {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, 0);
    let group = [1, 0, 0x5e, 0, 0, 7];
    set(&mut device, Oid::ETHERNET_MULTICAST_LIST, &group);
    let frames = [ADDRESS.0, [2, 9, 9, 9, 9, 9], group, [1, 0, 0x5e, 0, 0, 8], [0xff; 6]];
    for (filter, wanted) in [
        (0x00_u32, [false, false, false, false, false]),
        (0x01, [true, false, false, false, false]),
        (0x02, [false, false, true, false, false]),
        (0x04, [false, false, true, true, false]),
        (0x08, [false, false, false, false, true]),
        (0x0d, [true, false, true, true, true]),
        (0x20, [true; 5]),
    ] {
        set(&mut device, Oid::GEN_CURRENT_PACKET_FILTER, &filter.to_le_bytes());
        assert_eq!(frames.map(|frame| device.path().wants(&frame)), wanted, "{filter:#x}");
    }
    device.set_link(false);
    assert!(!device.path().wants(&frames[0]));
    assert!(!device.path().wants(&[2, 0, 0]));
}

#[test]
fn a_channel_that_is_opened_again_starts_from_the_initial_state() {
    let guest = Guest::new();
    let (mut device, _) = ready(&guest, 0);
    device.set_channels(4);
    device.restart();
    assert_eq!(device.version(), None);
    assert!(!device.path().running && device.path().receive.is_none());
    set_up(&mut device, &guest, Version::V5, 1500, 0);
    assert_eq!(device.version(), Some(Version::V5));
}

#[test]
fn truncated_messages_are_refused() {
    let guest = Guest::new();
    for kind in [
        MessageType::SEND_NDIS_VERSION,
        MessageType::SEND_NDIS_CONFIG,
        MessageType::SEND_RECEIVE_BUFFER,
        MessageType::SUBCHANNEL,
    ] {
        let (mut device, _) = ready(&guest, 0);
        let outcome = device.receive(&message(kind, &[0_u8; 3], 0), &guest);
        assert_eq!(outcome.refusal, Some(Refusal::Short { message_type: kind, length: 3 }));
    }
    assert_eq!(device(1).receive(&[1, 0], &guest).refusal, Some(Refusal::Empty));
}

proptest::proptest! {
    #[test]
    fn random_nvsp_messages_never_panic(messages in proptest::collection::vec((0..140_u32, proptest::collection::vec(proptest::num::u32::ANY, 0..6)), 0..20)) {
        let guest = Guest::new();
        let mut device = device(4);
        for (kind, words) in messages {
            let kind = if kind < 40 { 1 } else { kind };
            let payload = [kind.as_bytes(), words.as_bytes()].concat();
            proptest::prop_assert!(!device.receive(&payload, &guest).actions.is_empty());
            device.receive_control(&payload);
        }
    }
}
