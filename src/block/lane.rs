//! The lane of a controller: a few threads of low weight for commands that make the host do far more than the guest did.
//!
//! VERIFY, WRITE SAME, UNMAP and their like cost a guest one packet and the host up to terabytes of work. They get at
//! most `MAX_THREADS` threads a controller, whatever the number of disks, and these run at the lowest priority: on a
//! busy host the virtual processors of every machine come first, on an idle one nothing is lost.

use super::pool::{Pool, Settings};

/// How many threads a controller's lane has at most. More than one, so that a disk that hangs does not stop the others.
const MAX_THREADS: usize = 2;
/// The nice value with the least weight: about a seventieth of an ordinary thread's.
const NICE: i32 = 19;

/// Returns a new lane. Threads start when they are first needed.
pub fn lane() -> Pool {
    Pool::new(Settings { name: "disk-long", max_threads: MAX_THREADS, nice: NICE })
}
