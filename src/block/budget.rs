//! The limits of the threads that a controller's disks have together.
//!
//! Each disk always gets one thread, so that a disk that hangs does not stop the others, and up to three more. A guest with 64
//! disks on each controller could thus make the host start hundreds of threads and starve other machines. Therefore both
//! kinds are limited per controller: beyond [`MAX_MORE`], disks get no further threads; beyond [`MAX_FIRST`], a disk's first
//! thread has a low priority, which costs nothing on an idle host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum number of disks of a controller whose first thread has normal priority.
pub const MAX_FIRST: usize = 8;
/// Maximum number of threads that the disks of a controller have in addition to the first thread of each.
pub const MAX_MORE: usize = 8;
/// Nice value of the first threads beyond [`MAX_FIRST`]: a ninth of a normal thread's weight.
pub const LATE_NICE: i32 = 10;

/// The thread budget of one controller.
#[derive(Debug, Default)]
pub struct Budget {
    first: AtomicUsize,
    more: AtomicUsize,
}

/// One thread's part of a budget. Returned to it when dropped.
#[derive(Debug)]
pub struct Part {
    budget: Arc<Budget>,
    is_first: bool,
}

impl Budget {
    /// Takes a part for a disk's first thread (`is_first`) or for another one. Returns `None` if none is left.
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
