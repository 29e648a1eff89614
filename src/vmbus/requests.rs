//! Requests of the host to a device's handler.
//!
//! A handler lives on its channel's thread. Whoever wants something of it, such as a command or a test, sends a request of
//! the device's own type, and the handler takes it when it is next called. An answer can travel back through a channel
//! that the request contains.
//!
//! ```
//! use std::sync::mpsc;
//! use viridian::vmbus::vsp::{Requests, Unsent};
//!
//! struct Question(mpsc::Sender<u32>);
//!
//! let requests = Requests::<Question>::new(16);
//! // The guest has not opened the channel: nobody takes the request.
//! let (answer, _) = mpsc::channel();
//! assert!(matches!(requests.send(Question(answer)), Err(Unsent::NotOpen(_))));
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::port::Port;
use crate::host::lock::{Mutex, MutexGuard};

/// A bounded queue of requests to the handler of a device. Clones refer to the same queue.
pub struct Requests<T>(Arc<Mutex<Queue<T>>>);

struct Queue<T> {
    limit: usize,
    waiting: VecDeque<T>,
    /// The channel whose handler takes the requests, and its number.
    open: Option<(u64, Arc<dyn Port>)>,
    next_open: u64,
}

/// The reason why a request is not sent. It contains the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent<T> {
    /// The guest has no driver for the device, or the driver has not opened the channel.
    #[error("the guest does not use the device: it has no driver for it, or has not started it yet")]
    NotOpen(T),
    /// Too many requests wait already.
    #[error("the guest does not answer: too many requests are waiting")]
    Full(T),
}

impl<T> Requests<T> {
    /// Creates a queue for up to `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue { limit, waiting: VecDeque::new(), open: None, next_open: 0 })))
    }

    /// Sends a request, and wakes the handler.
    ///
    /// # Errors
    /// Returns the request if no handler takes requests, or if too many wait.
    pub fn send(&self, request: T) -> Result<(), Unsent<T>> {
        let mut queue = self.lock();
        let Some((_, port)) = queue.open.clone() else { return Err(Unsent::NotOpen(request)) };
        if queue.waiting.len() >= queue.limit {
            return Err(Unsent::Full(request));
        }
        queue.waiting.push_back(request);
        drop(queue);
        port.wake();
        Ok(())
    }

    /// Directs requests to the handler of a channel, until the result is dropped. Call this in
    /// [`Vsp::open`](super::vsp::Vsp::open), and keep the result in the handler.
    pub fn connect(&self, port: &Arc<dyn Port>) -> Requested<T> {
        let mut queue = self.lock();
        let number = queue.next_open;
        queue.next_open += 1;
        queue.open = Some((number, port.clone()));
        let unanswered = std::mem::take(&mut queue.waiting);
        drop(queue);
        // What a request holds may be anything, so it is dropped without the lock.
        drop(unanswered);
        Requested { queue: Self(self.0.clone()), number }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock()
    }
}

impl<T> Clone for Requests<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Requests").field("waiting", &self.lock().waiting.len()).finish_non_exhaustive()
    }
}

/// The handler's end of [`Requests`]. Requests that have not been taken are dropped with it.
#[derive(Debug)]
pub struct Requested<T> {
    queue: Requests<T>,
    number: u64,
}

impl<T> Requested<T> {
    /// Returns the oldest request that waits.
    pub fn take(&self) -> Option<T> {
        let mut queue = self.queue.lock();
        let is_mine = queue.open.as_ref().is_some_and(|(number, _)| *number == self.number);
        if is_mine { queue.waiting.pop_front() } else { None }
    }
}

impl<T> Drop for Requested<T> {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        if queue.open.as_ref().is_some_and(|(number, _)| *number == self.number) {
            let open = queue.open.take();
            let unanswered = std::mem::take(&mut queue.waiting);
            drop(queue);
            drop((open, unanswered));
        }
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
