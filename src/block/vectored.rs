//! Guest pages as `iovec`s for the kernel's vectored I/O. Needs `unsafe` for the pointers and the system calls.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::bitmap::BS;

use crate::memory::buffer::{BufferError, GuestBuffer, Mappings};

/// Maximum number of `iovec`s in a system call (UIO_MAXIOV).
const MAX_PIECES: usize = 1024;

/// Guest pages that the kernel reads or writes, as `iovec`s. Keeps the mapping of the pages alive.
pub struct Vectors {
    pieces: Vec<libc::iovec>,
    /// Number of pieces that have been transferred completely.
    done: usize,
    /// Number of bytes that have not been transferred.
    left: usize,
    /// Keeps the memory that `pieces` point into mapped.
    _mappings: Mappings,
}

// SAFETY: the pointers in `pieces` point into mappings that `_mappings` co-owns, on whichever thread it is. This type never
// dereferences them; only the kernel does, which works on behalf of any thread.
unsafe impl Send for Vectors {}

impl Vectors {
    /// Creates the vectors of the first `length` bytes of `pages`.
    ///
    /// # Errors
    /// Returns an error if `pages` is shorter.
    pub fn new(pages: &GuestBuffer, length: usize) -> Result<Self, BufferError> {
        let piece = |slice: vm_memory::VolatileSlice<'_, BS<'_, ()>>| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        };
        let pieces = pages.slices(0, length)?.map(piece).collect();
        Ok(Self { pieces, done: 0, left: length, _mappings: pages.mappings() })
    }

    /// Returns `true` if every remaining piece starts and ends at a multiple of `alignment`.
    pub fn is_aligned(&self, alignment: usize) -> bool {
        let aligned = |piece: &libc::iovec| (piece.iov_base.addr() | piece.iov_len).is_multiple_of(alignment);
        self.pieces[self.done..].iter().all(aligned)
    }

    /// Returns the number of bytes that have not been transferred.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Returns a pointer to the remaining pieces, and their number, up to the maximum of a system call.
    ///
    /// The pointer is valid until the next call of [`advance`](Self::advance), even if `self` is moved, because the pieces are
    /// on the heap.
    pub(super) fn raw(&self) -> (*const libc::iovec, u32) {
        let left = &self.pieces[self.done..];
        (left.as_ptr(), left.len().min(MAX_PIECES) as u32)
    }

    /// Records that `count` more bytes have been transferred.
    pub fn advance(&mut self, count: usize) {
        let mut count = count.min(self.left);
        self.left -= count;
        while let Some(piece) = self.pieces.get_mut(self.done) {
            if count < piece.iov_len {
                piece.iov_base = piece.iov_base.wrapping_byte_add(count);
                piece.iov_len -= count;
                return;
            }
            count -= piece.iov_len;
            self.done += 1;
        }
    }

    /// Reads from `offset` of `file` until the pages are full.
    ///
    /// # Errors
    /// Returns the kernel's error, or `UnexpectedEof` if the file ends first.
    pub fn read_all(&mut self, file: &File, offset: u64) -> io::Result<()> {
        self.transfer(offset, io::ErrorKind::UnexpectedEof, |pieces, count, offset| {
            // SAFETY: `pieces` are `count` iovecs into guest memory that `self` keeps mapped. Guest memory may be written by
            // anybody at any time; no reference to it exists.
            unsafe { libc::preadv(file.as_raw_fd(), pieces, count, offset) }
        })
    }

    /// Writes the pages at `offset` of `file`.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub fn write_all(&mut self, file: &File, offset: u64) -> io::Result<()> {
        self.transfer(offset, io::ErrorKind::WriteZero, |pieces, count, offset| {
            // SAFETY: as in `read_all`; the kernel only reads the pages.
            unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, offset) }
        })
    }

    fn transfer(
        &mut self,
        mut offset: u64,
        at_zero: io::ErrorKind,
        call: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
    ) -> io::Result<()> {
        while self.left > 0 {
            let (pieces, count) = self.raw();
            let at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            match call(pieces, count as libc::c_int, at) {
                0 => return Err(at_zero.into()),
                moved if moved > 0 => {
                    self.advance(moved as usize);
                    offset += moved as u64;
                }
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "vectored_tests.rs"]
mod tests;
