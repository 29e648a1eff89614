//! What keeps COMPARE AND WRITE whole: writes share a disk, an atomic command has it for itself.

use crate::host::lock::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set while an atomic command runs or waits to run.
const EXCLUSIVE: usize = 1 << (usize::BITS - 1);

/// The gate of one disk. A write that is in flight holds a [`Share`].
#[derive(Debug, Default)]
pub struct Gate {
    /// Shares that are out, and [`EXCLUSIVE`].
    state: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Leave to write. Ends when dropped.
#[derive(Debug)]
pub struct Share(Arc<Gate>);

/// Leave to write alone. Ends when dropped.
#[derive(Debug)]
pub struct Exclusive<'a>(&'a Gate);

impl Gate {
    /// Leave to write, at once or not at all.
    pub fn try_share(self: &Arc<Self>) -> Option<Share> {
        let share = |state: usize| (state & EXCLUSIVE == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, share).ok()?;
        Some(Share(self.clone()))
    }

    /// Waits for leave to write.
    pub fn share(self: &Arc<Self>) -> Share {
        let mut guard = self.lock.lock();
        loop {
            if let Some(share) = self.try_share() {
                return share;
            }
            guard = self.changed.wait(guard);
        }
    }

    /// Waits for leave to write alone. From now on nobody gets a share, and those that are out must end first.
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

    /// Who waits looks at the state with the lock held: having it once means that they look again.
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
