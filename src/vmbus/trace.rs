//! Control messages and packet headers as readable lines, for `--trace vmbus`.
//!
//! What cannot be decoded is shown as bytes, because a trace is needed most when something is wrong.

use std::fmt;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::packet::PacketHeader;
use super::wire::{
    ChannelReference, GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, InitiateContact,
    MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse, OfferChannel, OpenChannel, OpenResult,
    TlConnectRequest, TlConnectResult, VersionResponse,
};
use crate::engine::TraceKind;
use crate::wire::guid::{Guid, interface};

/// Control messages, and the headers of packets.
pub(crate) const KIND: TraceKind = TraceKind::named("vmbus");

/// The output of a trace. Lines come without a line end, from any thread, possibly under a lock of the bus.
#[derive(Clone)]
pub struct Tracer(Arc<Functions>);

struct Functions {
    is_on: Box<dyn Fn() -> bool + Send + Sync>,
    write: Box<dyn Fn(fmt::Arguments<'_>) + Send + Sync>,
}

impl Tracer {
    /// Creates a tracer that passes each line to `write`.
    pub fn new(write: impl Fn(fmt::Arguments<'_>) + Send + Sync + 'static) -> Self {
        Self::switched(|| true, write)
    }

    /// Creates a tracer that passes each line to `write` while `is_on` returns `true`.
    pub fn switched(
        is_on: impl Fn() -> bool + Send + Sync + 'static,
        write: impl Fn(fmt::Arguments<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Functions { is_on: Box::new(is_on), write: Box::new(write) }))
    }

    /// Returns itself if somebody wants lines now. Callers ask before they decode something.
    pub fn if_on(&self) -> Option<&Self> {
        (self.0.is_on)().then_some(self)
    }

    /// Writes one line.
    pub fn line(&self, line: fmt::Arguments<'_>) {
        (self.0.write)(line);
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tracer")
    }
}

/// A control message of either side, for printing.
#[derive(Clone, Copy, Debug)]
pub struct MessageLine<'a>(pub &'a [u8]);

impl fmt::Display for MessageLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok((MessageHeader { message_type, .. }, body)) = MessageHeader::read_from_prefix(self.0) else {
            return write!(formatter, "no message: {}", Bytes(self.0));
        };
        write!(formatter, "{message_type}")?;
        match self.describe(message_type, body, formatter) {
            Some(result) => result,
            None => write!(formatter, ", unreadable: {}", Bytes(body)),
        }
    }
}

fn read<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(body).ok()
}

impl MessageLine<'_> {
    /// Prints the body. Returns `None` if it cannot be decoded.
    fn describe(&self, message_type: MessageType, body: &[u8], out: &mut fmt::Formatter<'_>) -> Option<fmt::Result> {
        Some(match message_type {
            MessageType::REQUESTOFFERS
            | MessageType::ALLOFFERS_DELIVERED
            | MessageType::UNLOAD
            | MessageType::UNLOAD_RESPONSE => Ok(()),
            MessageType::INITIATE_CONTACT => {
                let (contact, _) = read::<InitiateContact>(body)?;
                write!(out, " version {} to {}", contact.version, contact.target_vp)
            }
            MessageType::VERSION_RESPONSE => match read::<VersionResponse>(body)?.0 {
                VersionResponse { supported: 0, .. } => write!(out, " not supported"),
                response => write!(out, " supported, connection {:#x}", response.connection_id),
            },
            MessageType::OFFERCHANNEL => offer(&read(body)?.0, out),
            MessageType::RESCIND_CHANNELOFFER | MessageType::CLOSECHANNEL | MessageType::RELID_RELEASED => {
                write!(out, " channel {}", read::<ChannelReference>(body)?.0.channel)
            }
            MessageType::OPENCHANNEL => open(&read(body)?.0, out),
            MessageType::OPENCHANNEL_RESULT => {
                let (OpenResult { channel, open_id, status }, _) = read(body)?;
                write!(out, " channel {channel} (open {open_id}): {status:?}")
            }
            MessageType::GPADL_HEADER => {
                let (GpadlHeader { channel, gpadl, range_bytes, range_count }, ranges) = read(body)?;
                let here = ranges.len();
                write!(out, " {gpadl} of channel {channel}: {range_count} ranges in {range_bytes} bytes, {here} here")
            }
            MessageType::GPADL_BODY => {
                let (GpadlBody { gpadl, .. }, ranges) = read(body)?;
                write!(out, " {gpadl}: {} bytes here", ranges.len())
            }
            MessageType::GPADL_CREATED => {
                let (GpadlCreated { channel, gpadl, status }, _) = read(body)?;
                write!(out, " {gpadl} of channel {channel}: {status:?}")
            }
            MessageType::GPADL_TEARDOWN => {
                let (GpadlTeardown { channel, gpadl }, _) = read(body)?;
                write!(out, " {gpadl} of channel {channel}")
            }
            MessageType::GPADL_TORNDOWN => write!(out, " {}", read::<GpadlTorndown>(body)?.0.gpadl),
            MessageType::TL_CONNECT_REQUEST => {
                let (TlConnectRequest { endpoint, service }, _) = read(body)?;
                write!(out, " from {endpoint} to {service}")
            }
            MessageType::TL_CONNECT_RESULT => {
                let (TlConnectResult { endpoint, service, status }, _) = read(body)?;
                write!(out, " from {endpoint} to {service}: {status:?}")
            }
            MessageType::MODIFYCHANNEL => {
                let (ModifyChannel { channel, target_vp }, _) = read(body)?;
                write!(out, " channel {channel} to {target_vp}")
            }
            MessageType::MODIFYCHANNEL_RESPONSE => {
                let (ModifyChannelResponse { channel, status }, _) = read(body)?;
                write!(out, " channel {channel}: {status:?}")
            }
            _ => return None,
        })
    }
}

fn open(request: &OpenChannel, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let OpenChannel { channel, open_id, ring_gpadl, target_vp, downstream_offset, .. } = request;
    write!(out, " channel {channel} (open {open_id}) on GPADL {ring_gpadl} split at page {downstream_offset}, ")?;
    match *target_vp {
        OpenChannel::NO_INTERRUPTS => write!(out, "no interrupts"),
        vp => write!(out, "{vp}"),
    }
}

fn offer(offer: &OfferChannel, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(out, " channel {}: {} {}", offer.channel, Device(offer.interface), offer.instance)?;
    if offer.subchannel_index != 0 {
        write!(out, ", subchannel {}", offer.subchannel_index)?;
    }
    write!(out, ", signals to {}", offer.connection)
}

/// An interface, shown by its name if it is known, else by its GUID.
struct Device(Guid);

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match interface::name(self.0) {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

/// Bytes in hexadecimal, at most as many as fit on a line.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let (shown, rest) = self.0.split_at(self.0.len().min(SHOWN));
        shown.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        if rest.is_empty() { Ok(()) } else { write!(formatter, "… ({} bytes)", self.0.len()) }
    }
}

/// A packet's header, for printing.
#[derive(Clone, Copy, Debug)]
pub struct PacketLine<'a>(pub &'a PacketHeader);

impl fmt::Display for PacketLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.0;
        let payload = header.length().saturating_sub(header.payload_offset());
        write!(formatter, "{:?} packet, transaction {:#x}, {payload} bytes", header.kind, header.transaction_id)?;
        if header.wants_completion() { write!(formatter, ", wants completion") } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
