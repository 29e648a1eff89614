//! Holds the requests of a channel while its machine is paused.
//!
//! A request is active while it uses the disk or guest memory: it [enters](Hold::enter) before it does, and leaves when its
//! [`Active`] is dropped. A long request is held between two steps, at a [point](Active::point) where it holds no permission of
//! the [gate](super::gate), so that other requests to the disk can complete. Requests that have not started when the hold
//! begins wait in [`enter`](Hold::enter).

use crate::host::lock::{Condvar, Mutex};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The hold of one channel. Clones are the same hold.
#[derive(Clone, Default)]
pub struct Hold(Arc<Inner>);

#[derive(Default)]
struct Inner {
    holding: AtomicBool,
    active: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
    /// Called when the last active request leaves during a hold.
    wake: Option<Box<dyn Fn() + Send + Sync>>,
}

/// An active request, until it is dropped.
pub struct Active<'a>(&'a Inner);

impl fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hold").field("active", &self.0.active).finish_non_exhaustive()
    }
}

impl Hold {
    /// Creates a hold that is not in force. When the last active request leaves during a hold, its thread calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { wake: Some(Box::new(wake)), ..Inner::default() }))
    }

    /// Puts the hold in force. Does not wait.
    pub fn begin(&self) {
        self.0.holding.store(true, Ordering::SeqCst);
    }

    /// Ends the hold and resumes the requests.
    pub fn end(&self) {
        self.0.holding.store(false, Ordering::SeqCst);
        drop(self.0.lock.lock());
        self.0.changed.notify_all();
    }

    /// Returns `true` if no request is active.
    pub fn is_quiet(&self) -> bool {
        self.0.active.load(Ordering::SeqCst) == 0
    }

    /// Counts the calling thread's request as active. If a hold is in force, waits for its end first.
    pub fn enter(&self) -> Active<'_> {
        self.0.enter();
        Active(&self.0)
    }
}

impl Inner {
    fn enter(&self) {
        loop {
            // Counts first and then checks, so that a caller that begins a hold and sees no active request can rely on it.
            self.active.fetch_add(1, Ordering::SeqCst);
            if !self.holding.load(Ordering::SeqCst) {
                return;
            }
            self.leave();
            let mut guard = self.lock.lock();
            while self.holding.load(Ordering::SeqCst) {
                guard = self.changed.wait(guard);
            }
        }
    }

    fn leave(&self) {
        if self.active.fetch_sub(1, Ordering::SeqCst) == 1 && self.holding.load(Ordering::SeqCst) {
            self.wake.iter().for_each(|wake| wake());
        }
    }
}

impl Active<'_> {
    /// Waits for the end of a hold, if one is in force. The request must hold no permission of the disk's gate.
    pub fn point(&self) {
        if self.0.holding.load(Ordering::SeqCst) {
            self.0.leave();
            self.0.enter();
        }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
