//! A queue whose frames are captured on the way.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::Queue;
use super::ports::SwitchPort;
use crate::vsp::network::frame::{Frame, FrameBuffer};
use crate::vsp::network::pcap::{Direction, Writer};

/// The capture that all queues of a NIC write. None when writing has failed: the capture ends there, the NIC goes on.
pub type SharedCapture = Arc<Mutex<Option<Writer<BufWriter<File>>>>>;

/// See the module's description.
pub struct Captured<Q> {
    queue: Q,
    capture: SharedCapture,
}

impl<Q: Queue> Captured<Q> {
    /// Captures what goes through `queue`.
    pub fn new(queue: Q, capture: SharedCapture) -> Self {
        Self { queue, capture }
    }

    fn write(&self, write: impl FnOnce(&mut Writer<BufWriter<File>>) -> io::Result<()>) {
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = capture.as_mut().map(write) {
            crate::limited::warn!("the capture of a network adapter ends here: {error}");
            *capture = None;
        }
    }
}

impl<Q: Queue> Queue for Captured<Q> {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        self.write(|capture| capture.add(SystemTime::now(), Direction::Outbound, frame));
        self.queue.send(frame)
    }

    fn send_from(&mut self, port: SwitchPort, frame: Frame<'_>) -> bool {
        self.write(|capture| capture.add(SystemTime::now(), Direction::Outbound, frame));
        self.queue.send_from(port, frame)
    }

    fn received_from(&self) -> SwitchPort {
        self.queue.received_from()
    }

    fn flush(&mut self) {
        self.write(Writer::flush);
        self.queue.flush();
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        let received = self.queue.receive(frame);
        match received {
            true => self.write(|capture| capture.add(SystemTime::now(), Direction::Inbound, frame.frame())),
            // Nothing more follows at once, so it is a good time to let readers of the file catch up.
            false => self.write(Writer::flush),
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
