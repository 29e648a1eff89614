//! Locks on image files: one writer or several readers may use an image at a time.
//!
//! The locks are those of flock(2), which belong to the open file. They end with the process, however it ends, and udev
//! respects them on block devices.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::DiskError;

/// Number of attempts to take a lock that is held. udev holds one briefly while it examines a device, and so does a forked
/// process until its exec.
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
        // Without locks on this file system, the image is used unlocked.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK) => {
            log::warn!(
                "{} is on a file system without locks: make sure that nothing else writes to it",
                path.display()
            );
            Ok(())
        }
        Err(error) => Err(DiskError::Host { path: path.to_owned(), source: error.into() }),
    }
}
