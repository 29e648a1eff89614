use super::*;
use crate::vmbus::connection::test_guest::*;
use crate::vmbus::ids::VpIndex;
use zerocopy::IntoBytes;

#[test]
fn a_channel_opens_closes_and_opens_again() {
    let mut guest = Guest::connected(1);
    guest.gpadl(1, 9, &[4, 3, 2, 1, 0]);
    let mut request = open_channel(1, 9);
    request.user_defined.0[0] = 5;
    let actions = guest.post(MessageType::OPENCHANNEL, &request);
    let [BusAction::Open(opening)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((opening.channel, opening.target, opening.user_defined.0[0]), (ChannelId(1), Some(VpIndex(1)), 5));
    assert_eq!((opening.incoming.size(), opening.outgoing.size()), (4096, 2 * 4096));
    assert_eq!(opening.gpadls.get(GpadlId(9)).unwrap().pages(), 5);
    assert_eq!(guest.messages(), [created(1, 9, true)], "the device has not opened it yet");
    guest.host.opened(ChannelId(1), true);
    assert_eq!(guest.messages(), [open_result(1, true)]);

    assert!(matches!(guest.close(1)[..], [BusAction::Close(ChannelId(1))]));
    guest.host.closed(ChannelId(1));
    assert!(matches!(guest.open(1, 9)[..], [BusAction::Open(_)]));
    guest.host.opened(ChannelId(1), false);
    assert_eq!(guest.messages(), [open_result(1, false)]);
    assert!(matches!(guest.open(1, 9)[..], [BusAction::Open(_)]), "it may try again");
}

#[test]
fn an_invalid_request_to_open_is_refused_with_an_answer() {
    let mut guest = Guest::connected(1);
    guest.gpadl(1, 9, &[0, 1, 2, 3]);
    let two_ranges = [gpadl_header(1, 10, 48, 2).as_bytes(), [8192u64, 0, 1, 8192, 2, 3].as_bytes()].concat();
    assert!(guest.post(MessageType::GPADL_HEADER, &two_ranges[..]).is_empty());
    guest.messages();
    let with = |change: &dyn Fn(&mut OpenChannel)| {
        let mut request = open_channel(1, 9);
        change(&mut request);
        request
    };
    type Expected = fn(Refusal) -> bool;
    let requests: [(OpenChannel, Expected); 7] = [
        (with(&|request| request.channel = ChannelId(2)), |refusal| matches!(refusal, Refusal::NoSuchChannel(_))),
        (with(&|request| request.channel = ChannelId(0)), |refusal| matches!(refusal, Refusal::NoSuchChannel(_))),
        (with(&|request| request.target_vp = VpIndex(4)), |refusal| matches!(refusal, Refusal::NoSuchVp { .. })),
        (with(&|request| request.ring_gpadl = GpadlId(8)), |refusal| matches!(refusal, Refusal::NoSuchGpadl(_))),
        (with(&|request| request.ring_gpadl = GpadlId(10)), |refusal| matches!(refusal, Refusal::RingRanges(_))),
        (with(&|request| request.downstream_offset = 3), |refusal| matches!(refusal, Refusal::Ring(_))),
        (with(&|request| request.downstream_offset = u32::MAX), |refusal| matches!(refusal, Refusal::Ring(_))),
    ];
    for (request, expected) in requests {
        let refusal = refused(&guest.post(MessageType::OPENCHANNEL, &request));
        assert!(expected(refusal), "{refusal}");
        let answer = OpenResult { channel: request.channel, open_id: request.open_id, status: Status::UNSUCCESSFUL };
        assert_eq!(guest.messages(), [Message::OpenResult(answer)]);
    }
    let quiet = with(&|request| request.target_vp = OpenChannel::NO_INTERRUPTS);
    let actions = guest.post(MessageType::OPENCHANNEL, &quiet);
    assert!(matches!(&actions[..], [BusAction::Open(opening)] if opening.target.is_none()));
    assert!(matches!(refused(&guest.open(1, 9)), Refusal::State { usage: "opening", .. }));
    assert!(matches!(refused(&guest.close(1)), Refusal::State { usage: "opening", .. }));
}

#[test]
fn a_guest_may_open_again_before_the_device_has_closed() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    guest.gpadl(1, 2, &[4, 5, 6, 7]);
    guest.messages();
    guest.close(1);
    assert!(guest.open(1, 2).is_empty());
    assert!(matches!(refused(&guest.open(1, 2)), Refusal::State { usage: "closing", .. }));
    assert_eq!(guest.messages(), [open_result(1, false)]);
    assert!(matches!(guest.host.closed(ChannelId(1))[..], [BusAction::Open(_)]));
    guest.host.opened(ChannelId(1), true);
    assert_eq!(guest.messages(), [open_result(1, true)]);

    guest.close(1);
    guest.open(1, 77);
    let actions = guest.host.closed(ChannelId(1));
    assert_eq!(refused(&actions), Refusal::NoSuchGpadl(GpadlId(77)));
    assert_eq!(guest.messages(), [open_result(1, false)]);
}

#[test]
fn an_open_channel_is_retargeted_as_its_version_specifies() {
    let modify = |channel, vp| ModifyChannel { channel: ChannelId(channel), target_vp: VpIndex(vp) };
    for (version, answers) in
        [(Version::V4_0, false), (Version::V4_1, false), (Version::V5_2, false), (Version::V5_3, true)]
    {
        let mut guest = Guest::new();
        guest.host.offer(offer(1)).unwrap();
        guest.contact(version);
        guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
        guest.messages();
        guest.open_fully(1);
        let actions = guest.post(MessageType::MODIFYCHANNEL, &modify(1, 3));
        if version < Version::V4_1 {
            assert!(matches!(refused(&actions), Refusal::NotInVersion { .. }));
        } else {
            assert!(matches!(actions[..], [BusAction::Retarget(ChannelId(1), VpIndex(3))]));
        }
        assert_eq!(guest.messages().len(), usize::from(answers));
    }
    let mut guest = Guest::connected(2);
    guest.open_fully(1);
    for (channel, vp) in [(1, 4), (1, u32::MAX), (2, 0), (9, 0)] {
        refused(&guest.post(MessageType::MODIFYCHANNEL, &modify(channel, vp)));
        let response = ModifyChannelResponse { channel: ChannelId(channel), status: Status::UNSUCCESSFUL };
        assert_eq!(guest.messages(), [Message::ModifyChannelResponse(response)]);
    }
}
