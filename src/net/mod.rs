//! Ethernet frames, offloads, and the networks that adapters are attached to: a tap, a NAT in this process, a switch,
//! none.
//!
//! A NIC has one [`Queue`] of its backend for each channel. A queue accepts or drops a frame at once, and has a
//! descriptor that becomes readable when frames wait. Frames can be unsegmented and have incomplete checksums, which
//! NICs handle. The NIC decides which thread uses which queue; each queue is used by one thread at a time.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::net::frame::{Frame, FrameBuffer};
use ports::SwitchPort;
use switch::uplink::Cable;

pub mod attachment;
pub mod capture;
pub mod counters;
pub mod frame;
pub mod mac;
pub mod none;
pub mod offload;
pub mod open;
pub mod pcap;
pub mod ports;
pub mod rss;
pub mod switch;
pub mod tap;
pub mod user;

/// A backend, as an adapter uses it.
pub struct Backend {
    /// One queue for each channel.
    pub queues: Vec<Box<dyn Queue>>,
    /// Whether frames come from all queues, with each connection on one queue. Otherwise they all come from the first
    /// one.
    pub spreads: bool,
    /// The connection from a switch to its uplink network, which must be kept.
    pub uplink: Option<Arc<Cable>>,
}

/// A queue of a backend, for both directions.
pub trait Queue: Send {
    /// Sends a frame. Returns `false` if there was no room and it was dropped.
    fn send(&mut self, frame: Frame<'_>) -> bool;

    /// Sends a frame that arrived at a switch's port, for backends with per-port limits.
    fn send_from(&mut self, _port: SwitchPort, frame: Frame<'_>) -> bool {
        self.send(frame)
    }

    /// Returns the port at which the last received frame arrived.
    fn received_from(&self) -> SwitchPort {
        SwitchPort::default()
    }

    /// Sends everything that [`send`](Self::send) has held back. Called when no more frames follow at once.
    fn flush(&mut self) {}

    /// Fetches a frame into `frame`. Returns `false` if there is none; then [`readiness`](Self::readiness) becomes
    /// readable when there is.
    fn receive(&mut self, frame: &mut FrameBuffer) -> bool;

    /// Returns a descriptor that is readable when there may be frames, or `None` if there never will be any.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// Returns the number of frames that the backend dropped because they were not fetched, as far as it is known.
    fn dropped(&self) -> u64 {
        0
    }
}
