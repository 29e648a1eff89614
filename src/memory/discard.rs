//! Returns pages of a guest to the host.

use std::io;
use std::ops::Range;

use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{GuestMemory, PAGE_SIZE};

/// Frees the whole pages in a range of guest physical addresses. They read as zeros from then on, to the guest and to
/// devices. Addresses without memory are ignored.
///
/// # Errors
/// Returns the error of the host. Some pages may have been freed.
pub fn discard(memory: &GuestMemory, addresses: Range<u64>) -> io::Result<()> {
    let addresses = addresses.start.next_multiple_of(PAGE_SIZE)..addresses.end / PAGE_SIZE * PAGE_SIZE;
    for region in memory.iter() {
        let base = region.start_addr().0;
        let (start, end) = (addresses.start.max(base), addresses.end.min(base + region.len()));
        if start >= end {
            continue;
        }
        let (offset, length) = (start - base, end - start);
        match region.file_offset() {
            // Other processes may map the file, so the pages have to leave the file.
            Some(file) => {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file.file(), hole, file.start() + offset, length)?;
            }
            None => {
                let address = region.as_ptr().wrapping_add(offset as usize);
                // SAFETY: the part is inside the region's mapping, which `memory` keeps. What it contains may change at any
                // time, as the guest can change it: nothing holds a reference to it.
                let result = unsafe { libc::madvise(address.cast(), length as usize, libc::MADV_DONTNEED) };
                if result != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "discard_tests.rs"]
mod tests;
