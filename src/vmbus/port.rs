//! The services of the bus for a channel.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// The services of the bus for a channel. They can be called from any thread.
pub trait Port: Send + Sync {
    /// Signals the guest.
    fn signal_guest(&self);

    /// Schedules a call to [`Handler::service`](super::vsp::Handler::service) on the handler's thread, for instance because I/O has completed.
    fn wake(&self);

    /// Returns an eventfd that has the effect of [`wake`](Self::wake) when it is signalled, for use by the kernel. If
    /// there is none, devices must use threads of their own for I/O.
    fn doorbell(&self) -> Option<OwnedFd> {
        None
    }

    /// Schedules a call to [`Handler::service`](super::vsp::Handler::service) on the handler's thread once `source` is readable: at once if it
    /// already is, and only once per call of this function. The source must not be duplicated; it is removed when it is
    /// closed.
    ///
    /// # Errors
    /// Returns an error if the host lacks descriptors, or if `source` cannot be polled.
    fn wake_on(&self, _source: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Does the same once `source` is readable or writable, as far as that is wanted, or once its other side has hung up.
    /// Replaces what was wanted of `source` before.
    ///
    /// # Errors
    /// As [`wake_on`](Self::wake_on).
    #[doc(hidden)]
    fn wake_when(&self, _source: BorrowedFd<'_>, _readable: bool, _writable: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Schedules a call to [`Handler::service`](super::vsp::Handler::service) on the handler's thread after `time`, in which pauses of the machine do not
    /// count. Replaces what was scheduled before; `None` cancels it. Calls for other reasons come as well, so a handler
    /// compares its deadlines with the [`time`](Self::time).
    fn wake_after(&self, _time: Option<Duration>) {}

    /// Returns the time since the channel was opened. Pauses of the machine do not count.
    fn time(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the guest's reference time, in units of 100 ns, or `None` if the host cannot read it.
    #[doc(hidden)]
    fn reference_time(&self) -> Option<u64> {
        None
    }

    /// Returns `true` if [`Handler::service`](super::vsp::Handler::service) should return even if there is more to do: the channel is about to be closed,
    /// or the machine pauses. After a pause it is called again.
    fn should_return(&self) -> bool {
        false
    }

    /// Calls code on the handler's thread that may wait for the host without a time limit, and that uses neither the channel nor guest memory.
    /// The machine can pause and end meanwhile. If it has ended, the thread is left alone until the code returns.
    #[doc(hidden)]
    fn aside(&self, code: &mut dyn FnMut()) {
        code();
    }

    /// Returns `true` once the guest and its memory are permanently gone: its machine has ended, or restarts with new
    /// memory. A handler that is dropped then need not wait for I/O that still uses that memory.
    fn is_guest_gone(&self) -> bool {
        false
    }

    /// Offers the guest subchannels 1 to `count` of this device, at most as many as there are VPs. The primary channel
    /// must be open: call this from [`Handler::service`](super::vsp::Handler::service). The subchannels are removed when the primary channel is
    /// closed.
    fn offer_subchannels(&self, count: u16);
}
