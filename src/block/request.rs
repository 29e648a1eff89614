//! Requests to a disk, and their results.

use std::io;

use smallvec::SmallVec;

/// Maximum number of bytes that are read ahead. It is a hint, and must not fill the host's memory.
pub const MAX_PREFETCH: u64 = 8 << 20;

/// A range of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Start of the range.
    pub offset: u64,
    /// Length of the range.
    pub length: u64,
}

/// An operation on a disk. *The buffer* is the request's guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read from the disk into the buffer.
    Read(Extent),
    /// Write from the buffer.
    Write(Extent),
    /// Make all earlier writes durable. The request's `durable` flag is ignored.
    Flush,
    /// Check that the extent can be read.
    Check(Extent),
    /// Compare the extent with the buffer. With `repeat`, compare each block of `repeat` bytes of the extent with the first
    /// `repeat` bytes of the buffer.
    Compare {
        /// The range of the disk.
        extent: Extent,
        /// Size of the repeated block, in bytes. `None` if the buffer covers the whole extent.
        repeat: Option<u32>,
    },
    /// Write from the buffer, then read the extent back.
    WriteAndVerify {
        /// The range of the disk.
        extent: Extent,
        /// `true` to compare what was read back with the buffer.
        compare: bool,
    },
    /// Atomically: compare the extent with the first half of the buffer, and if they are equal, write the second half.
    CompareAndWrite(Extent),
    /// Atomically replace the extent by its OR with the buffer.
    Or(Extent),
    /// Write the same pattern to every block.
    Fill {
        /// The range of the disk.
        extent: Extent,
        /// The content of one block.
        pattern: Vec<u8>,
    },
    /// Write zeros; with `deallocate`, release the space on the host if possible.
    Zero {
        /// The range of the disk.
        extent: Extent,
        /// `true` if the space may be released.
        deallocate: bool,
    },
    /// Release the space on the host; the extents then read as zeros.
    Unmap(SmallVec<[Extent; 1]>),
    /// A hint that the extent will be read soon.
    Prefetch(Extent),
    /// Determine which parts of the extent are allocated: [`Success::Map`].
    Map {
        /// The range of the disk.
        extent: Extent,
        /// Maximum number of parts to return, from the first on.
        limit: usize,
    },
}

impl Operation {
    /// Returns the number of bytes that the host may have to process although they are neither read into the buffer nor
    /// written from it.
    pub fn amplified(&self) -> u64 {
        match self {
            Self::Check(extent)
            | Self::Compare { extent, repeat: Some(_) }
            | Self::Fill { extent, .. }
            | Self::Zero { extent, .. }
            | Self::Map { extent, .. } => extent.length,
            Self::Prefetch(extent) => extent.length.min(MAX_PREFETCH),
            Self::Unmap(extents) => extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.length)),
            _ => 0,
        }
    }
}

/// An operation, and whether it must be durable before the request completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// A write is on stable storage before the request completes; a read comes from stable storage.
    pub durable: bool,
}

/// The result of a successful request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Success {
    /// The request is complete.
    Done,
    /// The result of [`Operation::Map`]: lengths in bytes from the extent's start on, and whether they are allocated.
    Map(Vec<(u64, bool)>),
}

/// The reason why a request failed. Positions are in bytes from the start of the disk, unless documented otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The host cannot read this byte.
    #[error("the host cannot read the disk at byte {0}")]
    Read(u64),
    /// The host cannot write this byte.
    #[error("the host cannot write the disk at byte {0}")]
    Write(u64),
    /// This byte must not be written, and nobody can write it: the host's file or file system is read-only, or the image's header is
    /// protected.
    #[error("byte {0} of the disk must not be written")]
    Protected(u64),
    /// The host has no space for this byte.
    #[error("the host has no space for byte {0} of the disk")]
    NoSpace(u64),
    /// The disk differs from the buffer, first at this byte of the buffer.
    #[error("the disk differs from the buffer at byte {0} of the buffer")]
    Miscompare(u64),
    /// The buffer is too small for the operation.
    #[error("the buffer is too small for the request")]
    Buffer,
    /// The host does not support this operation on this disk.
    #[error("the host does not support this operation on this disk")]
    Unsupported,
    /// The request was cancelled.
    #[error("the request was cancelled")]
    Cancelled,
    /// The code that performs the disk's requests has panicked.
    #[error("the disk's driver has failed")]
    Broken,
}

impl RequestError {
    /// Returns the error of a read that failed at `offset`.
    pub(super) fn of_read(offset: u64, error: &io::Error) -> Self {
        log::debug!("reading the disk at {offset} failed: {error}");
        match error.kind() {
            io::ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Read(offset),
        }
    }

    /// Returns the error of a write that failed at `offset`.
    pub(super) fn of_write(offset: u64, error: &io::Error) -> Self {
        log::debug!("writing the disk at {offset} failed: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace(offset)
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Protected(offset),
            io::ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Write(offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_counts_up_to_its_bound() {
        let prefetch = |length| Operation::Prefetch(Extent { offset: 0, length }).amplified();
        assert_eq!((prefetch(4096), prefetch(1 << 40)), (4096, MAX_PREFETCH));
        assert_eq!(Operation::Read(Extent { offset: 0, length: 1 << 20 }).amplified(), 0);
    }
}
