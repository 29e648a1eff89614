//! The traits that a device implements, and the channel that it gets.
//!
//! A virtualization service provider (VSP) is the host's side of a synthetic device. It describes itself in an
//! [`Offer`]. Each time a guest's driver opens one of its channels, it creates a [`Handler`] for that channel, which
//! exists until the channel is closed. A handler runs on one thread, which sleeps on the channel's eventfd and on what
//! the handler [adds](Port::wake_on), and calls [`service`](Handler::service) each time it wakes.
//!
//! A handler that fails or panics ends only its channel's service. The failure is reported: see
//! [`Machine::events`](crate::machine::Machine::events) and
//! [`Builder::end_on_failure`](crate::Builder::end_on_failure).
//!
//! ```
//! use viridian::vmbus::Guid;
//! use viridian::vmbus::vsp::{Channel, Handler, NewPacket, Offer, ServiceError, Vsp};
//!
//! /// Returns every packet, of up to 4096 bytes, as its own completion.
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

use std::sync::Arc;

#[doc(no_inline)]
pub use serde_json::{Value, json};

pub use super::connection::GpadlTable;
pub use super::gpadl::{Gpadl, RangeError};
pub use super::offer::Offer;
pub use super::packet::{PacketHeader, PacketKind, TransferPagesHeader, TransferRange};
pub use super::port::Port;
pub use super::requests::{Requested, Requests, Unsent};
pub use super::ring::{IncomingRing, NewPacket, OutgoingRing, Packet, RingError, Signal, WriteError};
pub use super::wire::{UserDefined, offer_flags};
pub use crate::device::CommandError;
pub use crate::memory::GuestMemory;
pub use crate::memory::buffer::{BufferError, GuestBuffer};

use super::connection::Opening;
use super::ids::{ChannelId, GpadlId, Version};
use super::ring::Tap;
use super::trace::{PacketLine, Tracer};
use crate::host::limits;

/// A device.
///
/// The machine keeps it among its other devices: see [`Machine::inspect`](crate::Machine::inspect) and
/// [`Machine::command`](crate::Machine::command).
pub trait Vsp: Send {
    /// Returns the device's offer.
    fn offer(&self) -> Offer;

    /// Returns the device's name, which is unique in the machine: lower-case letters, digits, `-` and `.`.
    fn name(&self) -> String {
        let Offer { interface, instance, .. } = self.offer();
        format!("vsp-{interface}-{instance}")
    }

    /// Returns the state of the device, as an object of names and values.
    fn inspect(&self) -> Value {
        Value::Null
    }

    /// Carries out a command of the host.
    ///
    /// # Errors
    /// Returns an error for an unknown command, wrong arguments, or a failure.
    fn command(&mut self, name: &str, _arguments: &Value) -> Result<Value, CommandError> {
        Err(CommandError::unknown(name, &[]))
    }

    /// Returns the device to its state at power-on, because its guest starts again. No channel is open.
    fn reset(&mut self) {}

    /// Opens one of the device's channels for the guest's driver: the primary channel, or a subchannel that the device
    /// [offered](Port::offer_subchannels).
    ///
    /// # Errors
    /// If this returns an error, the channel is not opened, and the driver is notified.
    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError>;
}

/// Serves one open channel. It is dropped when the channel is closed, and must not use guest memory afterwards.
pub trait Handler: Send {
    /// Processes all pending work and returns. Called when the guest has signalled or [`Port::wake`] was called.
    ///
    /// # Errors
    /// Returns an error if the guest violated the protocol. The channel is then not served until the guest has closed
    /// and reopened it.
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError>;

    /// Brings what is under way to an end or to a halt, because the machine pauses. Returns `true` once nothing that the device
    /// has begun uses guest memory; until then it is called again each time that the channel's thread is woken.
    ///
    /// After `true`, no other method is called until [`resume`](Self::resume), or until the handler is dropped because the
    /// machine has ended.
    ///
    /// # Errors
    /// As [`service`](Self::service).
    fn pause(&mut self, _channel: &mut Channel) -> Result<bool, ServiceError> {
        Ok(true)
    }

    /// Ends a pause, or one that had only begun. [`service`](Self::service) is called next.
    fn resume(&mut self) {}

    /// Releases a GPADL that the guest tears down. The handler must not use its pages after it returns.
    fn release_gpadl(&mut self, _gpadl: GpadlId) {}
}

/// The reason why a channel is no longer served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// A ring is corrupt.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A packet could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A packet refers to invalid pages.
    #[error("a packet is refused: {0}")]
    Ranges(#[from] RangeError),
    /// The device's own protocol was violated.
    #[error("{0}")]
    Protocol(String),
    /// The host refused a resource that the channel needs.
    #[error("the host refused a resource: {}{}", .0, limits::remedy(.0))]
    Host(String),
    /// The device's code panicked.
    #[error("the device's own code panicked: {0}")]
    Panicked(String),
}

/// An open channel, for use by its handler.
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
    /// Creates a channel on the rings that the guest provided.
    ///
    /// # Errors
    /// Returns an error if an index of a ring is invalid.
    pub(crate) fn new(
        opening: Opening,
        subchannel_index: u16,
        memory: GuestMemory,
        port: Arc<dyn Port>,
    ) -> Result<Self, RingError> {
        let Opening { channel, incoming, outgoing, user_defined, gpadls, version, target: _ } = opening;
        let (incoming, outgoing) = (IncomingRing::new(incoming)?, OutgoingRing::new(outgoing)?);
        Ok(Self { id: channel, subchannel_index, version, user_defined, incoming, outgoing, gpadls, memory, port })
    }

    /// Traces the header of every packet from now on.
    pub(crate) fn trace(&mut self, tracer: &Tracer) {
        let tap = |side: &'static str| {
            let (tracer, id) = (tracer.clone(), self.id);
            Tap::new(move |header| {
                if let Some(tracer) = tracer.if_on() {
                    tracer.line(format_args!("channel {id} {side}: {}", PacketLine(header)));
                }
            })
        };
        self.incoming.tap(tap("guest"));
        self.outgoing.tap(tap("host"));
    }

    /// Returns the channel's id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Returns the index of the subchannel, 0 for the primary channel.
    pub fn subchannel_index(&self) -> u16 {
        self.subchannel_index
    }

    /// Returns the version that guest and host use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the data that the driver passed when it opened the channel.
    pub fn user_defined(&self) -> &UserDefined {
        &self.user_defined
    }

    /// Returns guest memory, for [`Gpadl::from_packet`].
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Returns the channel's port, for use by other threads that complete I/O.
    pub fn port(&self) -> &Arc<dyn Port> {
        &self.port
    }

    /// Returns a GPADL that the guest has created on this channel. Keep it: a second look-up could return a different
    /// one.
    pub fn gpadl(&self, gpadl: GpadlId) -> Option<Arc<Gpadl>> {
        self.gpadls.get(gpadl)
    }

    /// Returns the table of GPADLs, for the closure of [`each_packet`](Self::each_packet).
    pub fn gpadls(&self) -> &Arc<GpadlTable> {
        &self.gpadls
    }

    /// Returns both rings, for handlers that need more than [`each_packet`](Self::each_packet). Such a handler must
    /// [send](Self::signal) signals itself.
    pub fn rings(&mut self) -> (&mut IncomingRing, &mut OutgoingRing) {
        (&mut self.incoming, &mut self.outgoing)
    }

    /// Signals the guest if that is necessary.
    pub fn signal(&self, signal: Signal) {
        if signal.is_needed() {
            self.port.signal_guest();
        }
    }

    /// Makes the packets in the outgoing ring visible to the guest.
    pub fn publish(&mut self) {
        let signal = self.outgoing.publish();
        self.signal(signal);
    }

    /// Copies each packet into `buffer` and passes it to `answer`, until there are no more packets, or no room for a
    /// reply with `room` bytes of payload. In the latter case, call it again when the guest signals. (A guest that does
    /// not [evaluate](IncomingRing::guest_minds_room) the request must be polled.) Signals once for all packets that
    /// were processed together.
    ///
    /// # Errors
    /// Returns an error if a ring is corrupt, or the error of `answer`. Packets that were written before are visible to
    /// the guest.
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
                Stopped::Early => return Ok(()),
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
            if self.port.should_return() {
                return Ok(Stopped::Early);
            }
            match self.incoming.receive(buffer)? {
                Some(packet) => answer(&mut self.outgoing, packet)?,
                None => return Ok(Stopped::Empty),
            }
        }
        Ok(Stopped::Full)
    }
}

/// The reason why no more packets of a channel were read.
enum Stopped {
    Empty,
    Full,
    Early,
}

#[cfg(test)]
#[path = "vsp_tests.rs"]
mod tests;
