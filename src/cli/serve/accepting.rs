//! The main thread of the service: it accepts connections, reads the files of TLS again when they change, and tells systemd.

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::address::Listener;
use super::attention::{Signals, Watch};
use super::connections::{Connections, Handler};
use super::secure::Acceptor;
use super::supervisor::Supervisor;
use crate::cli::notify::notify;
use crate::cli::say;

/// Delay before the next attempt if a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(50);
/// Time between two warnings of it.
const QUIET: Duration = Duration::from_secs(60);

/// An address with its connections.
pub struct Door<'a> {
    /// The address.
    pub listener: &'a Listener,
    /// Its connections.
    pub connections: &'a Arc<Connections>,
    /// The handler of their requests.
    pub handler: Arc<Handler>,
}

/// The files of TLS, which are read again when they change.
pub struct Renewal {
    tls: Arc<Acceptor>,
    watch: Option<Watch>,
    supervisor: Arc<Supervisor>,
    quiet: bool,
}

impl Renewal {
    /// Watches the files.
    pub fn of(tls: Arc<Acceptor>, supervisor: Arc<Supervisor>, quiet: bool) -> Self {
        let watch = Watch::files(&tls.files());
        let watch = watch.inspect_err(|error| log::warn!("--tls: new files are noticed only after a HUP: {error}"));
        Self { tls, watch: watch.ok(), supervisor, quiet }
    }

    /// Reads the files again, and reports the result.
    fn reload(&mut self) {
        let result = self.tls.reload();
        // Symbolic links may lead elsewhere now.
        self.watch = Watch::files(&self.tls.files()).ok().or(self.watch.take());
        match result {
            Ok(false) => {}
            Ok(true) => {
                let fingerprint = format!("sha256:{}", self.tls.fingerprint());
                self.supervisor.events.add(serde_json::json!({ "event": "certificate", "fingerprint": fingerprint }));
                if !self.quiet {
                    say!("the files of --tls were read again; the fingerprint of the certificate is {fingerprint}");
                }
            }
            Err(error) => log::warn!("{error}; the certificate that was read before remains in use"),
        }
    }
}

/// Accepts connections until a signal comes that ends the service.
///
/// # Errors
/// Returns the error of `poll`.
pub fn accept(doors: &[Door<'_>], signals: &Signals, mut renewal: Option<Renewal>) -> anyhow::Result<()> {
    let mut warned: Option<Instant> = None;
    loop {
        let watch = renewal.as_ref().and_then(|renewal| renewal.watch.as_ref());
        let limit = watch.and_then(Watch::left).and_then(|left| Timespec::try_from(left).ok());
        let mut fds = vec![PollFd::new(&signals.end, PollFlags::IN), PollFd::new(&signals.hang_up, PollFlags::IN)];
        fds.extend(doors.iter().map(|door| PollFd::new(door.listener, PollFlags::IN)));
        fds.extend(watch.map(|watch| PollFd::new(watch, PollFlags::IN)));
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for connections"),
        }
        let found: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (is_over, hangs_up) = (found[0], found[1]);
        if is_over || hangs_up && signals.has_lost_terminal() {
            return Ok(());
        }
        if let Some(renewal) = &mut renewal {
            let has_changed = found.get(2 + doors.len()).is_some_and(|changed| *changed);
            renewal.watch.iter_mut().filter(|_| has_changed).for_each(Watch::take);
            if hangs_up || renewal.watch.as_mut().is_some_and(Watch::is_due) {
                renewal.reload();
            }
        }
        if hangs_up {
            notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic()));
            notify("READY=1");
        }
        for door in doors {
            match door.listener.accept() {
                Ok((stream, peer)) => door.connections.serve(stream, peer, door.listener.tls(), &door.handler),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => {
                    // For example, there are no file descriptors left. The client still waits.
                    if warned.is_none_or(|at| at.elapsed() >= QUIET) {
                        log::warn!("connections cannot be accepted: {error}");
                        warned = Some(Instant::now());
                    }
                    thread::sleep(RETRY);
                }
            }
        }
    }
}

/// Returns the time of the monotonic clock, in microseconds.
fn monotonic() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}
