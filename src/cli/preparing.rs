//! Work before a run that a signal ends, even if the work hangs: opening a file can wait for a network that does not answer, and
//! fetching one for a server.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use viridian::process::{EndSignals, restore_terminal};

/// After a signal, work that does not hang has this time to finish, and releases what it has made: sockets, a temporary folder.
const GRACE: Duration = Duration::from_millis(300);

/// Does the work on a thread of its own, and returns its result, or else the number of the signal that came first. Then
/// `abandon` was called, the terminal is as it was before, and the program has to end, because the thread may go on.
///
/// # Errors
/// Returns an error if the host has no thread or no descriptor.
pub fn unless_signalled<T: Send + 'static>(
    signals: &EndSignals,
    work: impl FnOnce() -> T + Send + 'static,
    abandon: impl FnOnce(),
) -> anyhow::Result<Result<T, i32>> {
    unless(signals, || signals.wait(), work, abandon)
}

/// Does the same with any source of signals: what is readable when there is one, and its number.
fn unless<T: Send + 'static>(
    signals: &impl AsFd,
    signal: impl FnOnce() -> io::Result<i32>,
    work: impl FnOnce() -> T + Send + 'static,
    abandon: impl FnOnce(),
) -> anyhow::Result<Result<T, i32>> {
    let (here, there) = UnixStream::pair().context("cannot wait for signals")?;
    let (sender, results) = mpsc::sync_channel(1);
    let work = move || {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        drop(there);
    };
    thread::Builder::new().name("prepare".into()).spawn(work).context("cannot start a thread")?;
    loop {
        let mut fds = [PollFd::new(&here, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for signals"),
        }
        if !fds[1].revents().is_empty() {
            let signal = signal().context("cannot listen for signals")?;
            abandon();
            drop(results.recv_timeout(GRACE));
            restore_terminal();
            return Ok(Err(signal));
        }
        if !fds[0].revents().is_empty() {
            let result = results.recv().context("the preparation has ended without a result")?;
            return Ok(Ok(result.unwrap_or_else(|panic| resume_unwind(panic))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Something that is readable like signals, and what makes it so. A real signal would reach all tests of this process.
    fn signals() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn work_without_a_signal_has_its_result() {
        let (signals, _raise) = signals();
        let result = unless(&signals, || panic!("there is no signal"), || 7, || panic!("abandoned"));
        assert_eq!(result.unwrap(), Ok(7));
    }

    #[test]
    fn a_signal_ends_the_wait_for_work_that_hangs() {
        let (signals, mut raise) = signals();
        let (release, hangs) = mpsc::channel::<()>();
        let is_abandoned = AtomicBool::new(false);
        let work = move || {
            raise.write_all(&[0]).unwrap();
            let _ = hangs.recv();
        };
        let result = unless(&signals, || Ok(libc::SIGHUP), work, || is_abandoned.store(true, Ordering::Relaxed));
        assert_eq!(result.unwrap(), Err(libc::SIGHUP));
        assert!(is_abandoned.load(Ordering::Relaxed));
        drop(release);
    }

    #[test]
    fn work_that_finishes_soon_after_a_signal_releases_what_it_has_made() {
        let (signals, mut raise) = signals();
        let made = Arc::new(());
        let (go_on, waits) = mpsc::channel::<()>();
        let work = {
            let made = made.clone();
            move || {
                raise.write_all(&[0]).unwrap();
                let _ = waits.recv();
                made
            }
        };
        assert_eq!(unless(&signals, || Ok(libc::SIGHUP), work, || drop(go_on)).unwrap(), Err(libc::SIGHUP));
        while Arc::strong_count(&made) > 1 {
            thread::yield_now();
        }
    }
}
