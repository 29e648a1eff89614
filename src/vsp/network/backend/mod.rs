//! Where frames go to and come from.
//!
//! A NIC has as many [`Queue`]s into its backend as it has channels. A queue takes a frame or drops it, at once; and it has a
//! descriptor that turns readable when frames wait. Frames may come uncut and with checksums left open: NICs see to that.
//! Which thread uses which queue is the NIC's choice; each queue is used by one at a time.

use std::os::fd::BorrowedFd;

use super::frame::{Frame, FrameBuffer};
use ports::SwitchPort;

pub mod capture;
pub mod none;
pub mod open;
pub mod ports;
pub mod switch;
pub mod tap;
pub mod user;

/// A way into a backend and out of it.
pub trait Queue: Send {
    /// Sends a frame. False if there was no room and it was dropped.
    fn send(&mut self, frame: Frame<'_>) -> bool;

    /// Sends a frame that came in by a switch's port. For backends that give each port its share.
    fn send_from(&mut self, _port: SwitchPort, frame: Frame<'_>) -> bool {
        self.send(frame)
    }

    /// The port that the frame came in by which was received last.
    fn received_from(&self) -> SwitchPort {
        SwitchPort::default()
    }

    /// Has everything go out that [`send`](Self::send) may have held back. Called when no more frames follow at once.
    fn flush(&mut self) {}

    /// Fetches a frame into `frame`. False if none waits; then [`readiness`](Self::readiness) turns readable when one does.
    fn receive(&mut self, frame: &mut FrameBuffer) -> bool;

    /// Turns readable when there may be frames. None if there never will be any.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// Frames that the backend dropped because nobody fetched them, as far as it knows.
    fn dropped(&self) -> u64 {
        0
    }
}
