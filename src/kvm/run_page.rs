//! The byte of a VP's run structure that makes the VP leave the guest.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

use super::host::HostError;

/// A second mapping of a VP's run structure, of which only `immediate_exit` is used.
///
/// kvm-ioctls' own mapping belongs to the VP's thread. This second mapping lets other threads set that one byte.
pub(super) struct RunPage {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: all access goes through one atomic byte.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    pub fn map(fd: &VcpuFd, size: usize) -> Result<Self, HostError> {
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(HostError::Call { call: "a VP's run structure", source: io::Error::last_os_error() });
        }
        NonNull::new(start.cast()).map(|start| Self { start, size }).ok_or(HostError::UnmappedMemory)
    }

    pub fn immediate_exit(&self) -> &AtomicU8 {
        let offset = std::mem::offset_of!(kvm_run, immediate_exit);
        // SAFETY: the byte lies in the mapping, which lives as long as `self`; KVM only reads it.
        unsafe { AtomicU8::from_ptr(self.start.add(offset).as_ptr()) }
    }

    pub fn clear_immediate_exit(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: `start` and `size` are those of our mapping, to which no reference is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}
