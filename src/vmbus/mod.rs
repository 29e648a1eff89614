//! VMBus, the transport between the parent partition and its children's drivers.
//!
//! A *channel* is Hyper-V's counterpart of a virtqueue: a pair of rings in guest memory, one for each direction.
//! Packets in the rings carry requests and replies; bulk data is in guest pages that packets refer to. The guest
//! signals the host by a hypercall, the host signals the guest by an event flag and an interrupt.
//!
//! Channels are set up by *control messages* over the SynIC. The host *offers* a channel. The guest describes pages in
//! a *GPADL* and *opens* the channel on them. From then on, both communicate through the rings.
//!
//! Everything except `bus` is a pure state machine; the bus has the threads, eventfds and hypercalls.
//!
//! - `bus`: a machine's bus, on which devices are offered.
//! - `connection`: the control protocol of one guest, from version negotiation to unload.
//! - `wire`, `message`, `packet`, `ids`: the formats of messages and packets.
//! - `gpadl`: lists of guest pages.
//! - `ring`: the rings.
//! - `requests`: from the host to the handler of a channel.
//! - [`vsp`]: the traits that a device implements, and its channel. `offer`, `port`: what it offers, and what the bus
//!   does for it.
//! - `trace`: messages and packets as readable lines.

pub(crate) mod bus;
pub(crate) mod connection;
pub(crate) mod gpadl;
pub(crate) mod ids;
pub(crate) mod message;
mod offer;
pub(crate) mod packet;
mod port;
mod requests;
pub(crate) mod ring;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod trace;
pub mod vsp;
pub(crate) mod wire;

pub use crate::wire::guid::{Guid, interface};
pub use bus::{ChannelFailure, DeviceId, VmBus};
pub use connection::OfferError;
pub use ids::{ChannelId, GpadlId, Version};
