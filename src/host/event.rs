//! Eventfds as plain descriptors.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use vmm_sys_util::eventfd::EventFd;

/// Converts an eventfd to its descriptor.
pub fn into_descriptor(event: EventFd) -> OwnedFd {
    // SAFETY: the descriptor is open, and `event`, its only owner, has just released it.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}
