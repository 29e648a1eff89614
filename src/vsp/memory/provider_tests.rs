use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::wire::{
    BalloonResponse, Capabilities, Header, HotAddResponse, MessageType, PageRange, StatusReport, Version,
    VersionRequest, message,
};
use super::*;
use crate::memory::{Backing, Ram};
use crate::vmbus::ids::GpadlId;
use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
use crate::vmbus::testing::GuestBus;

/// Limits: 32 MiB at the start, 16 to 48 MiB.
const LIMITS: Limits = Limits { startup: 32 << 8, min: 16 << 8, max: 48 << 8 };

#[derive(Default)]
struct TestPort {
    seconds: AtomicU64,
    wakes: AtomicU64,
}

impl Port for TestPort {
    fn signal_guest(&self) {}

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }

    fn offer_subchannels(&self, _count: u16) {}
}

/// A sink that records mapped memory.
#[derive(Default)]
struct Mapped(Mutex<Vec<Range<u64>>>);

impl Populate for Mapped {
    fn populate(&self, addresses: Range<u64>) -> Result<(), String> {
        self.0.lock().push(addresses);
        Ok(())
    }
}

/// An open channel with the guest's ends of its rings.
struct Open {
    channel: Channel,
    handler: Box<dyn Handler>,
    sender: GuestSender,
    receiver: GuestReceiver,
    port: Arc<TestPort>,
}

fn open(vsp: &mut MemoryVsp, ram: &Ram) -> Open {
    /// The size of Linux's rings.
    const PAGES: u64 = 5;
    let mut bus = GuestBus::new(&ram.all, 1);
    let id = bus.offer(vsp.offer());
    bus.gpadl(id, GpadlId(1), 0..2 * PAGES);
    let opening = bus.open(id, GpadlId(1), PAGES as u32);
    let (sender, receiver) = (GuestSender::new(opening.incoming.clone()), GuestReceiver::new(opening.outgoing.clone()));
    let port = Arc::new(TestPort::default());
    let mut channel = Channel::new(opening, 0, ram.all.clone(), port.clone()).unwrap();
    let handler = vsp.open(&mut channel).unwrap();
    Open { channel, handler, sender, receiver, port }
}

impl Open {
    fn put(&mut self, message_type: MessageType, body: &(impl IntoBytes + Immutable), ranges: &[PageRange]) {
        let message = message(message_type, 1, body, ranges);
        let _ = self.sender.send(&NewPacket::in_band(1, &[&message])).unwrap();
    }

    fn send(&mut self, message_type: MessageType, body: &(impl IntoBytes + Immutable), ranges: &[PageRange]) {
        self.put(message_type, body, ranges);
        self.handler.service(&mut self.channel).unwrap();
    }

    /// Returns the type and the body of the next message of the host.
    fn receive(&mut self) -> Option<(MessageType, Vec<u8>)> {
        let mut buffer = Vec::new();
        let packet = self.receiver.receive(&mut buffer)?;
        let (header, body) = Header::read_from_prefix(packet.payload).unwrap();
        let message = (header.message_type, body.to_vec());
        let _ = self.receiver.close();
        Some(message)
    }

    fn become_ready(&mut self) {
        self.send(MessageType::VERSION_REQUEST, &VersionRequest { version: Version::V2_0, is_last_attempt: 0 }, &[]);
        let bits = Capabilities::BALLOON | Capabilities::HOT_ADD;
        self.send(MessageType::CAPABILITIES_REPORT, &Capabilities { bits, min_pages: 0, max_page_number: 0 }, &[]);
        self.send(MessageType::STATUS_REPORT, &StatusReport::new_zeroed_for_test(), &[]);
        let expected = [MessageType::VERSION_RESPONSE, MessageType::CAPABILITIES_RESPONSE, MessageType::INFORMATION];
        assert_eq!(expected.map(|_| self.receive().unwrap().0), expected);
    }
}

impl StatusReport {
    fn new_zeroed_for_test() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

fn setup() -> (MemoryVsp, Ram, Arc<Mutex<Vec<Event>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = log.clone();
    let ram = Ram::new(LIMITS.startup * PAGE_SIZE, LIMITS.max * PAGE_SIZE, Backing::Private).unwrap();
    let vsp = MemoryVsp::new(LIMITS, Layout::of(&LIMITS), Arc::new(move |event| sink.lock().push(event.clone())));
    (vsp, ram, log)
}

#[test]
fn released_pages_are_freed_and_added_memory_is_mapped() {
    let (mut vsp, ram, log) = setup();
    let handle = vsp.handle();
    let mapped = Arc::new(Mapped::default());
    handle.set_room(Some(mapped.clone()));
    let mut guest = open(&mut vsp, &ram);
    guest.become_ready();
    ram.all.write_slice(&[9; 8 << 20], GuestAddress(8 << 20)).unwrap();
    handle.set_target(28 << 8);
    assert!(guest.port.wakes.load(Ordering::SeqCst) > 0);
    guest.handler.service(&mut guest.channel).unwrap();
    assert_eq!(guest.receive().unwrap(), (MessageType::BALLOON_REQUEST, [4 << 8_u32, 0].as_bytes().to_vec()));
    let given = PageRange::new(&(10 << 8..14 << 8));
    guest.send(MessageType::BALLOON_RESPONSE, &BalloonResponse { reserved: 0, more_and_count: 1 << 1 }, &[given]);
    let byte = |mebibytes: u64| ram.all.read_obj::<u8>(GuestAddress(mebibytes << 20)).unwrap();
    assert_eq!([byte(9), byte(10), byte(13), byte(14)], [9, 0, 0, 9]);
    assert_eq!(handle.status().assigned_bytes, 28 << 20);
    handle.set_target(48 << 8);
    guest.handler.service(&mut guest.channel).unwrap();
    assert_eq!(guest.receive().unwrap().0, MessageType::UNBALLOON_REQUEST);
    guest.send(MessageType::UNBALLOON_RESPONSE, &[0_u8; 0], &[]);
    assert_eq!(guest.receive().unwrap().0, MessageType::HOT_ADD_REQUEST);
    assert_eq!(*mapped.0.lock(), std::slice::from_ref(&ram.window));
    guest.send(MessageType::HOT_ADD_RESPONSE, &HotAddResponse { pages: 16 << 8, result: 1 }, &[]);
    assert_eq!(handle.status().assigned_bytes, 48 << 20);
    assert_eq!(log.lock().last(), Some(&Event::Reached(48 << 8)));
    drop(guest);
    assert_eq!(log.lock().last(), Some(&Event::Disconnected));
    assert_eq!(handle.status().driver, "closed");
}

#[test]
fn the_times_of_reports_are_right_after_the_channel_is_opened_again() {
    let (mut vsp, ram, _) = setup();
    let mut guest = open(&mut vsp, &ram);
    guest.become_ready();
    guest.port.seconds.store(7, Ordering::SeqCst);
    assert_eq!(vsp.handle().status().last_report_seconds, Some(7));
    drop(guest);
    let mut guest = open(&mut vsp, &ram);
    guest.become_ready();
    guest.port.seconds.store(3, Ordering::SeqCst);
    assert_eq!(vsp.handle().status().last_report_seconds, Some(3));
}

#[test]
fn a_protocol_violation_ends_the_service() {
    let (mut vsp, ram, _) = setup();
    let mut guest = open(&mut vsp, &ram);
    guest.put(MessageType::UNBALLOON_RESPONSE, &[0_u8; 0], &[]);
    let error = guest.handler.service(&mut guest.channel).unwrap_err();
    assert!(error.to_string().contains("unballoon response"), "{error}");
    let _ = guest.sender.send(&NewPacket::completion(1, &[&[0; 16]])).unwrap();
    let error = guest.handler.service(&mut guest.channel).unwrap_err();
    assert!(error.to_string().contains("completion"), "{error}");
}

#[test]
fn unread_messages_to_a_guest_are_bounded() {
    let (mut vsp, ram, _) = setup();
    let mut guest = open(&mut vsp, &ram);
    let mut sent = 0;
    // The host stops receiving when it cannot answer, and then the guest's ring fills up.
    for _ in 0..100_000 {
        let message =
            message(MessageType::VERSION_REQUEST, 1, &VersionRequest { version: Version(9), is_last_attempt: 0 }, &[]);
        if guest.sender.send(&NewPacket::in_band(1, &[&message])).is_err() {
            break;
        }
        sent += 1;
        guest.handler.service(&mut guest.channel).unwrap();
    }
    assert!(sent < 10_000, "{sent}");
    let mut answers = 0;
    for _ in 0..2 * sent {
        while guest.receive().is_some() {
            answers += 1;
        }
        guest.handler.service(&mut guest.channel).unwrap();
    }
    assert_eq!(answers, sent, "nothing is lost");
}
