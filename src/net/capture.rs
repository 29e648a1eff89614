//! A queue whose frames are captured.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::SystemTime;

use super::Queue;
use super::ports::SwitchPort;
use crate::host::lock::{Mutex, MutexGuard};
use crate::net::frame::{Frame, FrameBuffer};
use crate::net::pcap::{Capture, Direction};

/// The capture to which all queues of a NIC write.
pub type SharedCapture = Arc<Mutex<Capture>>;

/// A captured queue; see the module's description.
pub struct Captured<Q> {
    queue: Q,
    capture: SharedCapture,
}

impl<Q: Queue> Captured<Q> {
    /// Captures the frames of `queue`.
    pub fn new(queue: Q, capture: SharedCapture) -> Self {
        Self { queue, capture }
    }

    fn capture(&self) -> MutexGuard<'_, Capture> {
        self.capture.lock()
    }
}

impl<Q: Queue> Queue for Captured<Q> {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        self.capture().add(SystemTime::now(), Direction::Outbound, frame);
        self.queue.send(frame)
    }

    fn send_from(&mut self, port: SwitchPort, frame: Frame<'_>) -> bool {
        self.capture().add(SystemTime::now(), Direction::Outbound, frame);
        self.queue.send_from(port, frame)
    }

    fn received_from(&self) -> SwitchPort {
        self.queue.received_from()
    }

    fn flush(&mut self) {
        self.capture().flush();
        self.queue.flush();
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        let received = self.queue.receive(frame);
        match received {
            true => self.capture().add(SystemTime::now(), Direction::Inbound, frame.frame()),
            // No more frames follow at once, so readers of the file can catch up.
            false => self.capture().flush(),
        }
        received
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.queue.readiness()
    }

    fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

impl Queue for Box<dyn Queue> {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        (**self).send(frame)
    }

    fn send_from(&mut self, port: SwitchPort, frame: Frame<'_>) -> bool {
        (**self).send_from(port, frame)
    }

    fn received_from(&self) -> SwitchPort {
        (**self).received_from()
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        (**self).receive(frame)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        (**self).readiness()
    }

    fn dropped(&self) -> u64 {
        (**self).dropped()
    }
}
