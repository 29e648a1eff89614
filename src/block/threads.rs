//! The threads that several disks share, beside those of each.
//!
//! Some requests make the host do far more than the guest did: a guest that checks, fills or unmaps a range sends one packet, and
//! the host may have terabytes of work. They get at most `MAX_THREADS` threads, whatever the number of
//! disks, and these run at the lowest priority: on a busy host the virtual processors of every machine come first, on
//! an idle one nothing is lost.

use std::sync::Arc;

use super::budget::Budget;
use super::pool::{Pool, Settings};

/// Maximum number of threads for long requests. More than one, so that a disk that hangs does not stop the others.
const MAX_THREADS: usize = 2;
/// The nice value with the least weight: about a seventieth of an ordinary thread's.
const NICE: i32 = 19;

/// The threads that the disks of one controller share. They start when they are first needed.
pub struct SharedThreads {
    /// For long requests.
    long: Pool,
    /// Bounds the threads for the others.
    budget: Arc<Budget>,
}

impl Default for SharedThreads {
    fn default() -> Self {
        let settings = Settings { name: "disk-long", max_threads: MAX_THREADS, nice: NICE };
        Self { long: Pool::new(settings), budget: Arc::default() }
    }
}

impl SharedThreads {
    /// Runs `task` on a thread for long requests, or else on one of the disk's own `pool`.
    pub(super) fn run(&self, is_long: bool, pool: &Pool, task: impl FnOnce() + Send + 'static) {
        if is_long {
            self.long.run(task);
        } else {
            pool.run_within(Some(&self.budget), task);
        }
    }
}
