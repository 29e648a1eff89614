//! How disk I/O is done: straight between guest pages and files, with many requests in flight.
//!
//! - [`ring`]: io_uring, for reads, writes and flushes of disks that lie one to one in a file.
//! - [`pool`]: a few threads a disk, for all else, and for everything where the host forbids io_uring.
//! - [`budget`]: how many threads the disks of a controller have between them.
//! - [`lane`]: threads of low weight for commands that cost the host far more than the guest.
//! - [`perform`]: what those threads do.
//! - [`cancel`]: what stops them.
//! - [`gate`]: what keeps atomic commands whole among all that.
//! - [`vectored`]: guest pages as the kernel wants them.

pub mod budget;
pub mod cancel;
pub mod gate;
pub mod lane;
pub(super) mod perform;
pub mod pool;
pub mod ring;
pub mod vectored;

pub use perform::perform;
