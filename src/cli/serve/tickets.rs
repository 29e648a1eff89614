//! Tickets: what a browser shows in place of the token to open a WebSocket, for which it cannot set headers.
//!
//! Who has a ticket has asked for it with the token just before. It is for one WebSocket, so it is worth nothing in a log.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::access::Caller;
use super::lock::Mutex;

/// The time for which a ticket is valid.
pub const LIFE: Duration = Duration::from_secs(30);
/// Maximum number of tickets. If there are more, the oldest are not valid any more.
const MAX: usize = 256;
/// Bytes of a ticket.
const LENGTH: usize = 16;

/// The tickets that are valid.
#[derive(Default)]
pub struct Tickets(Mutex<VecDeque<Ticket>>);

struct Ticket {
    secret: String,
    caller: Caller,
    until: Instant,
}

impl Tickets {
    /// Issues a ticket.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn issue(&self, caller: &Caller) -> io::Result<String> {
        self.issue_for(caller, LIFE)
    }

    fn issue_for(&self, caller: &Caller, life: Duration) -> io::Result<String> {
        let mut bytes = [0; LENGTH];
        let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if count < LENGTH {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut tickets = self.0.lock();
        let caller = caller.clone();
        tickets.push_back(Ticket { secret: secret.clone(), caller, until: Instant::now() + life });
        let surplus = tickets.len().saturating_sub(MAX);
        tickets.drain(..surplus);
        Ok(secret)
    }

    /// Takes a ticket. Returns who has asked for it, or `None` if it is not valid.
    pub fn redeem(&self, given: &str) -> Option<Caller> {
        let mut tickets = self.0.lock();
        let now = Instant::now();
        tickets.retain(|ticket| ticket.until > now);
        let place = tickets.iter().position(|ticket| is_same(&ticket.secret, given))?;
        tickets.remove(place).map(|ticket| ticket.caller)
    }
}

/// Compares two secrets. The time that this takes does not depend on how much of them is equal.
pub fn is_same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::super::access::Role;
    use super::*;

    fn caller() -> Caller {
        Caller { who: "ci".into(), role: Role::Operate, by: Default::default() }
    }

    #[test]
    fn a_ticket_is_valid_once_and_for_some_time() {
        let tickets = Tickets::default();
        let ticket = tickets.issue(&caller()).unwrap();
        assert_eq!((tickets.redeem(""), tickets.redeem(&ticket[1..])), (None, None));
        assert_eq!(tickets.redeem(&ticket), Some(caller()));
        assert_eq!(tickets.redeem(&ticket), None);
        let late = tickets.issue_for(&caller(), Duration::ZERO).unwrap();
        assert_eq!(tickets.redeem(&late), None);
    }

    #[test]
    fn there_are_not_too_many_tickets() {
        let tickets = Tickets::default();
        let all: Vec<_> = (0..=MAX).map(|_| tickets.issue(&caller()).unwrap()).collect();
        assert_eq!((tickets.redeem(&all[0]), tickets.redeem(&all[1])), (None, Some(caller())));
    }
}
