//! A network in this process: NAT, DHCP and DNS for guests, without privileges or configuration of the host.
//!
//! A guest finds a router at 10.0.2.2 and a name server at 10.0.2.3, and gets 10.0.2.15 for itself. Its packets to
//! other addresses leave through ordinary sockets of this process: each TCP connection of the guest ends here and
//! continues as one of the host; each UDP peer and each ping has a socket of its own. The router's address represents
//! the host's loopback. IPv6 works the same on fd15:5d::/64.
//!
//! - [`stack`]: processes frames of one guest or several. Deterministic apart from the host's sockets.
//! - [`tcp`], [`datagram`], [`dns`]: the flows. [`dhcp`] with [`leases`], [`guests`], [`router`]: the router's own
//!   services.
//! - [`fragments`]: reassembly of guests' packets; [`packet`]: the network's own packets, fragmented as the guest
//!   requires.
//! - [`share`], [`crate::host::descriptors`]: selects the flow that must end if there is no room for another, in the network and in the
//!   process.
//! - [`address`]: the network's addresses and their meaning; [`forward`], `inbound`: ports of the host that lead to a
//!   guest.
//! - [`outbox`]: frames for the guest; [`poll`]: readiness and timers in one descriptor.
//!
//! Everything is bounded: flows by number, buffers by size, silence by time. A guest that does not read fills its own
//! buffers, and then its peer's. Packets other than TCP are dropped and counted if there is no room.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::Queue;
use super::ports::Ports;
pub use super::ports::SwitchPort;
#[cfg(test)]
use super::ports::USUAL_MTU;
use crate::host::descriptors::Budget;
use crate::host::lock::Mutex;
use crate::net::frame::{Frame, FrameBuffer};
use address::Network;
use forward::Forward;
use stack::Stack;

pub mod address;
pub mod datagram;
pub mod dhcp;
pub mod dns;
pub mod forward;
pub mod fragments;
pub mod guests;
mod inbound;
pub mod leases;
pub mod link;
mod lookups;
mod outbound;
pub mod outbox;
mod pace;
pub mod packet;
pub mod poll;
pub mod resolver;
mod room;
pub mod router;
pub mod share;
pub mod stack;
mod table;
pub mod tcp;

/// The reason why a network cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A port of the host is not available.
    #[error("cannot listen on {address} for fwd={forward}: {source}{advice}")]
    Listen {
        /// The forward.
        forward: Forward,
        /// The address and port.
        address: std::net::SocketAddr,
        /// The error of the host.
        source: io::Error,
        /// A remedy.
        advice: &'static str,
    },
    /// The host lacks descriptors.
    #[error("cannot set up a network: {0}; raise the limit on open files (ulimit -n)")]
    Poll(#[from] io::Error),
}

/// A queue of one NIC into its own network.
///
/// All queues send. Frames for the guest come only from the first one, in their order.
#[derive(Clone)]
pub struct User {
    stack: Arc<Mutex<Stack>>,
    poll: Arc<poll::Poll>,
    first: bool,
}

impl User {
    /// Creates a network and `queues` queues. The forwarded ports are bound when this returns.
    ///
    /// # Errors
    /// Returns an [`UserError`].
    #[cfg(test)]
    pub fn open(network: Network, forwards: &[Forward], queues: u16) -> Result<Vec<Self>, UserError> {
        Self::open_with_mtu(network, forwards, queues, USUAL_MTU)
    }

    /// Creates a network whose guest accepts IP packets of up to `mtu` bytes.
    ///
    /// # Errors
    /// Returns an [`UserError`].
    pub fn open_with_mtu(
        network: Network,
        forwards: &[Forward],
        queues: u16,
        mtu: u16,
    ) -> Result<Vec<Self>, UserError> {
        let first = Self::behind(network, forwards, Arc::new(Ports::with_mtu(mtu)), SwitchPort::default())?;
        let others = (1..queues).map(|_| Self { first: false, ..first.clone() }).collect::<Vec<_>>();
        Ok(std::iter::once(first).chain(others).collect())
    }

    /// Creates a network behind a switch with those ports. Forwarded ports lead to the guest at `target`.
    ///
    /// # Errors
    /// Returns an [`UserError`].
    pub fn behind(
        network: Network,
        forwards: &[Forward],
        switch: Arc<Ports>,
        target: SwitchPort,
    ) -> Result<Self, UserError> {
        let stack = Stack::behind(network, forwards, switch, target, &Budget::of_process(), Instant::now())?;
        let poll = stack.poll_handle();
        Ok(Self { stack: Arc::new(Mutex::new(stack)), poll, first: true })
    }
}

impl Queue for User {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        self.stack.lock().receive(frame, Instant::now())
    }

    fn send_from(&mut self, port: SwitchPort, frame: Frame<'_>) -> bool {
        self.stack.lock().receive_from(port, frame, Instant::now())
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        self.first && self.stack.lock().fetch(frame, Instant::now())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.first.then(|| self.poll.as_fd())
    }

    fn dropped(&self) -> u64 {
        self.stack.lock().dropped()
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
