use std::sync::atomic::{AtomicBool, AtomicUsize};

use vm_memory::GuestAddress;

use super::super::service::State;
use super::super::wire::{Header, MessageType, split};
use super::super::{Answer, heartbeat, shutdown};
use super::*;
use crate::memory::GuestMemory;
use crate::vmbus::ids::GpadlId;
use crate::vmbus::packet::PacketKind;
use crate::vmbus::ring::NewPacket;
use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
use crate::vmbus::testing::GuestBus;

/// The guest's reference time.
const REFERENCE: u64 = 0x1234_5678_9abc;

/// A port with a clock that the test sets.
#[derive(Default)]
struct TestPort {
    milliseconds: AtomicU64,
    wakes: AtomicUsize,
    alarm: Mutex<Option<Duration>>,
    gone: AtomicBool,
}

impl Port for TestPort {
    fn signal_guest(&self) {}

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }

    fn wake_after(&self, time: Option<Duration>) {
        *self.alarm.lock() = time;
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::SeqCst))
    }

    fn reference_time(&self) -> Option<u64> {
        Some(REFERENCE)
    }

    fn is_guest_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    fn offer_subchannels(&self, _count: u16) {}
}

/// An open channel with the guest's ends of its rings.
struct Open {
    channel: Channel,
    handler: Box<dyn Handler>,
    sender: GuestSender,
    receiver: GuestReceiver,
    port: Arc<TestPort>,
    last: Vec<u8>,
}

type Log = Arc<Mutex<Vec<Event>>>;

fn device(kind: Kind) -> (ServiceVsp, Log) {
    let log = Log::default();
    let sink = log.clone();
    (ServiceVsp::new(kind, Forced::default(), &[], Arc::new(move |_, event| sink.lock().push(event.clone()))), log)
}

/// Opens the channel as a guest, with rings as large as Linux's.
fn open(vsp: &mut ServiceVsp) -> Open {
    const PAGES: u64 = 4;
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 16 * 4096)]).unwrap();
    let mut bus = GuestBus::new(&memory, 1);
    let id = bus.offer(vsp.offer());
    bus.gpadl(id, GpadlId(1), 0..2 * PAGES);
    let opening = bus.open(id, GpadlId(1), PAGES as u32);
    let (sender, receiver) = (GuestSender::new(opening.incoming.clone()), GuestReceiver::new(opening.outgoing.clone()));
    let port = Arc::new(TestPort::default());
    let mut channel = Channel::new(opening, 0, memory, port.clone()).unwrap();
    let handler = vsp.open(&mut channel).unwrap();
    Open { channel, handler, sender, receiver, port, last: Vec::new() }
}

impl Open {
    fn serve(&mut self) {
        self.handler.service(&mut self.channel).unwrap();
    }

    /// Returns the header of the next message of the host.
    fn receive(&mut self) -> Option<Header> {
        let mut buffer = Vec::new();
        let packet = self.receiver.receive(&mut buffer)?;
        assert_eq!(packet.header.kind, PacketKind::IN_BAND);
        self.last = packet.payload.to_vec();
        let _ = self.receiver.close();
        Some(split(&self.last).unwrap().0)
    }

    /// Sends the last message back, as Linux does, and makes the host process it.
    fn answer(&mut self, change: impl FnOnce(&mut [u8])) {
        self.last[25] = Header::TRANSACTION | Header::RESPONSE;
        change(&mut self.last);
        let _ = self.sender.send(&NewPacket::in_band(1, &[&self.last])).unwrap();
        self.serve();
    }

    /// Negotiates these versions of the framework and of the messages.
    fn negotiate(&mut self, version: [u8; 4]) {
        self.serve();
        assert_eq!(self.receive().unwrap().message_type, MessageType::NEGOTIATE);
        self.answer(|packet| {
            packet[18..20].copy_from_slice(&[16, 0]);
            packet[28..44].copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, version[0], 0, version[2], 0]);
        });
    }

    fn pass(&mut self, time: Duration) {
        self.port.milliseconds.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        self.serve();
    }

    fn alarm(&self) -> Option<Duration> {
        *self.port.alarm.lock()
    }
}

fn power_off() -> Request {
    Request::Shutdown(shutdown::Shutdown::new(shutdown::Kind::PowerOff))
}

#[test]
fn a_guest_negotiates_over_its_rings_and_its_heartbeat_uses_the_channels_clock() {
    let (mut vsp, log) = device(Kind::Heartbeat);
    let handle = vsp.handle();
    assert_eq!(handle.status().state, State::Closed);
    let mut guest = open(&mut vsp);
    guest.negotiate([3, 0, 0, 0]);
    assert_eq!(handle.status().state, State::Ready);
    assert_eq!(guest.receive().unwrap().message_type, MessageType::HEARTBEAT);
    guest.answer(|packet| packet[28] += 1);
    assert_eq!(guest.alarm(), Some(heartbeat::PERIOD));
    guest.pass(heartbeat::PERIOD - Duration::from_millis(500));
    assert!(guest.receive().is_none());
    assert_eq!(guest.alarm(), Some(Duration::from_millis(500)));
    guest.pass(Duration::from_millis(500));
    assert!(guest.receive().is_some());
    guest.pass(heartbeat::LOST_AFTER);
    let health = |event: &Event| if let Event::Health(health) = event { Some(health.to_string()) } else { None };
    let seen: Vec<_> = log.lock().iter().filter_map(health).collect();
    assert_eq!(seen, ["OkApplicationsUnknown", "LostCommunication"]);
    assert_eq!(handle.status().last_contact_seconds, Some(12));
    guest.port.milliseconds.fetch_add(5000, Ordering::SeqCst);
    assert_eq!(handle.status().last_contact_seconds, Some(17), "time passes though nothing happens");
}

#[test]
fn a_request_reaches_the_guest_and_its_outcome_returns() {
    let (mut vsp, _) = device(Kind::Shutdown);
    let handle = vsp.handle();
    assert!(matches!(handle.ask(power_off()), Err(Failure::NoContact("shutdown"))));
    let mut guest = open(&mut vsp);
    let early = handle.ask(power_off()).unwrap();
    guest.serve();
    assert_eq!(early.wait(Duration::ZERO), Some(Err(Failure::NoContact("shutdown"))), "it is not negotiated");
    // The negotiation is sent already.
    guest.negotiate([3, 0, 2, 0]);
    let asked = handle.ask(power_off()).unwrap();
    assert_eq!(asked.wait(Duration::ZERO), None);
    guest.serve();
    assert_eq!(guest.receive().unwrap().body_length, 2060);
    guest.answer(|_| ());
    assert_eq!(asked.wait(Duration::ZERO), Some(Ok(Answer::Done)));
    assert!(guest.port.wakes.load(Ordering::SeqCst) >= 2);
}

#[test]
fn an_abandoned_request_is_cancelled() {
    let (mut vsp, _) = device(Kind::FileCopy);
    let handle = vsp.handle();
    let mut guest = open(&mut vsp);
    guest.negotiate([1, 0, 1, 0]);
    let source = Box::new(std::io::repeat(1));
    let copy = super::super::file_copy::Copy {
        target: "/tmp/a".into(),
        overwrite: false,
        make_path: false,
        size: 1 << 40,
        source,
    };
    let asked = handle.ask(Request::Copy(copy)).unwrap();
    guest.serve();
    guest.receive().unwrap();
    guest.answer(|_| ());
    guest.receive().unwrap();
    drop(asked);
    guest.answer(|_| ());
    guest.receive().unwrap();
    assert_eq!(guest.last[28], 3, "CANCEL");
    guest.answer(|_| ());
    assert!(guest.receive().is_none());
}

#[test]
fn closing_the_channel_fails_requests_and_keeps_a_pending_thaw() {
    let (mut vsp, _) = device(Kind::Vss);
    let handle = vsp.handle();
    let mut guest = open(&mut vsp);
    guest.negotiate([5, 0, 0, 0]);
    let freeze = super::super::vss::Freeze { patience: Duration::from_secs(9), limit: Duration::from_secs(9) };
    let asked = handle.ask(Request::Freeze(freeze)).unwrap();
    guest.serve();
    guest.receive().unwrap();
    guest.answer(|_| ());
    guest.receive().unwrap();
    assert_eq!(guest.last[28], 5, "FREEZE");
    let left = handle.ask(Request::Thaw).unwrap();
    drop(guest);
    assert_eq!(asked.wait(Duration::ZERO), Some(Err(Failure::Closed)));
    assert_eq!(left.wait(Duration::ZERO), Some(Err(Failure::Closed)), "it was not taken");
    assert!(handle.ask(Request::Thaw).is_err());
    let mut guest = open(&mut vsp);
    guest.negotiate([5, 0, 0, 0]);
    guest.receive().unwrap();
    assert_eq!(guest.last[28], 6, "THAW");
    // The machine restarts, so the next guest is another one.
    guest.port.gone.store(true, Ordering::SeqCst);
    drop(guest);
    let mut guest = open(&mut vsp);
    guest.negotiate([5, 0, 0, 0]);
    assert!(guest.receive().is_none());
}

#[test]
fn a_malformed_packet_ends_the_service() {
    let (mut vsp, _) = device(Kind::Heartbeat);
    let mut guest = open(&mut vsp);
    guest.serve();
    let _ = guest.sender.send(&NewPacket::in_band(1, &[&[0; 16]])).unwrap();
    let error = guest.handler.service(&mut guest.channel).unwrap_err();
    assert!(error.to_string().contains("fewer than the 28 bytes"), "{error}");
    let _ = guest.sender.send(&NewPacket::completion(1, &[&[0; 64]])).unwrap();
    let error = guest.handler.service(&mut guest.channel).unwrap_err();
    assert!(error.to_string().contains("completion"), "{error}");
}

#[test]
fn unread_messages_to_a_guest_are_bounded() {
    let (mut vsp, _) = device(Kind::Time);
    let mut guest = open(&mut vsp);
    guest.negotiate([3, 0, 0, 0]);
    // Nothing is read, and every message counts as unanswered after a minute.
    for _ in 0..1000 {
        guest.pass(Duration::from_secs(70));
    }
    assert_ne!(guest.alarm(), Some(Duration::ZERO), "the thread does not spin");
    let mut count = 0;
    while guest.receive().is_some() {
        count += 1;
    }
    assert!((1..300).contains(&count), "{count}");
}

#[test]
fn a_resumed_machine_sets_the_guests_clock() {
    let (mut vsp, _) = device(Kind::Time);
    let mut guest = open(&mut vsp);
    guest.negotiate([4, 0, 0, 0]);
    let flags = |guest: &mut Open| {
        guest.receive().unwrap();
        assert_eq!(guest.last[28 + 8..28 + 16], REFERENCE.to_le_bytes());
        guest.last[28 + 16]
    };
    assert_eq!(flags(&mut guest), 1);
    guest.answer(|_| ());
    guest.pass(Duration::from_secs(5));
    assert_eq!(flags(&mut guest), 2);
    guest.answer(|_| ());
    assert!(guest.handler.pause(&mut guest.channel).unwrap());
    guest.handler.resume();
    guest.serve();
    assert_eq!(flags(&mut guest), 1);
    let host = u64::from_le_bytes(*guest.last[28..].first_chunk().unwrap());
    let since = Duration::from_nanos((host - HostTime::UNIX_EPOCH.0) * 100);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(now.abs_diff(since) < Duration::from_secs(600), "it is the host's time");
}
