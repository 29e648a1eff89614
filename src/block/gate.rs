//! A readers-writer gate that makes requests such as COMPARE AND WRITE atomic: plain writes share the disk, an atomic request
//! has exclusive access.

use crate::host::lock::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set while an atomic request runs or waits to run.
const EXCLUSIVE: usize = 1 << (usize::BITS - 1);

/// The gate of one disk. A write in flight holds a [`Share`].
#[derive(Debug, Default)]
pub struct Gate {
    /// Number of shares, and [`EXCLUSIVE`].
    state: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Permission to write. Ends when dropped.
#[derive(Debug)]
pub struct Share(Arc<Gate>);

/// Exclusive permission to write. Ends when dropped.
#[derive(Debug)]
pub struct Exclusive<'a>(&'a Gate);

impl Gate {
    /// Takes a share without waiting. Returns `None` while an atomic request runs or waits.
    pub fn try_share(self: &Arc<Self>) -> Option<Share> {
        let share = |state: usize| (state & EXCLUSIVE == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, share).ok()?;
        Some(Share(self.clone()))
    }

    /// Takes a share. Waits until no atomic request runs or waits.
    pub fn share(self: &Arc<Self>) -> Share {
        let mut guard = self.lock.lock();
        loop {
            if let Some(share) = self.try_share() {
                return share;
            }
            guard = self.changed.wait(guard);
        }
    }

    /// Takes exclusive permission. From now on no new shares are given. Waits until the existing ones have ended.
    pub fn exclusive(&self) -> Exclusive<'_> {
        self.wait_until(|| self.state.fetch_or(EXCLUSIVE, Ordering::Acquire) & EXCLUSIVE == 0);
        self.wait_until(|| self.state.load(Ordering::Acquire) == EXCLUSIVE);
        Exclusive(self)
    }

    fn wait_until(&self, mut done: impl FnMut() -> bool) {
        let mut guard = self.lock.lock();
        while !done() {
            guard = self.changed.wait(guard);
        }
    }

    /// Wakes all waiters. They check the state with the lock held, so taking the lock once ensures that none misses the change.
    fn wake(&self) {
        drop(self.lock.lock());
        self.changed.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::Release) == EXCLUSIVE + 1 {
            self.0.wake();
        }
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!EXCLUSIVE, Ordering::Release);
        self.0.wake();
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
