use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::config::DiskConfig;
use super::super::storvsp::wire::{
    DataDirection, NtStatus, Operation, PacketHeader, ProtocolVersion, ScsiRequest, SrbStatus, Version,
};
use super::*;
use crate::memory::GuestMemory;
use crate::vmbus::ids::GpadlId;
use crate::vmbus::packet::{GpaDirectHeader, GpaRangeHeader};
use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
use crate::vmbus::testing::GuestBus;
use crate::vmbus::vsp::Port;

/// The port of a channel.
struct TestPort {
    bell: OwnedFd,
    signals: AtomicUsize,
    subchannels: Mutex<Vec<u16>>,
    closing: AtomicBool,
}

impl Port for TestPort {
    fn signal_guest(&self) {
        self.signals.fetch_add(1, Ordering::SeqCst);
    }
    fn wake(&self) {
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).expect("an eventfd");
    }
    fn doorbell(&self) -> Option<OwnedFd> {
        Some(self.bell.try_clone().expect("a copy"))
    }
    fn should_return(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
    fn offer_subchannels(&self, count: u16) {
        self.subchannels.lock().expect("a lock").push(count);
    }
}

struct Guest {
    channel: Channel,
    handler: StorageChannel,
    sender: GuestSender,
    receiver: GuestReceiver,
    port: Arc<TestPort>,
    controller: Arc<Controller>,
}

/// Opens a channel. Pages 0 to 3 are its rings, and data is in pages from 8 on.
fn open() -> Guest {
    open_rings(2, 2)
}

/// Creates a guest whose rings have this number of pages, from page 0 on.
fn open_rings(incoming: u64, outgoing: u64) -> Guest {
    let disk = DiskConfig { path: "memory:1M".into(), ..DiskConfig::default() };
    let controllers = super::super::config::controllers(&[disk], 3).expect("a disk");
    let controller = controllers.into_values().next().expect("a controller");
    let vsp = StorageVsp::new(controller.clone(), Guid::new(5));
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 64 * 4096)]).expect("memory");
    let mut bus = GuestBus::new(&memory, 1);
    let id = bus.offer(vsp.offer());
    bus.gpadl(id, GpadlId(1), 0..incoming + outgoing);
    let opening = bus.open(id, GpadlId(1), incoming as u32);
    let sender = GuestSender::new(opening.incoming.clone());
    let receiver = GuestReceiver::new(opening.outgoing.clone());
    let bell = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
    let (signals, subchannels, closing) = Default::default();
    let port = Arc::new(TestPort { bell, signals, subchannels, closing });
    let mut channel = Channel::new(opening, 0, memory, port.clone()).expect("rings");
    let handler = vsp.open_channel(&mut channel).expect("a handler");
    Guest { channel, handler, sender, receiver, port, controller }
}

fn packet(operation: Operation, body: &[u8]) -> Vec<u8> {
    let mut packet = PacketHeader { operation, flags: 1, status: NtStatus::SUCCESS }.as_bytes().to_vec();
    packet.extend_from_slice(body);
    packet.resize(64, 0);
    packet
}

fn srb(direction: DataDirection, length: u32, cdb: &[u8]) -> Vec<u8> {
    let mut request = ScsiRequest::new_zeroed();
    (request.cdb_length, request.sense_length, request.data_in) = (cdb.len() as u8, 20, direction);
    request.data_transfer_length = length;
    request.cdb[..cdb.len()].copy_from_slice(cdb);
    packet(Operation::EXECUTE_SRB, request.as_bytes())
}

impl Guest {
    fn send(&mut self, id: u64, payload: &[u8], frames: &[u64]) {
        let mut extra = GpaDirectHeader { reserved: 0, range_count: 1 }.as_bytes().to_vec();
        let byte_count = frames.len() as u32 * 4096;
        extra.extend_from_slice(GpaRangeHeader { byte_count, byte_offset: 0 }.as_bytes());
        extra.extend_from_slice(frames.as_bytes());
        let (kind, extra) =
            if frames.is_empty() { (PacketKind::IN_BAND, &[][..]) } else { (PacketKind::GPA_DIRECT, &extra[..]) };
        let new = NewPacket { kind, wants_completion: true, transaction_id: id, extra, payload: &[payload] };
        let _ = self.sender.send(&new).expect("room");
    }

    /// Serves the channel as its thread would, until there is a packet for the guest.
    fn next(&mut self) -> (u64, PacketKind, Vec<u8>) {
        let mut buffer = Vec::new();
        loop {
            self.handler.service(&mut self.channel).expect("a good guest");
            if let Some(packet) = self.receiver.receive(&mut buffer) {
                let found = (packet.header.transaction_id, packet.header.kind, packet.payload.to_vec());
                // The handler is called whether it is signalled or not.
                let _ = self.receiver.close();
                return found;
            }
            poll(&mut [PollFd::new(&self.port.bell, PollFlags::IN)], None).expect("an eventfd");
            let _ = rustix::io::read(&self.port.bell, &mut [0; 8]);
        }
    }

    fn negotiate(&mut self) {
        let version = ProtocolVersion { version: Version::WIN10, revision: 0 };
        for (id, (operation, body)) in [
            (Operation::BEGIN_INITIALIZATION, &[][..]),
            (Operation::QUERY_PROTOCOL_VERSION, version.as_bytes()),
            (Operation::QUERY_PROPERTIES, &[]),
            (Operation::END_INITIALIZATION, &[]),
            (Operation::CREATE_SUB_CHANNELS, &[2, 0]),
            (Operation::EXECUTE_SRB, &[]),
        ]
        .into_iter()
        .enumerate()
        {
            self.send(id as u64, &packet(operation, body), &[]);
            let (answered, kind, payload) = self.next();
            assert_eq!((answered, kind, payload.len()), (id as u64, PacketKind::COMPLETION, 64));
            let status = PacketHeader::read_from_prefix(&payload).expect("a header").0.status;
            // The first command gets the unit attention for the power-on.
            let expected =
                if operation == Operation::EXECUTE_SRB { NtStatus::IO_DEVICE_ERROR } else { NtStatus::SUCCESS };
            assert_eq!(status, expected, "{operation:?}");
        }
    }
}

#[test]
fn a_driver_negotiates_and_writes_and_reads_through_its_rings() {
    let mut guest = open();
    guest.negotiate();
    assert_eq!(*guest.port.subchannels.lock().expect("a lock"), [2]);
    let memory = guest.channel.memory().clone();
    let pages = |frames: &[u64]| GuestBuffer::new(&memory, frames.iter().copied(), 0, 8192).expect("pages");
    pages(&[8, 20]).write(0, &[0x61; 8192]).expect("room");
    guest.send(100, &srb(DataDirection::OUT, 8192, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 16, 0]), &[8, 20]);
    assert_eq!(guest.next().0, 100);
    guest.send(101, &srb(DataDirection::IN, 8192, &[0x28, 0, 0, 0, 0, 9, 0, 0, 16, 0]), &[31, 30]);
    let (id, _, payload) = guest.next();
    let request = ScsiRequest::read_from_prefix(&payload[12..]).expect("a reply").0;
    assert_eq!((id, request.srb_status, request.data_transfer_length), (101, SrbStatus::SUCCESS, 8192));
    let mut bytes = [0; 8192];
    pages(&[31, 30]).read(0, &mut bytes).expect("room");
    assert_eq!(bytes, [0x61; 8192]);
}

#[test]
fn a_batch_is_completed_with_few_interrupts_and_a_full_ring_loses_nothing() {
    let mut guest = open();
    guest.negotiate();
    let before = guest.port.signals.load(Ordering::SeqCst);
    let (mut sent, mut received) = (0, 0);
    while received < 500 {
        let read = srb(DataDirection::IN, 4096, &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        while sent < 500 && sent - received < 30 {
            guest.send(1000 + sent, &read, &[10 + sent % 30]);
            sent += 1;
        }
        let (id, _, payload) = guest.next();
        assert!((1000..1000 + sent).contains(&id));
        assert_eq!(ScsiRequest::read_from_prefix(&payload[12..]).expect("a reply").0.srb_status, SrbStatus::SUCCESS);
        received += 1;
    }
    let signals = guest.port.signals.load(Ordering::SeqCst) - before;
    assert!(signals <= 510, "{signals} interrupts");
}

#[test]
fn requests_of_a_paused_channel_complete_or_wait_and_are_answered_after_the_pause() {
    let mut guest = open();
    guest.negotiate();
    let read = srb(DataDirection::IN, 4096, &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    for id in 0..20 {
        guest.send(1000 + id, &read, &[10 + id]);
    }
    guest.handler.service(&mut guest.channel).expect("a sound guest");
    let mut patience = crate::patience::Patience::new(Duration::from_secs(10));
    while !guest.handler.pause(&mut guest.channel).expect("a sound guest") {
        assert!(!patience.is_over(), "the channel is not quiet");
        std::thread::yield_now();
    }
    let memory = guest.channel.memory().clone();
    let pages = GuestBuffer::new(&memory, (0..64_u64).collect::<Vec<_>>().into_iter(), 0, 64 << 12).expect("pages");
    let contents = || {
        let mut bytes = vec![0; 64 << 12];
        pages.read(0, &mut bytes).expect("pages");
        bytes
    };
    let before = contents();
    std::thread::sleep(Duration::from_millis(20));
    assert!(contents() == before, "a channel that is paused has written to guest memory");
    guest.handler.resume();
    let mut answered: Vec<u64> = (0..20).map(|_| guest.next().0).collect();
    answered.sort_unstable();
    assert_eq!(answered, (1000..1020).collect::<Vec<_>>());
}

#[test]
fn a_guest_is_notified_of_an_added_disk() {
    let mut guest = open();
    guest.negotiate();
    let disk = DiskConfig { path: "memory:1M".into(), ..DiskConfig::default() };
    guest.controller.attach(1, disk.unit(1).expect("a unit")).expect("room");
    let (id, kind, payload) = guest.next();
    let header = PacketHeader::read_from_prefix(&payload).expect("a header").0;
    assert_eq!((id, kind, header.operation), (0, PacketKind::IN_BAND, Operation::ENUMERATE_BUS));
}

#[test]
fn invalid_packets_end_the_service_of_the_channel() {
    let short = |guest: &mut Guest| {
        guest.sender.send(&NewPacket { wants_completion: true, ..NewPacket::in_band(1, &[&[1; 8]]) })
    };
    let silent = |guest: &mut Guest| guest.sender.send(&NewPacket::in_band(1, &[&[1; 64]]));
    let completion = |guest: &mut Guest| guest.sender.send(&NewPacket::completion(1, &[&[1; 64]]));
    let nowhere = |guest: &mut Guest| {
        guest.send(1, &srb(DataDirection::IN, 4096, &[0x28]), &[1 << 40]);
        Ok(crate::vmbus::ring::Signal::Needed)
    };
    type Send = fn(&mut Guest) -> Result<crate::vmbus::ring::Signal, crate::vmbus::ring::WriteError>;
    for send in [short as Send, silent, completion, nowhere] {
        let mut guest = open();
        let _ = send(&mut guest).expect("room");
        assert!(guest.handler.service(&mut guest.channel).is_err());
    }
}

/// A guest whose ring to the host is never empty: each packet that is read is immediately followed by another. Calls `taken`
/// with the number of read packets, up to `MANY`.
fn endless(payload: &[u8], taken: impl Fn(u32) + Send + Sync + 'static) -> Guest {
    /// Enough packets to detect an unbounded queue.
    const MANY: u32 = 100_000;
    const PAGES: u64 = 11;
    let mut guest = open_rings(1 + PAGES, 2);
    let parts = [payload];
    let new = NewPacket { wants_completion: true, ..NewPacket::in_band(7, &parts) };
    let (size, each) = (PAGES as u32 * 4096, NewPacket::space(payload.len()));
    assert!(size.is_multiple_of(each), "packets of {each} bytes do not lie at the same places each time round");
    // The same packet everywhere in the ring.
    let memory = guest.channel.memory().clone();
    let mut packet = vec![0; each as usize];
    let _ = guest.sender.send(&new).expect("room");
    memory.read_slice(&mut packet, GuestAddress(4096)).expect("a ring");
    (0..u64::from(size / each)).for_each(|place| {
        memory.write_slice(&packet, GuestAddress(4096 + place * u64::from(each))).expect("a ring");
    });
    let half = size / each / 2 * each;
    memory.write_obj(half, GuestAddress(0)).expect("a control page");
    let (write, count) = (AtomicU32::new(half), AtomicU32::new(0));
    guest.channel.trace(&Tracer::new(move |line| {
        if !line.to_string().contains(" guest:") {
            return;
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        taken(number);
        if number < MANY {
            let next = (write.load(Ordering::SeqCst) + each) % size;
            write.store(next, Ordering::SeqCst);
            memory.write_obj(next, GuestAddress(0)).expect("a control page");
        }
    }));
    guest
}

#[test]
fn unread_completions_are_bounded_even_if_the_ring_is_never_empty() {
    // Control packets, and commands that are refused.
    for operation in [Operation::QUERY_PROTOCOL_VERSION, Operation::EXECUTE_SRB] {
        let mut guest = endless(&packet(operation, &[]), |_| ());
        for _ in 0..10 {
            guest.handler.service(&mut guest.channel).expect("a guest that breaks no rule");
            let held = guest.handler.unsent.len();
            assert!(held <= MAX_UNSENT + super::super::worker::MAX_IN_FLIGHT as usize, "{held} answers");
        }
    }
}

#[test]
fn a_closing_channel_is_left_even_if_its_ring_is_never_empty() {
    let taken = Arc::new(AtomicU32::new(0));
    let closing: Arc<std::sync::OnceLock<Arc<TestPort>>> = Arc::default();
    let note = {
        let (taken, closing) = (taken.clone(), closing.clone());
        move |number| {
            taken.store(number, Ordering::SeqCst);
            if number == 100 {
                closing.get().expect("a port").closing.store(true, Ordering::SeqCst);
            }
        }
    };
    let mut guest = endless(&packet(Operation::QUERY_PROTOCOL_VERSION, &[]), note);
    closing.set(guest.port.clone()).ok().expect("the first");
    guest.handler.service(&mut guest.channel).expect("a guest that breaks no rule");
    assert_eq!(taken.load(Ordering::SeqCst), 100);
}
