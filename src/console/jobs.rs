//! Job control, for a program that makes its terminal raw.
//!
//! A stop (`kill -TSTP`; Ctrl-Z goes to the guest) restores the terminal first. After `fg` or `bg`, the console checks
//! again whether it is in the foreground. SIGCONT reports that, except for a job that was started in the background and
//! never stopped: that one checks periodically.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use signal_hook::consts::{SIGCONT, SIGTSTP};
use signal_hook::{SigId, flag, low_level};

use super::terminal;

/// Interval at which a background job checks whether it is in the foreground.
pub(super) const GLANCE: Duration = Duration::from_millis(250);

/// A stop was requested and has not been handled.
static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
/// While there is no listener, a stop has its default effect. A handler that signal-hook has installed stays installed.
static NOBODY_LISTENS: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let nobody = Arc::new(AtomicBool::new(true));
    let _ = flag::register_conditional_default(SIGTSTP, nobody.clone());
    nobody
});

/// While this exists, a stop waits for [`heed`](Self::heed).
pub(super) struct JobControl {
    receiver: UnixStream,
    registrations: Vec<SigId>,
}

impl JobControl {
    /// Starts to listen for stops and continuations.
    pub fn listen() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        LISTENERS.fetch_add(1, Ordering::SeqCst);
        NOBODY_LISTENS.store(false, Ordering::SeqCst);
        let mut jobs = Self { receiver, registrations: Vec::new() };
        // In this order, so that a thread that is woken finds the flag set.
        jobs.registrations.push(flag::register(SIGTSTP, STOP.clone())?);
        for signal in [SIGTSTP, SIGCONT] {
            jobs.registrations.push(low_level::pipe::register(signal, sender.try_clone()?)?);
        }
        Ok(jobs)
    }

    /// If a stop was requested, restores the terminal, stops the process, and returns when it continues. Call this when
    /// the descriptor is readable.
    pub fn heed(&self) {
        while (&self.receiver).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        // Several consoles may have been notified; the process stops once.
        if STOP.swap(false, Ordering::SeqCst) && !is_orphaned() {
            terminal::restore();
            let _ = low_level::emulate_default_handler(SIGTSTP);
        }
    }
}

/// Readable after a stop was requested, and after each continuation.
impl AsFd for JobControl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Drop for JobControl {
    fn drop(&mut self) {
        for registration in self.registrations.drain(..) {
            low_level::unregister(registration);
        }
        if LISTENERS.fetch_sub(1, Ordering::SeqCst) == 1 {
            NOBODY_LISTENS.store(true, Ordering::SeqCst);
        }
    }
}

/// Returns `true` if no shell could continue this process. Then the kernel does not let SIGTSTP stop it.
fn is_orphaned() -> bool {
    let session = rustix::process::getsid(None).ok();
    let parents = rustix::process::getppid().and_then(|parent| rustix::process::getsid(Some(parent)).ok());
    session != parents || session == Some(rustix::process::getpgrp())
}
