//! VMBus, the transport between the parent partition and its children's drivers.
//!
//! A *channel* is Hyper-V's virtqueue: a pair of rings in guest memory, one for each direction. Packets in
//! the rings carry requests and answers; bulk data lies in guest pages that packets name. The guest signals
//! the host by a hypercall, the host the guest by an event flag and an interrupt.
//!
//! Channels come and go by *control messages* over the SynIC. The host *offers* a channel; the guest describes
//! pages to it in a *GPADL* and *opens* the channel on them; from then on the two speak through the rings.
//!
//! All of it but [`bus`] is a pure state machine; the bus has the threads, eventfds and hypercalls.
//!
//! - [`bus`]: a machine's bus, on which devices are offered.
//! - [`connection`]: the control protocol of one guest, from version negotiation to unload.
//! - [`wire`], [`message`], [`packet`], [`ids`]: what goes over the wire.
//! - [`gpadl`]: pages that the guest describes.
//! - [`ring`]: the rings themselves.
//! - [`vsp`]: what a device implements, and the channel that it gets.
//! - [`trace`]: any message or packet as one readable line.

pub mod bus;
pub mod connection;
pub mod gpadl;
pub mod ids;
pub mod message;
pub mod packet;
pub mod ring;
#[cfg(test)]
pub(crate) mod testing;
pub mod trace;
pub mod vsp;
pub mod wire;
