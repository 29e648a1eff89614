//! Limits for the requests of each caller, so that one in a loop leaves the service to others.
//!
//! Each caller of an address has a bucket of turns, which fills at a constant rate, and a number of requests at once. The user at the
//! Unix socket has no limits: whoever is that user can do more harm by other means.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::access::Caller;
use super::error::Problem;
use super::lock::Mutex;

/// Requests per second that a caller may make for any time.
const RATE: f64 = 500.0;
/// Requests that a caller may make at once after a pause.
const BURST: f64 = 5000.0;
/// Requests of a caller that are answered at the same time. An address has 128 connections.
const AT_ONCE: u32 = 96;
/// Of these, those that follow events, consoles and screens. An address has places for 64.
const LASTING: u32 = 48;
/// Maximum number of callers that are remembered. Those without requests are forgotten first, the longest idle one before others.
const MAX_CALLERS: usize = 1024;
/// The time after which a caller that was refused can try again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// The name and the address of a caller.
type Key = (String, IpAddr);

/// The requests of all callers.
#[derive(Default)]
pub struct Pace(Mutex<BTreeMap<Key, Bucket>>);

/// The requests of a caller.
#[derive(Clone, Debug)]
struct Bucket {
    /// Turns that are left.
    turns: f64,
    /// When there were as many.
    at: Instant,
    /// Requests that are being answered.
    open: u32,
    /// Those of them that last.
    lasting: u32,
}

/// A request that is being answered, until this is dropped.
pub struct Turn<'a> {
    pace: &'a Pace,
    key: Key,
    lasts: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(bucket) = self.pace.0.lock().get_mut(&self.key) {
            bucket.open -= 1;
            bucket.lasting -= u32::from(self.lasts);
        }
    }
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { turns: BURST, at: now, open: 0, lasting: 0 }
    }

    /// Takes a turn, or returns why there is none.
    fn take(&mut self, lasts: bool, now: Instant) -> Result<(), &'static str> {
        self.turns = (self.turns + now.saturating_duration_since(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = self.at.max(now);
        if self.turns < 1.0 {
            return Err("too many requests in a short time");
        }
        if self.open >= AT_ONCE {
            return Err("too many requests that are not answered yet");
        }
        if lasts && self.lasting >= LASTING {
            return Err("too many streams of events, consoles and screens");
        }
        self.turns -= 1.0;
        self.open += 1;
        self.lasting += u32::from(lasts);
        Ok(())
    }
}

impl Pace {
    /// Begins a request.
    ///
    /// # Errors
    /// Returns an error if the caller makes too many.
    pub fn begin(&self, caller: &Caller, address: IpAddr, lasts: bool) -> Result<Turn<'_>, Problem> {
        self.begin_at(caller, address, lasts, Instant::now())
    }

    fn begin_at(&self, caller: &Caller, address: IpAddr, lasts: bool, now: Instant) -> Result<Turn<'_>, Problem> {
        let key = (caller.who.clone(), address);
        let mut all = self.0.lock();
        if all.len() >= MAX_CALLERS && !all.contains_key(&key) {
            let idle = all.iter().filter(|(_, bucket)| bucket.open == 0).min_by_key(|(_, bucket)| bucket.at);
            let idle = idle.map(|(key, _)| key.clone());
            idle.map(|key| all.remove(&key));
        }
        let bucket = all.entry(key.clone()).or_insert_with(|| Bucket::full(now));
        bucket.take(lasts, now).map_err(|reason| Problem::too_fast(format!("{} makes {reason}", caller.who)))?;
        Ok(Turn { pace: self, key, lasts })
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::Role;
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_caller_in_a_loop_is_refused_and_others_are_not() {
        let pace = Pace::default();
        let now = Instant::now();
        let one = Caller::lasting("one", Role::Read);
        let can = |caller: &Caller, last, now| pace.begin_at(caller, address(last), false, now).is_ok();
        let done = (0..10_000).filter(|_| can(&one, 1, now)).count();
        assert_eq!(done, BURST as usize);
        assert!(can(&Caller::lasting("other", Role::Read), 1, now), "another caller of the address");
        assert!(can(&one, 2, now), "the caller at another address");
        let problem = pace.begin_at(&one, address(1), false, now).err().unwrap();
        assert_eq!((problem.status, problem.kind), (429, "too-fast"));
        assert!(problem.message.contains("one makes too many requests"), "{problem}");
        // It goes on at the rate, and can save up as much as before.
        let done = |now| (0..10_000).filter(|_| can(&one, 1, now)).count();
        assert_eq!(done(now + PAUSE), RATE as usize);
        assert_eq!(done(now + Duration::from_secs(86_400)), BURST as usize);
    }

    #[test]
    fn requests_at_once_and_streams_are_limited_until_they_end() {
        let pace = Pace::default();
        let caller = Caller::lasting("one", Role::Read);
        let begin = |lasts| pace.begin(&caller, address(1), lasts);
        let mut streams: Vec<_> = (0..LASTING).map(|_| begin(true).ok().unwrap()).collect();
        assert!(begin(true).is_err());
        let others: Vec<_> = (LASTING..AT_ONCE).map(|_| begin(false).ok().unwrap()).collect();
        assert!(begin(false).is_err());
        streams.pop();
        assert!(begin(true).is_ok());
        drop((streams, others));
        let bucket = pace.0.lock().values().next().cloned().unwrap();
        assert_eq!((bucket.open, bucket.lasting), (0, 0));
    }

    #[test]
    fn callers_are_forgotten_but_not_those_with_requests() {
        let pace = Pace::default();
        let busy = Caller::lasting("busy", Role::Read);
        let now = Instant::now();
        let turn = pace.begin_at(&busy, address(1), false, now).ok().unwrap();
        for number in 0..2 * MAX_CALLERS as u32 {
            let at = now + Duration::from_millis(number.into());
            drop(pace.begin_at(&busy, IpAddr::V4(number.into()), false, at).ok().unwrap());
        }
        assert_eq!(pace.0.lock().len(), MAX_CALLERS);
        assert!(pace.0.lock().contains_key(&turn.key));
        drop(turn);
    }
}
