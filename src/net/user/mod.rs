//! A network in this process: NAT, DHCP and DNS for guests, without privileges and without any set-up on the host.
//!
//! A guest finds a router at 10.0.2.2, a name server at 10.0.2.3, and gets 10.0.2.15 for itself. What it sends to the rest of the world leaves
//! through ordinary sockets of this process: each TCP connection of the guest ends here and goes on as one of the host's; each
//! UDP peer and each ping has a socket of its own. The router's address stands for the host's loopback. IPv6 is the same on fd15:5d::/64.
//!
//! - [`stack`]: takes frames and gives frames, one guest's or several's. Deterministic but for what the host's sockets do.
//! - [`tcp`], [`datagram`], [`dns`]: the flows. [`dhcp`] with [`leases`], [`guests`], [`router`]: what a router does by itself.
//! - [`fragments`]: packets that guests sent in parts; [`packet`]: those of the network's own, cut to what the guest takes.
//! - [`share`], [`budget`]: who gives up a flow when there is no room for another, within the network and within the process.
//! - [`address`]: the network's addresses and what they stand for; [`forward`], `inbound`: ports of the host that lead to a guest.
//! - [`outbox`]: frames for the guest; [`poll`]: readiness and timers in one descriptor.
//!
//! Everything is bounded: flows by number, buffers by size, silence by time. A guest that does not read fills its own buffers, and then its
//! peer's. What is not TCP is dropped and counted when there is no room.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Queue;
pub use super::ports::SwitchPort;
use super::ports::{Ports, USUAL_MTU};
use crate::net::frame::{Frame, FrameBuffer};
use address::Network;
use budget::Budget;
use forward::Forward;
use stack::Stack;

pub mod address;
pub mod budget;
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
pub mod packet;
pub mod poll;
pub mod resolver;
mod room;
pub mod router;
pub mod share;
pub mod stack;
mod table;
pub mod tcp;

/// Why there can be no network.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A port of the host cannot be had.
    #[error("cannot listen on {address} for fwd={forward}: {source}{advice}")]
    Listen {
        /// What was asked for.
        forward: Forward,
        /// Where.
        address: std::net::SocketAddr,
        /// The host's answer.
        source: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// The host has no descriptors for us.
    #[error("cannot set up a network: {0}; raise the limit on open files (ulimit -n)")]
    Poll(#[from] io::Error),
}

/// One NIC's way into its own network.
///
/// All queues send; frames for the guest come out of the first one, in the order in which they are to be received.
#[derive(Clone)]
pub struct User {
    stack: Arc<Mutex<Stack>>,
    poll: Arc<poll::Poll>,
    first: bool,
}

impl User {
    /// Makes a network and `queues` ways into it. The forwarded ports are bound when this returns.
    ///
    /// # Errors
    /// Returns a [`UserError`].
    pub fn open(network: Network, forwards: &[Forward], queues: u16) -> Result<Vec<Self>, UserError> {
        Self::open_with_mtu(network, forwards, queues, USUAL_MTU)
    }

    /// Makes a network whose guest takes IP packets of up to `mtu` bytes.
    ///
    /// # Errors
    /// Returns a [`UserError`].
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

    /// Makes a network behind a switch with those ports. What arrives at forwarded ports goes to the guest at `target`.
    ///
    /// # Errors
    /// Returns a [`UserError`].
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

    fn lock(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue for User {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        self.lock().receive(frame, Instant::now())
    }

    fn send_from(&mut self, port: SwitchPort, frame: Frame<'_>) -> bool {
        self.lock().receive_from(port, frame, Instant::now())
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        self.first && self.lock().fetch(frame, Instant::now())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.first.then(|| self.poll.as_fd())
    }

    fn dropped(&self) -> u64 {
        self.lock().dropped()
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
