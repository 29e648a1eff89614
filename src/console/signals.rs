//! The signals that end a process, in a form that a thread can wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

use super::terminal;
use crate::host::signals::is_ignored;

/// While this exists, INT, TERM, HUP and QUIT do not end the process but are reported here. If HUP was ignored when
/// this process started (`nohup`), it stays ignored.
pub struct EndSignals {
    receiver: UnixStream,
    latest: Arc<AtomicUsize>,
    registrations: Vec<SigId>,
}

impl EndSignals {
    /// Starts to catch the signals.
    ///
    /// # Errors
    /// Returns an error if the process has no file descriptors left.
    pub fn catch() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        let latest = Arc::new(AtomicUsize::new(0));
        let mut signals = Self { receiver, latest, registrations: Vec::new() };
        let hang_up = if is_ignored(SIGHUP) { None } else { Some(SIGHUP) };
        for signal in [SIGINT, SIGTERM, SIGQUIT].into_iter().chain(hang_up) {
            // In this order, so that a thread that is woken finds the number.
            let number = flag::register_usize(signal, signals.latest.clone(), signal as usize)?;
            signals.registrations.push(number);
            signals.registrations.push(low_level::pipe::register(signal, sender.try_clone()?)?);
        }
        Ok(signals)
    }

    /// Waits for the next signal and returns its number.
    ///
    /// # Errors
    /// Does not happen in practice.
    pub fn wait(&self) -> io::Result<i32> {
        (&self.receiver).read_exact(&mut [0])?;
        Ok(self.latest.load(Ordering::SeqCst) as i32)
    }
}

/// Readable when [`EndSignals::wait`] would return at once.
impl AsFd for EndSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Drop for EndSignals {
    fn drop(&mut self) {
        for registration in self.registrations.drain(..) {
            low_level::unregister(registration);
        }
    }
}

/// For a program that handles no signals: lets INT, TERM, HUP and QUIT end the process as usual, but restores the
/// terminal first. Uses a thread for the life of the process.
///
/// # Errors
/// Returns an error if the process has no file descriptors or threads left.
pub fn restore_terminal_on_signals() -> io::Result<()> {
    let signals = EndSignals::catch()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            terminal::restore();
            let _ = low_level::emulate_default_handler(signal);
        }
    })?;
    Ok(())
}
