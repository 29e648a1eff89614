//! A cable between two queues, such as a switch's port and a network in this process.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::super::Queue;
use crate::host::event::EventFd;
use crate::net::frame::FrameBuffer;

/// Maximum number of frames in one direction before the other direction gets its turn.
///
/// A network behind a switch sends one or two replies to each frame. It must be able to send all of them in its turn.
/// Otherwise, guests with many requests would fill it with replies to themselves, and leave no room for others.
const TURN: usize = 16;
const TURN_OF_OTHER: usize = 256;

/// Transfers frames in both directions, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Cable {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Connects two queues.
    ///
    /// # Errors
    /// Returns an error if the host lacks a thread or an eventfd.
    pub fn connect(mut one: impl Queue + 'static, mut other: impl Queue + 'static) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let watched = stop.clone();
        let run = move || {
            let mut frame = FrameBuffer::default();
            while wait(&watched, &one, &other) {
                while carry(&mut one, &mut other, &mut frame, TURN)
                    | carry(&mut other, &mut one, &mut frame, TURN_OF_OTHER)
                {
                    if watched.is_signalled_within(Some(Duration::ZERO)).unwrap_or(false) {
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("uplink".to_string()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until one of the queues has frames. Returns `false` if the thread must stop.
fn wait(stop: &EventFd, one: &impl Queue, other: &impl Queue) -> bool {
    let mut descriptors = vec![PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
    let queues = [one.readiness(), other.readiness()];
    descriptors.extend(queues.into_iter().flatten().map(|queue| PollFd::from_borrowed_fd(queue, PollFlags::IN)));
    match poll(&mut descriptors, None) {
        Ok(_) => descriptors[0].revents().is_empty(),
        Err(error) => error == rustix::io::Errno::INTR,
    }
}

/// Returns `true` if there may be more.
fn carry(from: &mut impl Queue, to: &mut impl Queue, frame: &mut FrameBuffer, turn: usize) -> bool {
    let mut carried = 0;
    while carried < turn && from.receive(frame) {
        to.send_from(from.received_from(), frame.frame());
        carried += 1;
    }
    if carried > 0 {
        to.flush();
    }
    carried == turn
}
