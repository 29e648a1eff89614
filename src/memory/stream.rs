//! Moves bytes between guest memory and a socket without a copy in this process.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use smallvec::SmallVec;
use vm_memory::VolatileSlice;

/// Maximum number of pieces in a system call (UIO_MAXIOV).
pub(crate) const MAX_PIECES: usize = 1024;

/// Sends the bytes of these pieces of guest memory, as many as the socket takes without waiting, and returns their number. Further
/// pieces than [`MAX_PIECES`] are not sent.
///
/// # Errors
/// Returns the kernel's error. [`Errno::AGAIN`]: the socket takes nothing at present. There is no SIGPIPE.
pub(crate) fn send(socket: impl AsFd, pieces: &[VolatileSlice<'_, ()>]) -> Result<usize, Errno> {
    transfer(pieces, |message| {
        // SAFETY: the message has valid iovecs into guest memory that `pieces` keeps mapped. The kernel only reads it.
        unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Receives bytes into these pieces of guest memory, as many as the socket has, and returns their number. 0 is the end of the
/// data. Further pieces than [`MAX_PIECES`] are not used.
///
/// # Errors
/// Returns the kernel's error. [`Errno::AGAIN`]: the socket has nothing at present.
pub(crate) fn receive(socket: impl AsFd, pieces: &[VolatileSlice<'_, ()>]) -> Result<usize, Errno> {
    transfer(pieces, |message| {
        // SAFETY: the message has valid iovecs into guest memory that `pieces` keeps mapped. Guest memory may be written by anybody at
        // any time; no reference to it exists.
        unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), message, libc::MSG_DONTWAIT) }
    })
}

fn transfer(pieces: &[VolatileSlice<'_, ()>], call: impl FnOnce(*mut libc::msghdr) -> isize) -> Result<usize, Errno> {
    // The guards, of which there is nothing to keep: the mapping is not one of Xen's.
    let piece = |slice: &VolatileSlice<'_, ()>| libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    let mut vectors: SmallVec<[libc::iovec; 32]> = pieces.iter().take(MAX_PIECES).map(piece).collect();
    // SAFETY: an all-zero msghdr is valid, and names no address and no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    match call(&mut message) {
        moved if moved >= 0 => Ok(moved as usize),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use vm_memory::{GuestAddress, GuestMemoryBackend};

    use super::*;
    use crate::memory::GuestMemory;
    use crate::memory::buffer::GuestBuffer;

    #[test]
    fn bytes_go_from_pieces_of_guest_memory_to_pieces_of_it() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 4 * 4096)]).unwrap();
        assert_eq!(memory.num_regions(), 1);
        let buffer = GuestBuffer::new(&memory, [3, 1, 0].into_iter(), 0, 3 * 4096).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        buffer.write(4090, b"over a page's end").unwrap();
        let pieces: Vec<_> = buffer.slices(4090, 17).unwrap().collect();
        assert_eq!((pieces.len(), send(&theirs, &pieces)), (2, Ok(17)));
        let mut got = [0; 17];
        ours.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"over a page's end");
        let pieces: Vec<_> = buffer.slices(4092, 100).unwrap().collect();
        assert_eq!(receive(&theirs, &pieces), Err(Errno::AGAIN));
        ours.write_all(b"and back").unwrap();
        assert_eq!(receive(&theirs, &pieces), Ok(8));
        assert_eq!(buffer.read_value::<[u8; 17]>(4090), Ok(*b"ovand backe's end"));
        ours.shutdown(Shutdown::Write).unwrap();
        assert_eq!(receive(&theirs, &pieces), Ok(0));
        drop(ours);
        assert_eq!(send(&theirs, &pieces), Err(Errno::PIPE));
    }
}
