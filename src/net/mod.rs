//! Ethernet frames, offloads, and the networks that adapters are plugged into: a tap, a NAT in this process, a switch, nothing.
//!
//! A NIC has as many [`Queue`]s into its backend as it has channels. A queue takes a frame or drops it, at once; and it has a
//! descriptor that turns readable when frames wait. Frames may come uncut and with checksums left open: NICs see to that.
//! Which thread uses which queue is the NIC's choice; each queue is used by one at a time.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::net::frame::{Frame, FrameBuffer};
use ports::SwitchPort;
use switch::uplink::Cable;

pub mod attachment;
pub mod capture;
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

/// A backend as an adapter uses it.
pub struct Backend {
    /// A queue for each channel.
    pub queues: Vec<Box<dyn Queue>>,
    /// Whether frames come out of all queues, a connection's always out of the same. If not, they all come out of the first one.
    pub spreads: bool,
    /// What leads from a switch to the rest of the world, to be kept.
    pub uplink: Option<Arc<Cable>>,
}

/// A way into a backend and out of it.
pub trait Queue: Send {
    /// Sends a frame. Returns `false` if there was no room and it was dropped.
    fn send(&mut self, frame: Frame<'_>) -> bool;

    /// Sends a frame that came in by a switch's port. For backends that give each port its share.
    fn send_from(&mut self, _port: SwitchPort, frame: Frame<'_>) -> bool {
        self.send(frame)
    }

    /// Returns the port that the frame came in by which was received last.
    fn received_from(&self) -> SwitchPort {
        SwitchPort::default()
    }

    /// Has everything go out that [`send`](Self::send) may have held back. Called when no more frames follow at once.
    fn flush(&mut self) {}

    /// Fetches a frame into `frame`. Returns `false` if none waits; then [`readiness`](Self::readiness) turns readable when one does.
    fn receive(&mut self, frame: &mut FrameBuffer) -> bool;

    /// Turns readable when there may be frames. Returns `None` if there never will be any.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// Frames that the backend dropped because nobody fetched them, as far as it knows.
    fn dropped(&self) -> u64 {
        0
    }
}
