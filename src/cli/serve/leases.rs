//! Ends of open streams: events, consoles and screens are disconnected when the token or the certificate with which they were opened
//! expires, is withdrawn, or gets a lesser role.
//!
//! The connection is shut down, whatever its thread waits for. The thread finds that with its next byte.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::access::Caller;
use super::lock::{Condvar, Mutex};

/// Longest wait for the next expiry. The clock of the host may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(30);
/// Shortest wait: entries expire at whole seconds.
const SHORTEST: Duration = Duration::from_millis(50);

/// The connections of callers whose right may end.
#[derive(Default)]
pub struct Leases {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    next: u64,
    all: BTreeMap<u64, (Caller, UnixStream)>,
    /// The number of changes so far.
    changes: u64,
}

/// A connection of a caller, until this is dropped.
pub struct Lease<'a> {
    leases: &'a Leases,
    number: u64,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.leases.held.lock().all.remove(&self.number);
    }
}

impl Leases {
    /// Keeps a connection.
    ///
    /// # Errors
    /// Returns an error if there are no file descriptors left.
    pub fn hold(&self, caller: &Caller, stream: &UnixStream) -> io::Result<Lease<'_>> {
        let stream = stream.try_clone()?;
        let mut held = self.held.lock();
        held.next += 1;
        let number = held.next;
        held.all.insert(number, (caller.clone(), stream));
        held.changes += 1;
        drop(held);
        self.changed.notify_all();
        Ok(Lease { leases: self, number })
    }

    /// Disconnects those who have no right any more: those for whom `left` returns `None`. Otherwise it returns the time that is left.
    /// Returns the time until the next of them expires.
    pub fn sweep(&self, left: impl Fn(&Caller) -> Option<Duration>) -> Duration {
        let all: Vec<_> = self.held.lock().all.iter().map(|(number, (caller, _))| (*number, caller.clone())).collect();
        let mut next = Duration::MAX;
        for (number, caller) in all {
            match left(&caller) {
                Some(left) => next = next.min(left),
                None => {
                    if let Some((_, stream)) = self.held.lock().all.remove(&number) {
                        log::debug!("a connection of {} is closed: it has no right to it any more", caller.who);
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
            }
        }
        next
    }

    /// Disconnects those whose right expires, for as long as the service runs.
    pub fn watch(&self, left: impl Fn(&Caller) -> Option<Duration>) {
        loop {
            let seen = self.held.lock().changes;
            let next = self.sweep(&left);
            let held = self.held.lock();
            // What has come meanwhile may expire earlier.
            if held.changes != seen {
                continue;
            }
            if next == Duration::MAX {
                drop(self.changed.wait(held));
            } else {
                drop(self.changed.wait_timeout(held, next.clamp(SHORTEST, LONGEST)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::access::Role;
    use super::*;

    fn caller(who: &str) -> Caller {
        Caller { who: who.into(), role: Role::Read, by: Default::default() }
    }

    #[test]
    fn a_sweep_disconnects_those_without_a_right_and_no_others() {
        let leases = Leases::default();
        let (mut client, server) = UnixStream::pair().unwrap();
        let (other, kept) = UnixStream::pair().unwrap();
        let lease = leases.hold(&caller("gone"), &server).unwrap();
        let _kept = leases.hold(&caller("kept"), &kept).unwrap();
        let right = |caller: &Caller| (caller.who == "kept").then_some(Duration::from_secs(7));
        assert_eq!(leases.sweep(|_| Some(Duration::MAX)), Duration::MAX);
        assert_eq!(leases.sweep(right), Duration::from_secs(7));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        other.set_nonblocking(true).unwrap();
        assert_eq!((&other).read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lease);
        assert_eq!(leases.held.lock().all.len(), 1);
    }

    #[test]
    fn a_right_that_expires_ends_its_connection_without_a_change() {
        let leases: &'static Leases = Box::leak(Box::default());
        let begun = std::time::Instant::now();
        let life = Duration::from_millis(200);
        std::thread::spawn(move || leases.watch(|_| life.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())));
        let (mut client, server) = UnixStream::pair().unwrap();
        let lease = leases.hold(&caller("brief"), &server).unwrap();
        // Not even a byte of another connection is needed.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert!(begun.elapsed() >= life);
        drop(lease);
    }
}
