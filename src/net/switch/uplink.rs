//! A cable between two queues, such as a switch's port and a network in this process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::super::Queue;
use crate::net::frame::FrameBuffer;

/// Maximum number of frames in one direction before the other direction gets its turn.
///
/// A network behind a switch sends one or two replies to each frame. It must be able to send all of them in its turn.
/// Otherwise, guests with many requests would fill it with replies to themselves, and leave no room for others.
const TURN: usize = 64;
const TURN_OF_OTHER: usize = 256;

/// Transfers frames in both directions, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Cable {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Connects two queues.
    ///
    /// # Errors
    /// Returns an error if the host lacks a thread or an eventfd.
    pub fn connect(mut one: impl Queue + 'static, mut other: impl Queue + 'static) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let watched = stop.clone();
        let run = move || {
            let mut frame = FrameBuffer::default();
            while wait(&watched, &one, &other) {
                while carry(&mut one, &mut other, &mut frame, TURN)
                    | carry(&mut other, &mut one, &mut frame, TURN_OF_OTHER)
                {
                    if is_set(&watched) {
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
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_set(stop: &OwnedFd) -> bool {
    let nothing = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&nothing)).is_ok_and(|ready| ready > 0)
}

/// Waits until one of the queues has frames. Returns `false` if the thread must stop.
fn wait(stop: &OwnedFd, one: &impl Queue, other: &impl Queue) -> bool {
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
