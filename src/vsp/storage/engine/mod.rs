//! How disk I/O is done: straight between guest pages and files, with many requests in flight.
//!
//! - [`ring`]: io_uring, for reads, writes and flushes of disks that lie one to one in a file.
//! - [`pool`]: a few threads a disk, for all else, and for everything where the host forbids io_uring.
//! - [`perform`]: what those threads do.
//! - [`gate`]: what keeps atomic commands whole among all that.
//! - [`vectored`]: guest pages as the kernel wants them.

pub mod gate;
pub(super) mod perform;
pub mod pool;
pub mod ring;
pub mod vectored;

pub use perform::perform;
