//! Control messages and their effects.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::child::FakeChild;
use super::device::{Request, TestDevice, command};
use super::guest::Guest;
use crate::common::patience::holds_within;
use std::sync::Arc;
use viridian::hyperv::HvStatus;
use viridian::hyperv::VpIndex;
use viridian::internals::hyperv::ConnectionId;
use viridian::internals::vmbus::Tracer;
use viridian::internals::vmbus::message;
use viridian::internals::vmbus::{ConnectError, Settings};
use viridian::internals::vmbus::{MessageType, OfferChannel, OpenChannel};
use viridian::vmbus::OfferError;
use viridian::vmbus::VmBus;
use viridian::vmbus::vsp::NewPacket;
use viridian::vmbus::{GpadlId, Version};
use zerocopy::IntoBytes;

pub const SOON: Duration = Duration::from_secs(20);
/// Time to wait for something that must not happen.
pub const A_WHILE: Duration = Duration::from_millis(50);

pub fn frames(first: u64, count: u64) -> Vec<u64> {
    (first..first + count).collect()
}

pub fn request(command: u32, first: u32, second: u32) -> Request {
    Request { command, first, second, gpadl: GpadlId(0) }
}

/// Returns a packet that requires a completion.
pub fn asking<'a>(transaction_id: u64, payload: &'a [&'a [u8]]) -> NewPacket<'a> {
    NewPacket { wants_completion: true, ..NewPacket::in_band(transaction_id, payload) }
}

/// Time limit for actions of other threads.
#[track_caller]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    assert!(holds_within(SOON, is_so), "{what} never came");
}

#[test]
fn a_guest_can_connect_with_every_version_up_to_the_limit() {
    for max_version in Version::ALL {
        let bus = VmBus::new(Settings { max_version, ..Settings::default() });
        bus.offer(Box::new(TestDevice::new(1))).unwrap();
        let child = FakeChild::new(2, 64);
        let attachment = bus.attach(child.clone()).unwrap();
        let ports = if max_version >= Version::V5_0 { vec![1, 4] } else { vec![1] };
        assert_eq!(child.ports(), (ports, vec![]));
        let mut guest = Guest::new(&child);
        for version in Version::ALL {
            // An old host has no port for the messages of new versions.
            if version >= Version::V5_0 && max_version < Version::V5_0 {
                continue;
            }
            assert_eq!(guest.contact(version), version <= max_version);
            if version > max_version {
                continue;
            }
            assert_eq!(bus.version(), Some(version));
            guest.request_offers();
            let channel = guest.offer(1, 0).channel;
            let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
            assert!(open.send(&asking(9, &[request(command::ECHO, 0, 0).as_bytes()])));
            assert_eq!(open.receive().0, 9);
            open.close();
            guest.unload();
            assert_eq!(bus.version(), None);
        }
        drop(attachment);
        assert_eq!(child.ports(), (vec![], vec![]));
    }
}

#[test]
fn all_offers_arrive_even_if_the_guest_has_room_for_three_messages() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 16));
    for instance in 1..=500 {
        bus.offer(Box::new(TestDevice::new(instance))).unwrap();
    }
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channels: Vec<u32> = (1..=500).map(|instance| guest.offer(instance, 0).channel.0).collect();
    assert_eq!(channels, Vec::from_iter(1..=500), "in the order in which they were offered");
    assert!(child.counts().0 > 0, "there was room for everything, so nothing was tested");
}

#[test]
fn a_guest_that_does_not_read_is_throttled_and_loses_nothing() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 16));
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::V5_3);
    let channel = guest.offer(1, 0).channel;
    child.guest_sleeps(true);
    // Each request is answered.
    let open = OpenChannel {
        channel,
        open_id: 1,
        ring_gpadl: GpadlId(77),
        target_vp: VpIndex(0),
        downstream_offset: 1,
        user_defined: Default::default(),
    };
    let post = || child.guest_posts(ConnectionId::MESSAGES_5, &message(MessageType::OPENCHANNEL, &open));
    let accepted = (0..100_000).take_while(|_| post().is_ok()).count();
    assert_eq!(post(), Err(HvStatus::INSUFFICIENT_BUFFERS));
    child.guest_sleeps(false);
    for _ in 0..accepted {
        guest.wait(MessageType::OPENCHANNEL_RESULT, |_: &viridian::internals::vmbus::OpenResult| true);
    }
    assert_eq!(post(), Ok(()));
}

#[test]
fn a_kernel_that_connects_without_unload_finds_every_channel_closed_and_offered() {
    let (bus, child) = (VmBus::default(), FakeChild::new(2, 64));
    let device = TestDevice::new(1);
    bus.offer(Box::new(device.clone())).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let mut guest = Guest::connected(&child, Version::V5_3);
    for version in [Version::V2_4, Version::V4_1, Version::V5_3] {
        let channel = guest.offer(1, 0).channel;
        let open = guest.open(channel, &frames(0, 8), VpIndex(1)).unwrap();
        assert_eq!(device.open.load(Ordering::SeqCst), 1);
        drop(open);
        assert!(guest.contact(version));
        assert_eq!(device.open.load(Ordering::SeqCst), 0, "the answer came before the rings were let go of");
        guest.request_offers();
    }
}

#[test]
fn a_channel_opens_and_closes_many_times() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    for round in 0..500 {
        // A GPADL of scattered pages, with more pages than fit into one message.
        let pages: Vec<u64> = frames(0, 40).into_iter().rev().collect();
        let mut open = guest.open(channel, &pages, VpIndex(0)).unwrap();
        assert!(open.send(&asking(round, &[request(command::ECHO, 0, 0).as_bytes()])));
        assert_eq!(open.receive().0, round);
        open.close();
    }
}

#[test]
fn malformed_messages_are_refused_and_the_bus_continues() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    let post = |bytes: &[u8]| child.guest_posts(ConnectionId::MESSAGES_5, bytes);
    for bytes in [&[][..], &[1; 7], &[0xff; 240], &message(MessageType(99), &[0_u8; 8])] {
        assert_eq!(post(bytes), Ok(()), "the hypercall is well-formed, whatever the message is");
    }
    assert_eq!(guest.gpadl(channel, &[1 << 40]), None, "a page that is not there");
    assert!(guest.open(channel, &frames(0, 8), VpIndex(7)).is_none(), "a VP that is not there");
    let port = viridian::internals::hyperv::MessageType::TIMER_EXPIRED;
    assert_eq!(child.guest_posts_type(port, &[]), Err(HvStatus::INVALID_PARAMETER));
    guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap().close();
}

#[test]
fn a_channel_whose_ring_is_damaged_is_not_served_until_it_is_opened_again() {
    let (bus, child) = (VmBus::default(), FakeChild::new(1, 64));
    let device = TestDevice::new(1);
    bus.offer(Box::new(device.clone())).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    for payload in [&[][..], request(command::FAIL, 0, 0).as_bytes(), request(command::PANIC, 0, 0).as_bytes()] {
        let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
        assert!(open.send(&asking(1, &[request(command::ECHO, 0, 0).as_bytes()])));
        assert_eq!(open.receive().0, 1, "it works");
        assert!(open.send(&asking(2, &[payload])));
        assert!(open.send(&asking(3, &[request(command::ECHO, 0, 0).as_bytes()])));
        open.signal();
        assert_eq!(open.receive_within(A_WHILE), None);
        eventually("the handler's end", || device.open.load(Ordering::SeqCst) == 0);
        open.close();
    }
}

#[test]
fn interrupts_follow_the_channel_to_another_vp() {
    for version in [Version::V4_1, Version::V5_3] {
        let (bus, child) = (VmBus::default(), FakeChild::new(4, 64));
        bus.offer(Box::new(TestDevice::new(1))).unwrap();
        let _attachment = bus.attach(child.clone()).unwrap();
        let guest = Guest::connected(&child, version);
        let channel = guest.offer(1, 0).channel;
        let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
        for vp in (0..4).map(VpIndex).cycle().take(20) {
            assert!(open.retarget(vp));
            assert!(open.send(&asking(1, &[request(command::ECHO, 0, 0).as_bytes()])));
            assert!(child.guest_waits(vp, channel.0 as u16, SOON), "the signal went elsewhere");
            assert_eq!(open.receive().0, 1);
        }
        // Some are refused with an answer, and some without one.
        let vp = open.vp;
        assert!(!open.retarget(VpIndex(4)) || version < Version::V5_3);
        open.vp = vp;
        assert!(open.send(&asking(2, &[request(command::ECHO, 0, 0).as_bytes()])));
        assert_eq!(open.receive().0, 2);
        open.close();
    }
}

#[test]
fn a_channel_that_disables_interrupts_gets_none() {
    let (bus, child) = (VmBus::default(), FakeChild::new(2, 64));
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let channel = guest.offer(1, 0).channel;
    let mut open = guest.open(channel, &frames(0, 8), OpenChannel::NO_INTERRUPTS).unwrap();
    assert!(open.send(&asking(1, &[request(command::ECHO, 0, 0).as_bytes()])));
    assert!(holds_within(SOON, || open.take().is_some()));
    assert_eq!(child.counts().1, 0);
    assert!(open.retarget(VpIndex(1)), "until it wants some");
    assert!(open.send(&asking(1, &[request(command::ECHO, 0, 0).as_bytes()])));
    assert!(child.guest_waits(VpIndex(1), channel.0 as u16, SOON));
    assert_eq!(child.counts().1, 1);
}

#[test]
fn the_number_of_subchannels_is_limited_by_vps_and_they_close_with_the_primary() {
    let (bus, child) = (VmBus::default(), FakeChild::new(3, 256));
    let device = TestDevice::new(1);
    bus.offer(Box::new(device)).unwrap();
    let _attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::NEWEST);
    let primary = guest.offer(1, 0).channel;
    for _ in 0..20 {
        let mut open = guest.open(primary, &frames(0, 8), VpIndex(0)).unwrap();
        assert!(open.send(&asking(1, &[request(command::SUBCHANNELS, 60000, 0).as_bytes()])));
        open.receive();
        assert!(open.send(&asking(2, &[request(command::SUBCHANNELS, 3, 0).as_bytes()])));
        open.receive();
        let subchannels = [1, 2, 3].map(|index| guest.offer(1, index).channel);
        assert!(guest.find(MessageType::OFFERCHANNEL, |_: &OfferChannel| true, Duration::ZERO).is_none());
        let mut others: Vec<_> = (1..)
            .zip(&subchannels[..2])
            .map(|(index, id)| guest.open(*id, &frames(index * 8, 8), VpIndex(index as u32)).unwrap())
            .collect();
        for other in &mut others {
            assert!(other.send(&asking(3, &[request(command::ECHO, 0, 0).as_bytes()])));
            assert_eq!(other.receive().0, 3);
        }
        drop(others);
        open.close();
        for id in subchannels {
            assert!(guest.was_rescinded(id, SOON));
            guest.release(id);
        }
        // After it has read the rescinds, it may reuse the pages.
        guest.open(primary, &frames(0, 8), VpIndex(0)).unwrap().close();
    }
}

#[test]
fn a_bus_serves_one_machine_at_a_time_and_its_devices_outlive_each() {
    let bus = VmBus::default();
    let device = TestDevice::new(1);
    bus.offer(Box::new(device.clone())).unwrap();
    assert!(matches!(bus.offer(Box::new(TestDevice::new(1))), Err(OfferError::Duplicate { .. })));
    for _ in 0..3 {
        let child = FakeChild::new(1, 64);
        let attachment = bus.attach(child.clone()).unwrap();
        assert!(matches!(bus.attach(FakeChild::new(1, 64)), Err(ConnectError::InUse)));
        let guest = Guest::connected(&child, Version::NEWEST);
        let channel = guest.offer(1, 0).channel;
        let open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
        drop(attachment);
        assert_eq!(device.open.load(Ordering::SeqCst), 0);
        assert_eq!(child.ports(), (vec![], vec![]));
        drop(open);
        drop(guest);
        assert_eq!(Arc::strong_count(&child), 1, "somebody keeps the child");
    }
}

#[test]
fn a_trace_has_a_line_for_each_message_and_packet_in_order() {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let tracer = {
        let lines = lines.clone();
        Tracer::new(move |line| lines.lock().unwrap().push(line.to_string()))
    };
    let bus = VmBus::new(Settings { tracer: Some(tracer), ..Settings::default() });
    bus.offer(Box::new(TestDevice::new(1))).unwrap();
    let child = FakeChild::new(1, 64);
    let attachment = bus.attach(child.clone()).unwrap();
    let guest = Guest::connected(&child, Version::V5_2);
    let channel = guest.offer(1, 0).channel;
    let mut open = guest.open(channel, &frames(0, 8), VpIndex(0)).unwrap();
    open.send(&asking(7, &[request(command::ECHO, 0, 0).as_bytes()]));
    open.receive();
    open.close();
    guest.unload();
    drop(attachment);
    let lines = lines.lock().unwrap();
    let expected = [
        "guest: INITIATE_CONTACT version 5.2 to VP 0",
        "host: VERSION_RESPONSE supported, connection 0x4",
        "guest: REQUESTOFFERS",
        "host: OFFERCHANNEL channel 1: 6563686f-0000-0000-0000-000000000000 00000000-0000-0000-0000-000000000001, signals to connection 0x2001",
        "host: ALLOFFERS_DELIVERED",
        "guest: GPADL_HEADER 0x1 of channel 1: 1 ranges in 72 bytes, 72 here",
        "host: GPADL_CREATED 0x1 of channel 1: success",
        "guest: OPENCHANNEL channel 1 (open 2) on GPADL 0x1 split at page 4, VP 0",
        "host: OPENCHANNEL_RESULT channel 1 (open 2): success",
        "channel 1 guest: in-band packet, transaction 0x7, 16 bytes, wants completion",
        "channel 1 host: completion packet, transaction 0x7, 16 bytes",
        "guest: CLOSECHANNEL channel 1",
        "guest: GPADL_TEARDOWN 0x1 of channel 1",
        "host: GPADL_TORNDOWN 0x1",
        "guest: UNLOAD",
        "host: UNLOAD_RESPONSE",
    ];
    assert_eq!(*lines, expected);
}

#[test]
fn a_kernel_that_reconnects_gets_none_of_the_unread_answers_of_the_last_one() {
    let (bus, child) = (VmBus::default(), FakeChild::new(2, 16));
    let _attachment = bus.attach(child.clone()).unwrap();
    let mut guest = Guest::new(&child);
    child.guest_sleeps(true);
    for _ in 0..3000 {
        guest.post_contact(Version::NEWEST);
    }
    assert_eq!(child.waiting(), 1, "the answer to the last contact");
    guest.post(MessageType::UNLOAD, &[0_u8; 0]);
    assert_eq!(child.waiting(), 1, "the answer to the unload");
    assert_eq!(bus.version(), None);
    child.guest_sleeps(false);
    guest.wait::<[u8; 0]>(MessageType::UNLOAD_RESPONSE, |_| true);
    assert!(guest.contact(Version::NEWEST));
}
