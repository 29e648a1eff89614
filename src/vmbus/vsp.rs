//! What a device implements, and the channel that it is served through.
//!
//! A virtualization service provider (VSP) is the host's end of a synthetic device. It describes itself in an [`Offer`]; each
//! time that a guest's driver opens a channel of it, it makes a [`Handler`] for that channel, which lives until the channel
//! is closed. A handler runs on one thread, which sleeps on the channel's eventfd, and on whatever the handler
//! [asks it to](Port::wake_on), and calls [`service`](Handler::service) each time it wakes.
//!
//! A handler that fails or panics ends its channel's service and nothing else. Who runs the machine is told: see
//! [`Machine::events`](crate::machine::Machine::events) and
//! [`Builder::end_on_failure`](crate::machine::builder::Builder::end_on_failure).
//!
//! ```
//! use viridian::wire::guid::Guid;
//! use viridian::vmbus::ring::NewPacket;
//! use viridian::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
//!
//! /// Sends every packet, of up to 4096 bytes, back as the completion of itself.
//! struct Echo;
//!
//! struct EchoChannel(Vec<u8>);
//!
//! impl Vsp for Echo {
//!     fn offer(&self) -> Offer {
//!         Offer::new(Guid::new(0x6563686f << 96), Guid::new(1))
//!     }
//!
//!     fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
//!         Ok(Box::new(EchoChannel(Vec::new())))
//!     }
//! }
//!
//! impl Handler for EchoChannel {
//!     fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
//!         channel.each_packet(&mut self.0, 4096, |outgoing, packet| {
//!             Ok(outgoing.write(&NewPacket::completion(packet.header.transaction_id, &[packet.payload]))?)
//!         })
//!     }
//! }
//! ```

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::connection::{GpadlTable, Opening};
use super::gpadl::{Gpadl, RangeError};
use super::ids::{ChannelId, GpadlId, Version};
use super::ring::{IncomingRing, NewPacket, OutgoingRing, Packet, RingError, Signal, Tap, WriteError};
use super::trace::{PacketLine, Tracer};
use super::wire::{UserDefined, offer_flags};
use crate::memory::GuestMemory;
use crate::wire::guid::Guid;

/// What the guest is told of a channel before it opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What kind of device: see [`interface`](crate::wire::guid::interface).
    pub interface: Guid,
    /// Which one of its kind. No two devices of a machine have the same.
    pub instance: Guid,
    /// 0 for the primary channel, which every device has.
    pub subchannel_index: u16,
    /// See [`offer_flags`].
    pub flags: u16,
    /// The MMIO space that the device wants, in MiB.
    pub mmio_megabytes: u16,
    /// Bytes that device and driver agree about.
    pub user_defined: UserDefined,
}

impl Offer {
    /// Creates the primary channel of an ordinary device.
    pub fn new(interface: Guid, instance: Guid) -> Self {
        let flags = offer_flags::ENUMERATE_DEVICE_INTERFACE;
        Self {
            interface,
            instance,
            subchannel_index: 0,
            flags,
            mmio_megabytes: 0,
            user_defined: UserDefined::default(),
        }
    }

    /// Returns a channel through which pipe messages go: each payload starts with a pipe header, as keyboard and mouse have it.
    pub fn pipe(interface: Guid, instance: Guid) -> Self {
        const PIPE_MODE_MESSAGE: u8 = 4;
        let mut offer = Self::new(interface, instance);
        offer.flags |= offer_flags::NAMED_PIPE_MODE;
        offer.user_defined.0[0] = PIPE_MODE_MESSAGE;
        offer
    }

    /// Returns `true` if it is of the device with these GUIDs.
    pub fn is_of(&self, interface: Guid, instance: Guid) -> bool {
        self.interface == interface && self.instance == instance
    }

    /// Returns the same device's channel number `index`.
    pub fn subchannel(&self, index: u16) -> Self {
        Self { subchannel_index: index, ..self.clone() }
    }
}

/// A device.
pub trait Vsp: Send {
    /// Returns what the guest is told.
    fn offer(&self) -> Offer;

    /// A guest's driver opens one of the device's channels: the primary, or a subchannel that the device
    /// [asked for](Port::offer_subchannels).
    ///
    /// # Errors
    /// The channel does not open, and the driver is told so.
    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError>;
}

/// What serves one open channel. Dropped when the channel is closed: by then it must use no guest memory any more.
pub trait Handler: Send {
    /// Does what there is to do, and returns when there is nothing left: the guest has signalled, or [`Port::wake`] was called.
    ///
    /// # Errors
    /// The guest broke the rules. The channel is served no more until the guest has closed and opened it.
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError>;

    /// The guest wants the pages of a GPADL back; having returned, the handler uses them no more.
    fn release_gpadl(&mut self, _gpadl: GpadlId) {}
}

/// Why a channel is served no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// A ring is broken.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A packet could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A packet names pages that make no sense.
    #[error("a packet is refused: {0}")]
    Ranges(#[from] RangeError),
    /// The device's own protocol was broken.
    #[error("{0}")]
    Protocol(String),
    /// The host does not do what the channel needs.
    #[error("the host refuses what it takes: {0}")]
    Host(String),
    /// The device has a defect.
    #[error("the device's own code panicked: {0}")]
    Panicked(String),
}

/// What a channel's surroundings do for it. Any thread may call.
pub trait Port: Send + Sync {
    /// Interrupts the guest.
    fn signal_guest(&self);

    /// Has the handler's thread call [`Handler::service`] soon, for instance because I/O has ended.
    fn wake(&self);

    /// Returns an eventfd that does what [`wake`](Self::wake) does when it is signalled, for the kernel to signal. Without one,
    /// devices whose I/O the kernel ends must use threads of their own.
    fn doorbell(&self) -> Option<OwnedFd> {
        None
    }

    /// Has the handler's thread call [`Handler::service`] once `source` is readable: at once if it is already, and not again before this is
    /// called again. The source must not be duplicated; it is forgotten when it is closed.
    ///
    /// # Errors
    /// The host has no descriptors for it, or `source` is nothing that one can wait for.
    fn wake_on(&self, _source: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns `true` if the channel is about to be closed, so that [`Handler::service`] should return though there is more to do.
    fn is_closing(&self) -> bool {
        false
    }

    /// Returns `true` once the guest is gone for good, with its memory: its machine has ended, or starts again with another.
    /// A handler that is dropped then need not wait for what still uses that memory.
    fn is_guest_gone(&self) -> bool {
        false
    }

    /// Offers the guest subchannels 1 to `count` of this device, no more than there are VPs. The primary channel has to be
    /// open: call it from [`Handler::service`]. They go when the primary channel is closed.
    fn offer_subchannels(&self, count: u16);
}

/// An open channel, as a handler sees it.
pub struct Channel {
    id: ChannelId,
    subchannel_index: u16,
    version: Version,
    user_defined: UserDefined,
    incoming: IncomingRing,
    outgoing: OutgoingRing,
    gpadls: Arc<GpadlTable>,
    memory: GuestMemory,
    port: Arc<dyn Port>,
}

impl Channel {
    /// Takes up the rings of a channel that the guest opens.
    ///
    /// # Errors
    /// Rings whose indexes point nowhere.
    pub fn new(
        opening: Opening,
        subchannel_index: u16,
        memory: GuestMemory,
        port: Arc<dyn Port>,
    ) -> Result<Self, RingError> {
        let Opening { channel, incoming, outgoing, user_defined, gpadls, version, target: _ } = opening;
        let (incoming, outgoing) = (IncomingRing::new(incoming)?, OutgoingRing::new(outgoing)?);
        Ok(Self { id: channel, subchannel_index, version, user_defined, incoming, outgoing, gpadls, memory, port })
    }

    /// Has the header of every packet traced from now on.
    pub fn trace(&mut self, tracer: &Tracer) {
        let tap = |side: &'static str| {
            let (tracer, id) = (tracer.clone(), self.id);
            Tap::new(move |header| tracer.line(format_args!("channel {id} {side}: {}", PacketLine(header))))
        };
        self.incoming.tap(tap("guest"));
        self.outgoing.tap(tap("host"));
    }

    /// Returns the channel's id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// 0 for the primary channel.
    pub fn subchannel_index(&self) -> u16 {
        self.subchannel_index
    }

    /// Returns what guest and host speak.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns what the driver had to say when it opened the channel.
    pub fn user_defined(&self) -> &UserDefined {
        &self.user_defined
    }

    /// Guest memory, to read GPA-direct packets with ([`Gpadl::from_packet`]).
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Returns the channel's surroundings, to be kept by whoever ends I/O on other threads.
    pub fn port(&self) -> &Arc<dyn Port> {
        &self.port
    }

    /// Returns a GPADL that the guest has made on this channel. Keep it, and look nothing up twice that was checked once.
    pub fn gpadl(&self, gpadl: GpadlId) -> Option<Arc<Gpadl>> {
        self.gpadls.get(gpadl)
    }

    /// Returns all of them, for [`each_packet`](Self::each_packet)'s closure.
    pub fn gpadls(&self) -> &Arc<GpadlTable> {
        &self.gpadls
    }

    /// Both rings, for handlers that want more than [`each_packet`](Self::each_packet) does. Signals are then theirs to
    /// [send](Self::signal).
    pub fn rings(&mut self) -> (&mut IncomingRing, &mut OutgoingRing) {
        (&mut self.incoming, &mut self.outgoing)
    }

    /// Signals the guest if that is needed.
    pub fn signal(&self, signal: Signal) {
        if signal.is_needed() {
            self.port.signal_guest();
        }
    }

    /// Shows the guest the packets that were written to the outgoing ring.
    pub fn publish(&mut self) {
        let signal = self.outgoing.publish();
        self.signal(signal);
    }

    /// Copies each packet that is there into `buffer` and hands it to `answer`, until there are no more, or no room for an answer of
    /// `room` bytes of payload; then it is to be called again when the guest signals that there is. (A guest that does not
    /// [mind](IncomingRing::guest_minds_room) has to be polled.) Signals once for all packets that were found together.
    ///
    /// # Errors
    /// A broken ring, or what `answer` says; then the guest has been shown all that was written before.
    pub fn each_packet(
        &mut self,
        buffer: &mut Vec<u8>,
        room: usize,
        mut answer: impl FnMut(&mut OutgoingRing, Packet<'_>) -> Result<(), ServiceError>,
    ) -> Result<(), ServiceError> {
        let room = NewPacket::space(room);
        loop {
            self.incoming.mask();
            let result = self.answer_packets(buffer, room, &mut answer);
            let (freed, shown) = (self.incoming.publish(), self.outgoing.publish());
            self.signal(if freed.is_needed() { freed } else { shown });
            match result? {
                Stopped::Full => {
                    let (has_room, signal) = self.outgoing.wait_for_room(room)?;
                    self.signal(signal);
                    if !has_room {
                        return Ok(());
                    }
                }
                Stopped::Empty if !self.incoming.unmask()? => return Ok(()),
                Stopped::Empty => {}
                Stopped::Closing => return Ok(()),
            }
        }
    }

    fn answer_packets(
        &mut self,
        buffer: &mut Vec<u8>,
        room: u32,
        answer: &mut impl FnMut(&mut OutgoingRing, Packet<'_>) -> Result<(), ServiceError>,
    ) -> Result<Stopped, ServiceError> {
        while self.outgoing.has_room(room)? {
            if self.port.is_closing() {
                return Ok(Stopped::Closing);
            }
            match self.incoming.receive(buffer)? {
                Some(packet) => answer(&mut self.outgoing, packet)?,
                None => return Ok(Stopped::Empty),
            }
        }
        Ok(Stopped::Full)
    }
}

/// Why a channel's packets were read no further.
enum Stopped {
    Empty,
    Full,
    Closing,
}

#[cfg(test)]
#[path = "vsp_tests.rs"]
mod tests;
