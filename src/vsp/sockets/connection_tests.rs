use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vm_memory::GuestAddress;
use zerocopy::FromBytes;

use super::super::service::Service;
use super::*;
use crate::host::descriptors::Budget;
use crate::host::event::EventFd;
use crate::host::lock::Mutex;
use crate::memory::GuestMemory;
use crate::vmbus::ids::GpadlId;
use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
use crate::vmbus::testing::GuestBus;

fn table() -> Arc<Table> {
    let share = Budget::new(1000).join(Arc::new(EventFd::new().unwrap()));
    Arc::new(Table::new(share))
}

/// The events that a handler waits for: a readable peer, a writable peer, and a time.
type Wanted = (Option<(bool, bool)>, Option<Duration>);

/// A port whose clock is the test's.
#[derive(Default)]
struct TestPort {
    seconds: AtomicU64,
    wanted: Mutex<Wanted>,
}

impl Port for TestPort {
    fn signal_guest(&self) {}

    fn wake(&self) {}

    fn wake_after(&self, time: Option<Duration>) {
        *self.wanted.lock() = (None, time);
    }

    fn wake_when(&self, _source: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        self.wanted.lock().0 = Some((readable, writable));
        Ok(())
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }

    fn offer_subchannels(&self, _count: u16) {}
}

/// A connection with the guest's ends of its rings, and the host's end.
struct Open {
    channel: Channel,
    handler: Box<dyn Handler>,
    sender: GuestSender,
    receiver: GuestReceiver,
    port: Arc<TestPort>,
    record: Arc<Record>,
    peer: UnixStream,
}

/// Opens a connection as a guest, with rings as large as those of Linux before VMBus 5.0.
fn open() -> Open {
    const PAGES: u64 = 6;
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 16 * 4096)]).unwrap();
    let mut bus = GuestBus::new(&memory, 1);
    let (ours, peer) = UnixStream::pair().unwrap();
    let (table, vmbus) = (table(), VmBus::default());
    let (id, service) = (vmbus.new_device_id(), Service::from(1024));
    let record = table.add(id, service, Origin::Host, 1).unwrap();
    assert!(table.add(vmbus.new_device_id(), service, Origin::Host, 1).is_none(), "there is a limit");
    let mut vsp = ConnectionVsp {
        record: record.clone(),
        table,
        bus: vmbus,
        offer: offer(service.guid(), instance(7), Origin::Host),
        peer: Some(ours.into()),
        texts: ("OK\n".into(), "ERROR\n".into()),
        opened: None,
    };
    let id = bus.offer(vsp.offer());
    bus.gpadl(id, GpadlId(1), 0..2 * PAGES);
    let opening = bus.open(id, GpadlId(1), PAGES as u32);
    let (sender, receiver) = (GuestSender::new(opening.incoming.clone()), GuestReceiver::new(opening.outgoing.clone()));
    let port = Arc::new(TestPort::default());
    let mut channel = Channel::new(opening, 0, memory, port.clone()).unwrap();
    assert!(record.is_offered());
    let handler = vsp.open(&mut channel).unwrap();
    assert!(!record.is_offered() && vsp.open(&mut channel).is_err(), "a connection is opened once");
    Open { channel, handler, sender, receiver, port, record, peer }
}

impl Open {
    fn serve(&mut self) {
        self.handler.service(&mut self.channel).unwrap();
    }

    fn send(&mut self, data: &[u8]) -> bool {
        self.sender.send(&NewPacket::in_band(0, &[&PipeHeader::of(data.len()), data])).is_ok()
    }

    /// Returns the data of the next packet for the guest.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        let packet = self.receiver.receive(&mut buffer)?;
        let header = PipeHeader::read_from_prefix(packet.payload).ok().map(|(header, _)| header);
        let size = wire::size(header, packet.payload.len()).unwrap();
        let data = packet.payload[PipeHeader::LENGTH..][..size].to_vec();
        assert!(packet.payload.len() <= PipeHeader::LENGTH + MAX_TO_GUEST);
        let _ = self.receiver.close();
        Some(data)
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.peer.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn state(&self) -> &'static str {
        self.record.facts().0
    }

    fn wanted(&self) -> Wanted {
        *self.port.wanted.lock()
    }
}

#[test]
fn an_offer_says_who_connects() {
    let guest = offer(Service::from(22).guid(), Guid::new(1), Origin::Guest);
    assert_eq!((guest.flags & offer_flags::TLNPI_PROVIDER, guest.user_defined.0[4]), (0x2000, 0));
    let host = offer(Service::from(22).guid(), instance(0x4000_0001), Origin::Host);
    assert_eq!((host.user_defined.0[4], &host.instance.to_string()[..8]), (1, "40000001"));
}

#[test]
fn data_and_ends_go_both_ways() {
    let mut open = open();
    assert!(open.send(b"from the guest"));
    open.peer.write_all(b"from the host").unwrap();
    open.serve();
    assert_eq!(open.read(17), b"OK\nfrom the guest");
    assert_eq!(open.receive().unwrap(), b"from the host");
    assert_eq!((open.wanted(), open.state()), ((Some((true, false)), None), "open"));
    open.peer.shutdown(std::net::Shutdown::Write).unwrap();
    open.serve();
    assert_eq!((open.receive().unwrap(), open.state()), (vec![], "ended by the host"));
    assert_eq!(open.wanted(), (Some((false, false)), None), "the peer may hang up");
    assert!(open.send(b"more") && open.send(b""));
    open.serve();
    let mut rest = Vec::new();
    open.peer.read_to_end(&mut rest).unwrap();
    assert_eq!((rest, open.state(), open.record.facts()), (b"more".to_vec(), "ending", ("ending", 18, 13)));
}

#[test]
fn a_guest_that_has_ended_still_gets_data() {
    let mut open = open();
    assert!(open.send(b""));
    open.serve();
    assert_eq!(open.read(3), b"OK\n");
    assert_eq!(open.peer.read(&mut [0]).unwrap(), 0, "the end of the guest's data");
    for _ in 0..100 {
        open.peer.write_all(&[7; 1000]).unwrap();
        open.serve();
        assert_eq!(open.receive().unwrap(), [7; 1000]);
    }
    drop(open.peer.try_clone().unwrap());
    open.peer.shutdown(std::net::Shutdown::Write).unwrap();
    open.serve();
    assert_eq!((open.receive().unwrap(), open.state()), (vec![], "ending"));
}

#[test]
fn a_peer_that_does_not_read_stops_the_guest_and_nothing_is_lost() {
    let mut open = open();
    let (mut sent, mut refused) = (0_usize, 0);
    while refused < 3 {
        match open.send(&[sent as u8; 4000]) {
            true => sent += 1,
            false => refused += 1,
        }
        open.serve();
    }
    assert_eq!(open.wanted().0, Some((true, true)));
    assert_eq!(open.read(3), b"OK\n");
    for number in 0..sent {
        assert_eq!(open.read(4000), [number as u8; 4000]);
        open.serve();
    }
    assert_eq!(open.wanted().0, Some((true, false)));
}

#[test]
fn a_guest_that_does_not_read_stops_the_peer_and_nothing_is_lost() {
    let mut open = open();
    open.peer.set_nonblocking(true).unwrap();
    let (mut sent, mut stuck) = (Vec::new(), 0);
    while stuck < 3 {
        let bytes = [(sent.len() / 1000) as u8; 1000];
        match open.peer.write(&bytes) {
            Ok(count) => sent.extend_from_slice(&bytes[..count]),
            Err(_) => stuck += 1,
        }
        open.serve();
    }
    assert_eq!(open.wanted(), (None, None), "only the guest can go on");
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.extend(open.receive().unwrap());
        open.serve();
    }
    assert_eq!(got, sent);
}

#[test]
fn a_peer_that_hangs_up_ends_the_connection_after_its_data() {
    let mut open = open();
    open.peer.write_all(b"last words").unwrap();
    let (other, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut open.peer, other));
    assert!(open.send(b"nobody reads this"));
    open.serve();
    assert_eq!(open.receive().unwrap(), b"last words");
    assert_eq!(open.receive().unwrap(), b"");
    assert_eq!(open.receive(), None);
    assert_eq!(open.state(), "ended by the host");
}

#[test]
fn a_guest_that_closes_twice_is_waited_for_eight_seconds() {
    let mut open = open();
    open.peer.write_all(b"unread").unwrap();
    assert!(open.send(b"") && open.send(b""));
    open.serve();
    assert_eq!(open.wanted(), (Some((true, false)), Some(Duration::from_secs(8))));
    open.port.seconds.store(7, Ordering::SeqCst);
    open.serve();
    assert_eq!(open.wanted().1, Some(Duration::from_secs(1)));
    open.port.seconds.store(8, Ordering::SeqCst);
    *open.port.wanted.lock() = (None, None);
    open.serve();
    assert_eq!(open.wanted(), (None, None), "it is over");
}

#[test]
fn malformed_packets_end_the_connection() {
    let long = vec![0; 30];
    for payload in [&[][..], &[2, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 9, 0, 0, 0], &long] {
        let mut open = open();
        let _ = open.sender.send(&NewPacket::in_band(0, &[payload])).unwrap();
        let error = open.handler.service(&mut open.channel).unwrap_err();
        assert!(matches!(error, ServiceError::Protocol(_)), "{error}");
    }
    let mut open = open();
    let _ = open.sender.send(&NewPacket::completion(0, &[&PipeHeader::of(0)])).unwrap();
    assert!(open.handler.service(&mut open.channel).is_err());
}

#[test]
fn an_old_guest_is_asked_whether_it_has_room() {
    let mut open = open();
    open.sender.mind_no_room();
    open.peer.set_nonblocking(true).unwrap();
    while open.peer.write(&[0; 4096]).is_ok() {
        open.serve();
    }
    open.serve();
    assert_eq!(open.wanted(), (None, Some(POLL)));
}

#[test]
fn a_guest_that_ends_behind_data_that_nobody_reads_is_noticed() {
    let mut open = open();
    while open.send(&[1; 4000]) {
        open.serve();
    }
    assert_eq!(
        open.wanted(),
        (Some((true, true)), Some(POLL)),
        "the peer is waited for, and the guest does not signal"
    );
    assert!(open.send(b"") && open.send(b""));
    open.serve();
    assert_eq!((open.state(), open.wanted().1), ("ended by the guest", Some(POLL)));
    open.port.seconds.store(8, Ordering::SeqCst);
    *open.port.wanted.lock() = (None, None);
    open.serve();
    assert_eq!(open.wanted(), (None, None), "it is over");
}
