//! Threads that the disks of a controller share, in addition to each disk's own.
//!
//! Some requests cost the host far more than the guest: one packet of a guest can request to check, fill or unmap
//! terabytes. These long requests run on at most `MAX_THREADS` threads for all disks together. The threads have the lowest
//! priority: on a busy host, the virtual processors of all machines come first; on an idle host, a low priority costs
//! nothing.

use std::sync::Arc;

use super::budget::Budget;
use super::pool::{Pool, Settings};

/// Maximum number of threads for long requests. There is more than one so that a disk that hangs does not block the others.
const MAX_THREADS: usize = 2;

/// The threads that the disks of one controller share. They start when they are first needed.
pub struct SharedThreads {
    /// Threads for long requests.
    long: Pool,
    /// Bounds the number of the disks' own threads.
    budget: Arc<Budget>,
}

impl Default for SharedThreads {
    fn default() -> Self {
        let settings = Settings { name: "disk-long", max_threads: MAX_THREADS, give_way: true };
        Self { long: Pool::new(settings), budget: Arc::default() }
    }
}

impl SharedThreads {
    /// Runs `task`: on a thread for long requests if `is_long`, otherwise on a thread of the disk's own `pool`.
    pub(super) fn run(&self, is_long: bool, pool: &Pool, task: impl FnOnce() + Send + 'static) {
        if is_long {
            self.long.run(task);
        } else {
            pool.run_within(Some(&self.budget), task);
        }
    }
}
