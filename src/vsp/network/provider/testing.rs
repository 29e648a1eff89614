//! An adapter on a switch, and its driver in a guest, for tests.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_memory::GuestAddress;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::NetworkVsp;
use crate::host::bell::Bell;
use crate::memory::GuestMemory;
use crate::memory::buffer::GuestBuffer;
use crate::net::Backend;
use crate::net::Queue;
use crate::net::frame::{Frame, FrameBuffer};
use crate::net::mac::MacAddress;
use crate::net::switch::{Port as SwitchPort, Switch};
use crate::vmbus::ids::GpadlId;
use crate::vmbus::packet::{PacketKind, TransferPagesHeader, TransferRange};
use crate::vmbus::ring::NewPacket;
use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
use crate::vmbus::testing::GuestBus;
use crate::vmbus::vsp::{Channel, Handler, Port, Vsp};
use crate::vsp::network::nic::Nic;
use crate::vsp::network::nvsp::device::{NvspDevice, rndis_complete};
use crate::vsp::network::nvsp::wire::{
    Init, MessageType, NdisConfig, ReceiveBufferComplete, SendBuffer, SendRndisPacket, Status, Version, message, split,
};
use crate::vsp::network::rndis::adapter::{Adapter, Settings};
use crate::vsp::network::rndis::info::Information;
use crate::vsp::network::rndis::oid::Oid;
use crate::vsp::network::rndis::packet::{DataMessages, header};
use crate::vsp::network::rndis::wire::{Initialize, MessageType as RndisType, Request, message as rndis};

pub const GUEST: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub const PEER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub const RECEIVE: GpadlId = GpadlId(100);
pub const SEND: GpadlId = GpadlId(101);
pub const RECEIVE_PAGE: u64 = 64;
pub const SEND_PAGE: u64 = 128;
/// Sections of 1664 bytes.
pub const RECEIVE_PAGES: u64 = 32;
pub const SECTIONS: usize = 78;

#[derive(Debug)]
pub struct TestPort {
    pub bell: Bell,
    pub signals: AtomicUsize,
    pub subchannels: Mutex<Vec<u16>>,
}

impl Port for TestPort {
    fn signal_guest(&self) {
        self.signals.fetch_add(1, Ordering::SeqCst);
    }
    fn wake(&self) {
        self.bell.ring();
    }
    fn wake_on(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        self.bell.ring_on(source)
    }
    fn offer_subchannels(&self, count: u16) {
        self.subchannels.lock().expect("a lock").push(count);
    }
}

impl TestPort {
    pub fn new() -> Arc<Self> {
        let bell = Bell::new().expect("an eventfd");
        Arc::new(Self { bell, signals: AtomicUsize::new(0), subchannels: Mutex::default() })
    }
}

/// The host with one adapter on a switch. [`peer`](Self::peer) is plugged into the same switch.
pub struct Host {
    pub vsp: NetworkVsp,
    pub nic: Arc<Nic>,
    bus: GuestBus,
    pub memory: GuestMemory,
    pub peer: SwitchPort,
}

/// An open channel of the adapter, with the guest's side of its rings.
pub struct Open {
    pub channel: Channel,
    pub handler: Box<dyn Handler>,
    pub sender: GuestSender,
    pub receiver: GuestReceiver,
    pub port: Arc<TestPort>,
}

/// A packet for the guest.
#[derive(Debug)]
pub struct Received {
    pub kind: PacketKind,
    pub transaction: u64,
    pub extra: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Host {
    pub fn new(queues: u16) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 256 * 4096)]).expect("memory");
        let bus = GuestBus::new(&memory, 4);
        let switch = Arc::new(Switch::default());
        let port = switch.plug(Some(GUEST)).expect("a port");
        let peer = switch.plug(Some(PEER)).expect("a port");
        let settings = Settings { address: GUEST, mtu: 1500, queues, link_speed: 1 << 30, name: String::new() };
        let device = NvspDevice::new(Version::V6_1, Adapter::new(settings, Arc::default()));
        let queues = (0..queues).map(|_| Box::new(port.clone()) as Box<dyn Queue>).collect();
        let nic = Nic::new(device, Backend { queues, spreads: false, uplink: None });
        let vsp = NetworkVsp::numbered(nic.clone(), 0);
        Self { vsp, nic, bus, memory, peer }
    }

    /// Restarts the guest, which finds the same adapter.
    pub fn restart(&mut self) {
        self.bus = GuestBus::new(&self.memory, 4);
    }

    /// Opens a channel with rings of this number of pages each.
    pub fn open(&mut self, index: u16, ring: u32) -> Open {
        let offer = self.vsp.offer().subchannel(index);
        let id = self.bus.offer(offer);
        let (rings, first) = (GpadlId(1 + u32::from(index)), 12 * u64::from(index));
        self.bus.gpadl(id, rings, first..first + 2 * u64::from(ring));
        if index == 0 {
            self.bus.gpadl(id, RECEIVE, RECEIVE_PAGE..RECEIVE_PAGE + RECEIVE_PAGES);
            self.bus.gpadl(id, SEND, SEND_PAGE..SEND_PAGE + 16);
        }
        let opening = self.bus.open(id, rings, ring);
        let sender = GuestSender::new(opening.incoming.clone());
        let receiver = GuestReceiver::new(opening.outgoing.clone());
        let port = TestPort::new();
        let mut channel = Channel::new(opening, index, self.memory.clone(), port.clone()).expect("rings");
        let handler = self.vsp.open(&mut channel).expect("a handler");
        self.bus.opened(id);
        let mut open = Open { channel, handler, sender, receiver, port };
        open.serve();
        open
    }

    /// Sends a frame from the peer to the guest.
    pub fn send(&mut self, number: u8, length: usize) {
        assert!(self.peer.send(Frame::plain(&frame(GUEST, PEER, number, length))));
    }

    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let pages = (address % 4096 + length as u64).div_ceil(4096);
        let frames: Vec<u64> = (address / 4096..address / 4096 + pages).collect();
        let buffer = GuestBuffer::new(&self.memory, frames.into_iter(), (address % 4096) as usize, length);
        let mut bytes = vec![0; length];
        buffer.expect("pages").read(0, &mut bytes).expect("room");
        bytes
    }

    pub fn write(&self, page: u64, bytes: &[u8]) {
        let pages = bytes.len().div_ceil(4096) as u64;
        let frames: Vec<u64> = (page..page + pages).collect();
        let buffer = GuestBuffer::new(&self.memory, frames.into_iter(), 0, bytes.len()).expect("pages");
        buffer.write(0, bytes).expect("room");
    }

    /// Returns the content of the sections of a transfer-pages packet.
    pub fn sections(&self, packet: &Received) -> Vec<Vec<u8>> {
        assert_eq!(packet.kind, PacketKind::TRANSFER_PAGES);
        let (head, ranges) = TransferPagesHeader::read_from_prefix(&packet.extra).expect("a header");
        let ranges = <[TransferRange]>::ref_from_bytes(ranges).expect("ranges");
        assert_eq!((head.page_set, head.range_count as usize), (0xcafe, ranges.len()));
        let read = |range: &TransferRange| {
            self.bytes(RECEIVE_PAGE * 4096 + u64::from(range.byte_offset), range.byte_count as usize)
        };
        ranges.iter().map(read).collect()
    }

    /// Returns the frames of a packet.
    pub fn frames(&self, packet: &Received) -> Vec<Vec<u8>> {
        let frame = |section: Vec<u8>| DataMessages::new(&section).next().expect("one").expect("good").frame.to_vec();
        self.sections(packet).into_iter().map(frame).collect()
    }

    /// Initializes the adapter until frames are transferred.
    pub fn set_up(&mut self, open: &mut Open) {
        let newest = Version::V6_1.number();
        open.tell(MessageType::INIT, &Init { minimum: newest, maximum: newest });
        open.tell(MessageType::SEND_NDIS_CONFIG, &NdisConfig { frame_length: 1514, reserved: 0, capabilities: [0, 0] });
        let receive = SendBuffer { gpadl: RECEIVE, id: 0xcafe, reserved: 0 };
        let answer = open.tell(MessageType::SEND_RECEIVE_BUFFER, &receive);
        let (kind, body) = split(&answer.payload).expect("a message");
        assert_eq!(kind, MessageType::SEND_RECEIVE_BUFFER_COMPLETE);
        let complete = ReceiveBufferComplete::read_from_prefix(body).expect("a body").0;
        assert_eq!((complete.status, complete.section_count as usize), (Status::SUCCESS, SECTIONS));
        open.tell(MessageType::SEND_SEND_BUFFER, &SendBuffer { gpadl: SEND, id: 0, reserved: 0 });
        let initialize = Initialize { request_id: 1, major_version: 1, minor_version: 0, max_transfer_size: 0x4000 };
        self.control(open, &rndis(RndisType::INITIALIZE, &initialize, &[]));
        self.set(open, Oid::GEN_CURRENT_PACKET_FILTER, &0x2d_u32.to_le_bytes());
    }

    pub fn set(&mut self, open: &mut Open, oid: Oid, value: &[u8]) {
        let length = value.len() as u32;
        let request = Request { request_id: 2, oid, information_length: length, information_offset: 20, handle: 0 };
        self.control(open, &rndis(RndisType::SET, &request, value));
    }

    /// Sends a control message in pages of its own, and gives the sections of its answer back to the host.
    pub fn control(&mut self, open: &mut Open, message: &[u8]) {
        self.write(200, message);
        open.rndis(7, SendRndisPacket::CONTROL, &[(200, message.len())]);
        open.serve();
        let completion = open.next().expect("a completion");
        assert_eq!((completion.kind, completion.transaction), (PacketKind::COMPLETION, 7));
        assert_eq!(completion.payload[4..8], Status::SUCCESS.0.to_le_bytes());
        let answer = open.next().expect("an answer");
        assert_eq!(self.sections(&answer).len(), 1);
        open.give_back(&answer);
    }
}

impl Open {
    pub fn serve(&mut self) {
        self.handler.service(&mut self.channel).expect("a good guest");
    }

    /// Serves the channel when it is woken. Returns `false` if it is not woken within a limit.
    pub fn is_woken(&mut self) -> bool {
        let woken = self.rings_within(Timespec { tv_sec: 10, tv_nsec: 0 });
        self.serve();
        woken
    }

    /// Returns `true` if the channel's thread was woken since the last call.
    pub fn has_rung(&mut self) -> bool {
        self.rings_within(Timespec::default())
    }

    fn rings_within(&self, patience: Timespec) -> bool {
        let bell = self.port.bell.readiness();
        let rings = poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&patience)).expect("an eventfd") > 0;
        if rings {
            self.port.bell.wait(None).expect("an eventfd");
        }
        rings
    }

    pub fn next(&mut self) -> Option<Received> {
        let mut buffer = Vec::new();
        let packet = self.receiver.receive(&mut buffer)?;
        let (extra, payload) = (packet.extra.to_vec(), packet.payload.to_vec());
        let (kind, transaction) = (packet.header.kind, packet.header.transaction_id);
        if self.receiver.close().is_needed() {
            self.port.wake();
        }
        Some(Received { kind, transaction, extra, payload })
    }

    /// Returns the next packet. Serves the channel if it is woken.
    pub fn wait(&mut self) -> Received {
        loop {
            if let Some(packet) = self.next() {
                return packet;
            }
            assert!(self.is_woken(), "nobody wakes the channel");
        }
    }

    pub fn send(&mut self, packet: &NewPacket<'_>) {
        let _ = self.sender.send(packet).expect("room");
    }

    pub fn tell(&mut self, kind: MessageType, body: &(impl IntoBytes + Immutable)) -> Received {
        let payload = message(kind, body, 40);
        self.send(&NewPacket { wants_completion: true, ..NewPacket::in_band(3, &[&payload]) });
        self.serve();
        let completion = self.next().expect("a completion");
        assert_eq!((completion.kind, completion.transaction), (PacketKind::COMPLETION, 3));
        completion
    }

    /// Sends RNDIS messages at the start of pages, each range with its length.
    pub fn rndis(&mut self, id: u64, channel_type: u32, ranges: &[(u64, usize)]) {
        let mut extra = [0_u32, ranges.len() as u32].as_bytes().to_vec();
        for (page, length) in ranges {
            assert!(*length <= 4096);
            extra.extend_from_slice([*length as u32, 0].as_bytes());
            extra.extend_from_slice(&page.to_le_bytes());
        }
        let body = SendRndisPacket { channel_type, section: SendRndisPacket::NO_SECTION, section_length: 0 };
        let payload = message(MessageType::SEND_RNDIS_PACKET, &body, 40);
        self.send(&NewPacket {
            kind: PacketKind::GPA_DIRECT,
            wants_completion: true,
            transaction_id: id,
            extra: &extra,
            payload: &[&payload],
        });
    }

    pub fn give_back(&mut self, packet: &Received) {
        let done = rndis_complete(Status::SUCCESS);
        self.send(&NewPacket::completion(packet.transaction, &[&done]));
    }
}

/// Returns a distinct frame.
pub fn frame(to: MacAddress, from: MacAddress, number: u8, length: usize) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &[0x88, 0xb5, number]].concat();
    frame.resize(length.max(15), number);
    frame
}

/// Returns an RNDIS data message.
pub fn data(frame: &[u8]) -> Vec<u8> {
    let (head, length) = header(&Information::default(), frame.len());
    [&head[..length], frame].concat()
}

pub fn fetch(peer: &mut SwitchPort) -> Option<Vec<u8>> {
    let mut buffer = FrameBuffer::default();
    peer.receive(&mut buffer).then_some(buffer.bytes)
}

pub fn ready(queues: u16, ring: u32) -> (Host, Open) {
    let mut host = Host::new(queues);
    let mut open = host.open(0, ring);
    host.set_up(&mut open);
    (host, open)
}
