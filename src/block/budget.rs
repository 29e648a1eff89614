//! How many threads of ordinary weight the disks of a controller have between them.
//!
//! A disk has a thread of its own whatever the others do, so that one that hangs stops nobody, and up to three more. A guest with
//! 64 disks on each controller could have the host start hundreds of them by that, and take the processors from its
//! neighbors. So the threads beyond each disk's first are counted together, and so are the first ones: those
//! beyond the count start with little weight, and on an idle host lose nothing by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many disks of a controller have a first thread of ordinary weight.
pub const MAX_FIRST: usize = 8;
/// How many threads beyond their first the disks of a controller have.
pub const MAX_MORE: usize = 8;
/// The nice value of the other first threads: a ninth of an ordinary thread's weight.
pub const LATE_NICE: i32 = 10;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Budget {
    first: AtomicUsize,
    more: AtomicUsize,
}

/// A thread's part of a budget, until it is dropped.
#[derive(Debug)]
pub struct Part {
    budget: Arc<Budget>,
    is_first: bool,
}

impl Budget {
    /// Takes a part for a disk's first thread or for another one, if there is one left.
    pub fn take(self: &Arc<Self>, is_first: bool) -> Option<Part> {
        let (taken, most) = self.count(is_first);
        let more = |now| (now < most).then_some(now + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Part { budget: self.clone(), is_first })
    }

    fn count(&self, is_first: bool) -> (&AtomicUsize, usize) {
        if is_first { (&self.first, MAX_FIRST) } else { (&self.more, MAX_MORE) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.count(self.is_first).0.fetch_sub(1, Ordering::Relaxed);
    }
}
