//! Eventfds as descriptors, for whoever knows no more of them than that.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use vmm_sys_util::eventfd::EventFd;

/// The eventfd's descriptor.
pub fn into_descriptor(event: EventFd) -> OwnedFd {
    // SAFETY: the descriptor is open, and `event`, its only owner, has just given it up.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}
