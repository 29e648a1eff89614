//! One writer or many readers: a file that a disk lies in is locked while it is used.
//!
//! The lock is flock(2)'s, which goes with the open file: it ends with the process, whatever kills it, and udev
//! respects it on block devices.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::DiskError;

/// How often a lock that somebody holds is tried again: udev holds one for a moment while it looks at a device,
/// and so does a process that was forked and has not yet become what it will be.
const RETRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Locks the file for reading, or for reading and writing.
pub(super) fn lock(file: &File, path: &Path, write: bool) -> Result<(), DiskError> {
    let operation =
        if write { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
    let mut result = flock(file, operation);
    for _ in 0..RETRIES {
        if result != Err(Errno::WOULDBLOCK) {
            break;
        }
        std::thread::sleep(PAUSE);
        result = flock(file, operation);
    }
    match result {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(DiskError::Locked { path: path.to_owned() }),
        // A file system without locks cannot keep anybody out.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK) => {
            log::warn!(
                "{} lies on a file system without locks: see to it that nobody else writes to it",
                path.display()
            );
            Ok(())
        }
        Err(error) => Err(DiskError::Host { path: path.to_owned(), source: error.into() }),
    }
}
