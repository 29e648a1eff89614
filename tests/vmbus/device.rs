//! The device that the guests of these tests use, and for which the guest image `vmbus` has a driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use viridian::vmbus::GpadlId;
use viridian::vmbus::Guid;
use viridian::vmbus::vsp::Gpadl;
use viridian::vmbus::vsp::GuestBuffer;
use viridian::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use viridian::vmbus::vsp::{NewPacket, WriteError};
use viridian::vmbus::vsp::{PacketKind, TransferPagesHeader, TransferRange};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `6563686f-0000-0000-0000-000000000000`, "echo" in ASCII.
pub const INTERFACE: Guid = Guid::new(0x6563686f << 96);

/// The request of a packet: the first word of its payload. Each is answered by a completion with the same payload.
pub mod command {
    /// Only the completion.
    pub const ECHO: u32 = 0;
    /// Invert each byte of the pages that the packet lists.
    pub const INVERT: u32 = 1;
    /// Offer `first` subchannels.
    pub const SUBCHANNELS: u32 = 2;
    /// Send `first` packets with `second` bytes of payload: see [`pattern`](super::pattern).
    pub const SEND: u32 = 3;
    /// Call the function of the test: see [`TestDevice::on_call`](super::TestDevice::on_call).
    pub const CALL: u32 = 4;
    /// Report a protocol violation of the guest.
    pub const FAIL: u32 = 5;
    /// Panic.
    pub const PANIC: u32 = 6;
}

/// The start of a packet's payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    pub command: u32,
    pub first: u32,
    pub second: u32,
    /// The GPADL of a transfer-pages packet.
    pub gpadl: GpadlId,
}

/// Returns byte `index` of packet `number` of a [`command::SEND`].
pub fn pattern(number: u32, index: usize) -> u8 {
    (number as usize * 7 + index * 13) as u8
}

/// The function for [`command::CALL`]. It gets `first` and `second`.
pub type OnCall = Arc<dyn Fn(u32, u32) + Send + Sync>;

#[derive(Clone)]
pub struct TestDevice {
    instance: Guid,
    on_call: OnCall,
    /// Number of handlers.
    pub open: Arc<AtomicUsize>,
    /// Number of received packets.
    pub packets: Arc<AtomicUsize>,
}

impl TestDevice {
    pub fn new(instance: u128) -> Self {
        Self {
            instance: Guid::new(instance),
            on_call: Arc::new(|_, _| ()),
            open: Arc::default(),
            packets: Arc::default(),
        }
    }

    /// Sets the function for [`command::CALL`].
    pub fn on_call(mut self, on_call: impl Fn(u32, u32) + Send + Sync + 'static) -> Self {
        self.on_call = Arc::new(on_call);
        self
    }
}

impl Vsp for TestDevice {
    fn offer(&self) -> Offer {
        Offer::new(INTERFACE, self.instance)
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let device = self.clone();
        Ok(Box::new(TestHandler { device, buffer: Vec::new(), answer: None, sending: None }))
    }
}

struct TestHandler {
    device: TestDevice,
    buffer: Vec<u8>,
    /// The completion to be sent next: transaction id and payload.
    answer: Option<(u64, Vec<u8>)>,
    /// The rest of a [`command::SEND`]: the next packet's number, the number of packets, and their length.
    sending: Option<(u32, u32, u32)>,
}

impl Handler for TestHandler {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        loop {
            channel.rings().0.mask();
            let result = self.serve(channel);
            let (incoming, outgoing) = channel.rings();
            let (freed, shown) = (incoming.publish(), outgoing.publish());
            channel.signal(if freed.is_needed() { freed } else { shown });
            let (incoming, outgoing) = channel.rings();
            match result? {
                Stopped::Full(needed) => {
                    let (has_room, signal) = outgoing.wait_for_room(needed)?;
                    channel.signal(signal);
                    if !has_room {
                        return Ok(());
                    }
                }
                Stopped::Empty if incoming.unmask()? => {}
                Stopped::Empty | Stopped::Closing => return Ok(()),
            }
        }
    }
}

/// The reason why a handler stopped.
enum Stopped {
    Empty,
    Closing,
    /// There is no room for a packet of this size.
    Full(u32),
}

impl TestHandler {
    /// Processes packets until there are no more, or no room for an answer.
    fn serve(&mut self, channel: &mut Channel) -> Result<Stopped, ServiceError> {
        loop {
            if channel.port().should_return() {
                return Ok(Stopped::Closing);
            }
            if let Some((transaction_id, payload)) = &self.answer {
                match channel.rings().1.write(&NewPacket::completion(*transaction_id, &[payload])) {
                    Ok(()) => self.answer = None,
                    Err(WriteError::Full { needed }) => return Ok(Stopped::Full(needed)),
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some((number, count, length)) = self.sending {
                let payload: Vec<u8> = (0..length as usize).map(|index| pattern(number, index)).collect();
                match channel.rings().1.write(&NewPacket::in_band(number.into(), &[&payload])) {
                    Ok(()) => self.sending = Some((number + 1, count, length)).filter(|_| number + 1 < count),
                    Err(WriteError::Full { needed }) => return Ok(Stopped::Full(needed)),
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            if !self.take(channel)? {
                return Ok(Stopped::Empty);
            }
        }
    }

    /// Processes one packet. Returns `false` if there is none.
    fn take(&mut self, channel: &mut Channel) -> Result<bool, ServiceError> {
        let (memory, gpadls, port) = (channel.memory().clone(), channel.gpadls().clone(), channel.port().clone());
        let Some(packet) = channel.rings().0.receive(&mut self.buffer)? else { return Ok(false) };
        self.device.packets.fetch_add(1, Ordering::SeqCst);
        let protocol = |what: &str| ServiceError::Protocol(what.to_string());
        let (request, _) =
            Request::read_from_prefix(packet.payload).map_err(|_| protocol("a packet without a request"))?;
        match (request.command, packet.header.kind) {
            (command::ECHO, _) => {}
            (command::INVERT, PacketKind::GPA_DIRECT) => {
                Gpadl::from_packet(&memory, packet.extra)?.ranges().iter().for_each(invert);
            }
            (command::INVERT, PacketKind::TRANSFER_PAGES) => {
                let pages = gpadls.get(request.gpadl).ok_or_else(|| protocol("no such GPADL"))?;
                let pages = pages.single().ok_or_else(|| protocol("a GPADL in pieces"))?;
                for range in transfer_ranges(packet.extra).ok_or_else(|| protocol("transfer pages without ranges"))? {
                    let part = pages.part(range.byte_offset as usize, range.byte_count as usize);
                    invert(&part.map_err(|error| protocol(&error.to_string()))?);
                }
            }
            (command::SUBCHANNELS, _) => port.offer_subchannels(request.first as u16),
            (command::SEND, _) => self.sending = Some((0, request.first, request.second)).filter(|_| request.first > 0),
            (command::CALL, _) => (self.device.on_call)(request.first, request.second),
            (command::PANIC, _) => panic!("as the guest wished"),
            (command::FAIL, _) => return Err(protocol("as the guest wished")),
            (command, kind) => return Err(protocol(&format!("command {command} in a {kind:?} packet"))),
        }
        if packet.header.wants_completion() {
            self.answer = Some((packet.header.transaction_id, packet.payload.to_vec()));
        }
        Ok(true)
    }
}

fn transfer_ranges(extra: &[u8]) -> Option<Vec<TransferRange>> {
    let (header, ranges) = TransferPagesHeader::read_from_prefix(extra).ok()?;
    let range = |bytes| TransferRange::read_from_bytes(bytes).ok();
    ranges.chunks_exact(size_of::<TransferRange>()).take(header.range_count as usize).map(range).collect()
}

fn invert(buffer: &GuestBuffer) {
    let mut bytes = vec![0; buffer.len()];
    buffer.read(0, &mut bytes).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    buffer.write(0, &bytes).unwrap();
}

impl Drop for TestHandler {
    fn drop(&mut self) {
        self.device.open.fetch_sub(1, Ordering::SeqCst);
    }
}
