use super::*;
use crate::vmbus::guid::{Guid, interface};
use crate::vmbus::message::{ParseError, message};
use crate::vmbus::vsp::Offer;
use crate::vmbus::wire::{
    ChannelReference, GpadlBody, GpadlHeader, GpadlTeardown, GpadlTorndown, MessageType, ModifyChannel, OpenChannel,
    Status, TlConnectRequest,
};
use vm_memory::GuestAddress;
use zerocopy::{FromZeros, Immutable, IntoBytes};

pub(super) const PAGES: u64 = 64;

/// A guest and its host's end, with what a test asks most.
pub(super) struct Guest {
    pub(super) host: Connection,
    pub(super) port: ConnectionId,
}

impl Guest {
    pub(super) fn new() -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), PAGES as usize * 4096)]).unwrap();
        let settings = Settings { max_version: Version::NEWEST, vp_count: 4 };
        Self { host: Connection::new(memory, settings), port: ConnectionId::MESSAGES_5 }
    }

    /// A guest that has connected, and has read its offers of devices 1 to `devices`.
    fn connected(devices: u128) -> Self {
        let mut guest = Self::new();
        for device in 1..=devices {
            guest.host.offer(offer(device)).unwrap();
        }
        guest.contact(Version::V5_3);
        guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
        guest.messages();
        guest
    }

    pub(super) fn post(&mut self, message_type: MessageType, body: &(impl IntoBytes + Immutable + ?Sized)) -> Actions {
        self.host.receive(self.port, &message(message_type, body))
    }

    pub(super) fn contact(&mut self, version: Version) -> Actions {
        self.port = message_connection(version);
        self.post(MessageType::INITIATE_CONTACT, &contact(version))
    }

    pub(super) fn messages(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.host.next_message()).map(|outgoing| outgoing.message).collect()
    }

    pub(super) fn gpadl(&mut self, channel: u32, gpadl: u32, frames: &[u64]) -> Actions {
        let words = [&[frames.len() as u64 * 4096][..], frames].concat();
        let header = gpadl_header(channel, gpadl, 8 * words.len() as u16, 1);
        self.post(MessageType::GPADL_HEADER, &[header.as_bytes(), words.as_bytes()].concat()[..])
    }

    pub(super) fn teardown(&mut self, channel: u32, gpadl: u32) -> Actions {
        let body = GpadlTeardown { channel: ChannelId(channel), gpadl: GpadlId(gpadl) };
        self.post(MessageType::GPADL_TEARDOWN, &body)
    }

    pub(super) fn open(&mut self, channel: u32, gpadl: u32) -> Actions {
        self.post(MessageType::OPENCHANNEL, &open_channel(channel, gpadl))
    }

    pub(super) fn close(&mut self, channel: u32) -> Actions {
        self.post(MessageType::CLOSECHANNEL, &ChannelReference { channel: ChannelId(channel) })
    }

    pub(super) fn release(&mut self, channel: u32) -> Actions {
        self.post(MessageType::RELID_RELEASED, &ChannelReference { channel: ChannelId(channel) })
    }

    /// Opens a channel on a GPADL of the same number, and reads the answers.
    fn open_fully(&mut self, channel: u32) {
        assert!(self.gpadl(channel, channel, &[0, 1, 2, 3]).is_empty());
        assert!(matches!(self.open(channel, channel)[..], [Action::Open(_)]));
        assert!(self.host.opened(ChannelId(channel), true).is_empty());
        assert_eq!(self.messages(), [created(channel, channel, true), open_result(channel, true)]);
    }
}

pub(super) fn offer(device: u128) -> Offer {
    Offer::new(interface::SCSI, Guid::new(device))
}

pub(super) fn contact(version: Version) -> InitiateContact {
    let mut contact = InitiateContact::new_zeroed();
    contact.version = version;
    contact.target_vp = VpIndex(3);
    contact.interrupt_page_or_target[0] = MESSAGE_SINT;
    contact
}

fn gpadl_header(channel: u32, gpadl: u32, range_bytes: u16, range_count: u16) -> GpadlHeader {
    GpadlHeader { channel: ChannelId(channel), gpadl: GpadlId(gpadl), range_bytes, range_count }
}

pub(super) fn open_channel(channel: u32, gpadl: u32) -> OpenChannel {
    OpenChannel {
        channel: ChannelId(channel),
        open_id: channel + 100,
        ring_gpadl: GpadlId(gpadl),
        target_vp: VpIndex(1),
        downstream_offset: 2,
        user_defined: UserDefined::default(),
    }
}

fn status(success: bool) -> Status {
    if success { Status::SUCCESS } else { Status::UNSUCCESSFUL }
}

pub(super) fn created(channel: u32, gpadl: u32, success: bool) -> Message {
    let (channel, gpadl) = (ChannelId(channel), GpadlId(gpadl));
    Message::GpadlCreated(crate::vmbus::wire::GpadlCreated { channel, gpadl, status: status(success) })
}

pub(super) fn open_result(channel: u32, success: bool) -> Message {
    let open_id = channel + 100;
    let status = status(success);
    Message::OpenResult(crate::vmbus::wire::OpenResult { channel: ChannelId(channel), open_id, status })
}

pub(super) fn torndown(gpadl: u32) -> Message {
    Message::GpadlTorndown(GpadlTorndown { gpadl: GpadlId(gpadl) })
}

pub(super) fn rescinded(channel: u32) -> Message {
    Message::RescindChannelOffer(ChannelReference { channel: ChannelId(channel) })
}

fn offered(messages: &[Message]) -> Vec<u32> {
    let channel = |message: &Message| match message {
        Message::OfferChannel(offer) => Some(offer.channel.0),
        _ => None,
    };
    messages.iter().filter_map(channel).collect()
}

fn version_response(supported: u8, connection_id: u32) -> Message {
    Message::VersionResponse(VersionResponse { supported, connection_state: 0, reserved: 0, connection_id })
}

#[track_caller]
fn refused(actions: &Actions) -> Refusal {
    match actions[..] {
        [Action::Refuse(refusal)] => refusal,
        _ => panic!("{actions:?} is no refusal alone"),
    }
}

#[test]
fn every_version_is_agreed_on_and_answered_in_its_own_way() {
    for version in Version::ALL {
        let mut guest = Guest::new();
        assert!(guest.contact(version).is_empty());
        assert_eq!(guest.host.version(), Some(version));
        let outgoing = guest.host.next_message().unwrap();
        let connection = if version >= Version::V5_0 { 4 } else { version.0 };
        assert_eq!(outgoing.message, version_response(1, connection));
        let vp = if version >= Version::V3_0 { VpIndex(3) } else { VpIndex(0) };
        assert_eq!((outgoing.vp, outgoing.sint), (vp, 2));
    }
}

#[test]
fn a_guest_that_tries_versions_downwards_ends_at_the_newest_it_may_have() {
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
fn messages_go_only_to_a_vp_and_a_sint_that_are_there() {
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
fn messages_come_to_the_connection_of_the_version() {
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
fn nothing_is_answered_before_contact() {
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
fn offers_come_once_for_each_connection_and_end_with_their_end() {
    let mut guest = Guest::new();
    for device in 1..=3 {
        guest.host.offer(offer(device)).unwrap();
    }
    guest.contact(Version::V5_3);
    guest.messages();
    guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
    let messages = guest.messages();
    assert_eq!(offered(&messages), [1, 2, 3]);
    assert_eq!(messages.last(), Some(&Message::AllOffersDelivered));
    let Message::OfferChannel(first) = &messages[0] else { panic!() };
    assert_eq!((first.connection, first.is_dedicated_interrupt, first.monitor_allocated), (ConnectionId(0x2001), 1, 0));
    assert_eq!(refused(&guest.post(MessageType::REQUESTOFFERS, &[0u8; 0])), Refusal::OffersRequested);
    assert_eq!(guest.messages(), []);

    guest.host.offer(offer(4)).unwrap();
    assert_eq!(offered(&guest.messages()), [4], "at run time");
    assert_eq!(offered_again(&mut guest), [1, 2, 3, 4]);
}

fn offered_again(guest: &mut Guest) -> Vec<u32> {
    guest.contact(Version::V5_3);
    guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
    offered(&guest.messages())
}

#[test]
fn no_device_is_offered_twice_and_ids_run_out() {
    let mut guest = Guest::new();
    assert_eq!(guest.host.offer(offer(1)), Ok(ChannelId(1)));
    assert!(matches!(guest.host.offer(offer(1)), Err(OfferError::Duplicate { .. })));
    assert_eq!(guest.host.offer(offer(1).subchannel(1)), Err(OfferError::NoPrimary(1)));
    for device in 2..=MAX_CHANNELS as u128 {
        guest.host.offer(offer(device)).unwrap();
    }
    assert_eq!(guest.host.offer(offer(5000)), Err(OfferError::TooMany));
    assert!(matches!(guest.host.rescind(ChannelId(9))[..], [Action::Remove(ChannelId(9))]));
    assert_eq!(guest.host.offer(offer(5000)), Ok(ChannelId(9)));
}

#[test]
fn a_gpadl_arrives_in_pieces() {
    let mut guest = Guest::connected(2);
    let words = [&[40 * 4096][..], &(0..40).collect::<Vec<u64>>()].concat();
    let header = gpadl_header(1, 7, 8 * 41, 1);
    let parts: Vec<&[u8]> = words.as_bytes().chunks(8 * 20).collect();
    let body = |part: &[u8]| [GpadlBody { message_number: 0, gpadl: GpadlId(7) }.as_bytes(), part].concat();
    assert!(guest.post(MessageType::GPADL_HEADER, &[header.as_bytes(), parts[0]].concat()[..]).is_empty());
    assert_eq!(refused(&guest.gpadl(2, 7, &[0])), Refusal::DuplicateGpadl(GpadlId(7)));
    assert_eq!(guest.messages(), [created(2, 7, false)], "a body could be for either");
    assert!(guest.post(MessageType::GPADL_BODY, &body(parts[1])[..]).is_empty());
    assert_eq!(guest.messages(), []);
    assert!(guest.post(MessageType::GPADL_BODY, &body(parts[2])[..]).is_empty());
    assert_eq!(guest.messages(), [created(1, 7, true)]);
    let actions = guest.post(MessageType::GPADL_BODY, &body(parts[2])[..]);
    assert_eq!(refused(&actions), Refusal::NoSuchGpadl(GpadlId(7)), "one body too many");
    assert_eq!(guest.messages(), []);
}

#[test]
fn a_gpadl_that_makes_no_sense_is_refused_with_an_answer_and_forgotten() {
    let mut guest = Guest::connected(1);
    let words = [8192u64, 0, 1, 2];
    for (range_bytes, range_count, list) in [
        (24, 1, &words[..]),        // more than announced
        (32, 1, &words[..]),        // more than the range wants
        (17, 1, &words[..2]),       // torn
        (16, 0, &words[..2]),       // no ranges
        (24, 1, &[8192, 0, PAGES]), // a page beyond memory
        (24, 2, &words[..3]),       // a range too many
    ] {
        let header = gpadl_header(1, 7, range_bytes, range_count);
        let actions = guest.post(MessageType::GPADL_HEADER, &[header.as_bytes(), list.as_bytes()].concat()[..]);
        assert!(matches!(refused(&actions), Refusal::Gpadl { gpadl: GpadlId(7), .. }), "{actions:?}");
        assert_eq!(guest.messages(), [created(1, 7, false)]);
    }
    let actions = guest.gpadl(5, 7, &[0]);
    assert_eq!(refused(&actions), Refusal::NoSuchChannel(ChannelId(5)));
    assert_eq!(guest.messages(), [created(5, 7, false)]);
    assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
    assert!(guest.gpadl(1, 7, &[0]).is_empty(), "the id is free");
    assert_eq!(refused(&guest.gpadl(1, 7, &[0])), Refusal::DuplicateGpadl(GpadlId(7)));
}

#[test]
fn a_guest_has_a_bounded_number_of_gpadls_and_of_words_in_them() {
    let mut guest = Guest::connected(1);
    let unfinished = |guest: &mut Guest, gpadl: u32, range_bytes| {
        guest.post(MessageType::GPADL_HEADER, &gpadl_header(1, gpadl, range_bytes, 1))
    };
    for gpadl in 0..MAX_BUILDING as u32 {
        let range_bytes = if gpadl < 128 { 0xfff8 } else { 8 };
        assert!(unfinished(&mut guest, gpadl, range_bytes).is_empty(), "{gpadl}");
    }
    assert_eq!(refused(&unfinished(&mut guest, 1000, 16)), Refusal::TooManyGpadls(GpadlId(1000)));
    assert!(guest.host.gpadl_words > MAX_GPADL_WORDS - 0x2000);

    let mut guest = Guest::connected(1);
    for gpadl in 0..MAX_GPADLS as u32 {
        assert!(guest.gpadl(1, gpadl, &[0]).is_empty());
        guest.messages();
    }
    let one_more = GpadlId(MAX_GPADLS as u32);
    assert_eq!(refused(&guest.gpadl(1, one_more.0, &[0])), Refusal::TooManyGpadls(one_more));
    assert!(guest.teardown(1, 0).is_empty());
    assert!(guest.gpadl(1, one_more.0, &[0]).is_empty());
}

#[test]
fn a_channel_opens_closes_and_opens_again() {
    let mut guest = Guest::connected(1);
    guest.gpadl(1, 9, &[4, 3, 2, 1, 0]);
    let mut request = open_channel(1, 9);
    request.user_defined.0[0] = 5;
    let actions = guest.post(MessageType::OPENCHANNEL, &request);
    let [Action::Open(opening)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((opening.channel, opening.target, opening.user_defined.0[0]), (ChannelId(1), Some(VpIndex(1)), 5));
    assert_eq!((opening.incoming.size(), opening.outgoing.size()), (4096, 2 * 4096));
    assert_eq!(opening.gpadls.get(GpadlId(9)).unwrap().pages(), 5);
    assert_eq!(guest.messages(), [created(1, 9, true)], "the device has not opened it yet");
    guest.host.opened(ChannelId(1), true);
    assert_eq!(guest.messages(), [open_result(1, true)]);

    assert!(matches!(guest.close(1)[..], [Action::Close(ChannelId(1))]));
    guest.host.closed(ChannelId(1));
    assert!(matches!(guest.open(1, 9)[..], [Action::Open(_)]));
    guest.host.opened(ChannelId(1), false);
    assert_eq!(guest.messages(), [open_result(1, false)]);
    assert!(matches!(guest.open(1, 9)[..], [Action::Open(_)]), "it may try again");
}

#[test]
fn what_cannot_be_opened_is_refused_with_an_answer() {
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
    let requests: [(OpenChannel, fn(Refusal) -> bool); 7] = [
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
        let answer = crate::vmbus::wire::OpenResult {
            channel: request.channel,
            open_id: request.open_id,
            status: Status::UNSUCCESSFUL,
        };
        assert_eq!(guest.messages(), [Message::OpenResult(answer)]);
    }
    let quiet = with(&|request| request.target_vp = VpIndex::NONE);
    let actions = guest.post(MessageType::OPENCHANNEL, &quiet);
    assert!(matches!(&actions[..], [Action::Open(opening)] if opening.target.is_none()));
    assert!(matches!(refused(&guest.open(1, 9)), Refusal::State { usage: "opening", .. }));
    assert!(matches!(refused(&guest.close(1)), Refusal::State { usage: "opening", .. }));
}

#[test]
fn the_rings_pages_come_back_only_when_the_device_has_let_go_of_them() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    assert!(matches!(guest.close(1)[..], [Action::Close(_)]));
    assert!(guest.teardown(1, 1).is_empty());
    assert_eq!(guest.messages(), [], "the device may still write there");
    assert_eq!(refused(&guest.teardown(1, 1)), Refusal::NoSuchGpadl(GpadlId(1)));
    assert_eq!(refused(&guest.gpadl(1, 1, &[0])), Refusal::DuplicateGpadl(GpadlId(1)));
    assert_eq!(guest.messages(), [created(1, 1, false)]);
    assert!(guest.host.closed(ChannelId(1)).is_empty());
    assert_eq!(guest.messages(), [torndown(1)]);
    assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
}

#[test]
fn a_gpadl_that_the_device_may_use_is_asked_back_from_it() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    guest.gpadl(1, 2, &[8]);
    guest.gpadl(1, 3, &[9]);
    guest.messages();
    assert!(matches!(guest.teardown(1, 2)[..], [Action::ReleaseGpadl(ChannelId(1), GpadlId(2))]));
    assert!(matches!(guest.teardown(1, 3)[..], [Action::ReleaseGpadl(ChannelId(1), GpadlId(3))]));
    assert_eq!(guest.messages(), []);
    guest.host.gpadl_released(ChannelId(1), GpadlId(2));
    guest.host.gpadl_released(ChannelId(1), GpadlId(2));
    guest.host.gpadl_released(ChannelId(1), GpadlId(1));
    assert_eq!(guest.messages(), [torndown(2)]);
    guest.close(1);
    guest.host.closed(ChannelId(1));
    assert_eq!(guest.messages(), [torndown(3)], "a closed channel uses nothing");
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
    assert!(matches!(guest.host.closed(ChannelId(1))[..], [Action::Open(_)]));
    guest.host.opened(ChannelId(1), true);
    assert_eq!(guest.messages(), [open_result(1, true)]);

    guest.close(1);
    guest.open(1, 77);
    let actions = guest.host.closed(ChannelId(1));
    assert_eq!(refused(&actions), Refusal::NoSuchGpadl(GpadlId(77)));
    assert_eq!(guest.messages(), [open_result(1, false)]);
}

#[test]
fn a_channel_is_rescinded_whatever_it_is_doing_and_its_id_free_after_the_release() {
    type Before = fn(&mut Guest);
    let befores: [(&str, Before); 4] = [
        ("closed", |_| {}),
        ("opening", |guest| drop((guest.gpadl(1, 1, &[0, 1, 2, 3]), guest.open(1, 1)))),
        ("open", |guest| guest.open_fully(1)),
        ("closing", |guest| {
            guest.open_fully(1);
            guest.close(1);
            guest.open(1, 1);
        }),
    ];
    for (usage, before) in befores {
        for release_first in [false, true] {
            let mut guest = Guest::connected(2);
            before(&mut guest);
            guest.messages();
            let mut actions = guest.host.rescind(ChannelId(1));
            assert!(guest.messages().contains(&rescinded(1)), "{usage}");
            assert!(guest.host.rescind(ChannelId(1)).is_empty());
            let mut device = |guest: &mut Guest| {
                if usage == "opening" {
                    actions.extend(guest.host.opened(ChannelId(1), true));
                }
                if usage != "closed" {
                    actions.extend(guest.host.closed(ChannelId(1)));
                }
            };
            if release_first {
                let released = guest.release(1);
                device(&mut guest);
                actions.extend(released);
            } else {
                device(&mut guest);
                assert_eq!(guest.host.offer(offer(9)), Ok(ChannelId(3)), "the id is not free yet");
                actions.extend(guest.release(1));
            }
            let closes = actions.iter().filter(|action| matches!(action, Action::Close(_))).count();
            let removes = actions.iter().filter(|action| matches!(action, Action::Remove(ChannelId(1)))).count();
            assert_eq!((closes, removes), (usize::from(matches!(usage, "opening" | "open")), 1), "{usage}");
            assert_eq!(guest.host.offer(offer(10)), Ok(ChannelId(1)));
            assert_eq!(refused(&guest.close(7)), Refusal::NoSuchChannel(ChannelId(7)));
            assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
        }
    }
}

#[test]
fn a_guest_that_goes_on_with_a_rescinded_channel_gets_answers() {
    let mut guest = Guest::connected(1);
    guest.host.rescind(ChannelId(1));
    guest.gpadl(1, 1, &[0, 1, 2, 3]);
    assert_eq!(refused(&guest.open(1, 1)), Refusal::Rescinded(ChannelId(1)));
    assert!(guest.close(1).is_empty());
    assert!(guest.teardown(1, 1).is_empty());
    let answers = [rescinded(1), created(1, 1, true), open_result(1, false), torndown(1)];
    assert_eq!(guest.messages(), answers);
}

#[test]
fn an_offer_that_the_guest_never_read_is_taken_back_silently() {
    let mut guest = Guest::connected(0);
    guest.host.offer(offer(1)).unwrap();
    assert!(matches!(guest.host.rescind(ChannelId(1))[..], [Action::Remove(_)]));
    assert_eq!(guest.messages(), []);

    guest.host.offer(offer(1)).unwrap();
    guest.gpadl(1, 1, &[0]);
    assert!(guest.host.rescind(ChannelId(1)).is_empty(), "the guest guessed it");
    assert_eq!(guest.messages().len(), 3);
}

#[test]
fn a_device_that_comes_back_waits_for_the_release_of_its_last_offer() {
    let mut guest = Guest::connected(1);
    guest.host.rescind(ChannelId(1));
    assert_eq!(guest.host.offer(offer(1)), Ok(ChannelId(2)));
    assert_eq!(guest.messages(), [rescinded(1)], "Linux would take the new offer for the old device");
    assert!(matches!(guest.release(1)[..], [Action::Remove(ChannelId(1))]));
    assert_eq!(offered(&guest.messages()), [2]);
}

#[test]
fn a_guest_may_decline_an_offer_and_gets_it_again_with_its_next_contact() {
    let mut guest = Guest::connected(2);
    guest.open_fully(2);
    assert!(guest.release(1).is_empty());
    assert!(matches!(refused(&guest.release(2)), Refusal::State { usage: "open", .. }));
    assert_eq!(refused(&guest.open(1, 1)), Refusal::NoSuchChannel(ChannelId(1)));
    guest.close(2);
    guest.host.closed(ChannelId(2));
    assert_eq!(offered_again(&mut guest), [1, 2]);
}

#[test]
fn subchannels_live_while_their_primary_is_open() {
    let mut guest = Guest::connected(2);
    guest.open_fully(1);
    assert_eq!(guest.host.offer(offer(1).subchannel(1)), Ok(ChannelId(3)));
    assert_eq!(guest.host.offer(offer(1).subchannel(2)), Ok(ChannelId(4)));
    assert_eq!(guest.host.offer(offer(2).subchannel(1)), Err(OfferError::NoPrimary(1)));
    assert_eq!(offered(&guest.messages()), [3, 4]);
    guest.open_fully(3);
    assert!(matches!(guest.close(1)[..], [Action::Close(ChannelId(1)), Action::Close(ChannelId(3))]));
    assert_eq!(guest.messages(), [rescinded(3), rescinded(4)]);
    guest.host.closed(ChannelId(1));
    guest.host.closed(ChannelId(3));
    assert!(matches!(guest.release(3)[..], [Action::Remove(ChannelId(3))]));
    assert!(matches!(guest.release(4)[..], [Action::Remove(ChannelId(4))]));
}

#[test]
fn a_contact_out_of_the_blue_is_answered_when_the_old_rings_are_let_go_of() {
    let mut guest = Guest::connected(3);
    guest.open_fully(1);
    guest.gpadl(2, 2, &[4, 5, 6, 7]);
    guest.open(2, 2);
    guest.host.offer(offer(1).subchannel(1)).unwrap();
    guest.gpadl(3, 5, &[9]);
    let actions = guest.contact(Version::V4_0);
    assert!(matches!(actions[..], [Action::Close(ChannelId(1)), Action::Remove(ChannelId(4))]), "{actions:?}");
    assert_eq!(guest.messages(), [], "what the old kernel did not read is gone");
    assert_eq!(refused(&guest.post(MessageType::REQUESTOFFERS, &[0u8; 0])), Refusal::NotConnected);
    assert!(guest.host.closed(ChannelId(1)).is_empty());
    assert!(matches!(guest.host.opened(ChannelId(2), true)[..], [Action::Close(ChannelId(2))]));
    assert_eq!(guest.messages(), []);
    // Impatient: only the last contact counts.
    guest.contact(Version::V5_0);
    assert!(guest.host.closed(ChannelId(2)).is_empty());
    assert_eq!(guest.messages(), [version_response(1, 4)]);
    guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
    assert_eq!(offered(&guest.messages()), [1, 2, 3]);
    assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
    guest.open_fully(2);
}

#[test]
fn what_the_old_kernel_still_wanted_is_not_answered_to_the_new() {
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
fn an_unload_is_answered_when_all_is_closed_and_however_often_it_is_asked() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    assert!(matches!(guest.post(MessageType::UNLOAD, &[0u8; 0])[..], [Action::Close(_)]));
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
fn a_reset_forgets_the_guest_without_a_word() {
    let mut guest = Guest::connected(1);
    guest.open_fully(1);
    assert!(matches!(guest.host.reset()[..], [Action::Close(_)]));
    guest.host.closed(ChannelId(1));
    assert_eq!((guest.messages(), guest.host.version()), (vec![], None));
    assert_eq!(guest.host.target, (VpIndex(0), MESSAGE_SINT));
}

#[test]
fn an_open_channel_is_retargeted_as_its_version_has_it() {
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
            assert!(matches!(actions[..], [Action::Retarget(ChannelId(1), VpIndex(3))]));
        }
        assert_eq!(guest.messages().len(), usize::from(answers));
    }
    let mut guest = Guest::connected(2);
    guest.open_fully(1);
    for (channel, vp) in [(1, 4), (1, u32::MAX), (2, 0), (9, 0)] {
        refused(&guest.post(MessageType::MODIFYCHANNEL, &modify(channel, vp)));
        let response =
            crate::vmbus::wire::ModifyChannelResponse { channel: ChannelId(channel), status: Status::UNSUCCESSFUL };
        assert_eq!(guest.messages(), [Message::ModifyChannelResponse(response)]);
    }
}

#[test]
fn hvsocket_connections_are_refused_as_the_version_has_it() {
    for (version, answers) in [(Version::V3_0, 0), (Version::V4_0, 0), (Version::V4_1, 1), (Version::V5_3, 1)] {
        let mut guest = Guest::new();
        guest.contact(version);
        guest.messages();
        let request = TlConnectRequest { endpoint: Guid::new(1), service: Guid::new(2) };
        refused(&guest.post(MessageType::TL_CONNECT_REQUEST, &request));
        let messages = guest.messages();
        assert_eq!(messages.len(), answers);
        for message in messages {
            assert!(matches!(message, Message::TlConnectResult(result) if result.status == Status::CONNECTION_REFUSED));
        }
    }
}

#[test]
fn a_guest_that_does_not_read_gets_to_ask_nothing_more() {
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
