//! Authentication of requests: by the user of this host, a token or a certificate. Wrong tokens are counted for each address. The rights
//! of callers end, and their requests have limits.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::access::{Access, Caller, Credential, NewEntry, Role};
use super::address::Peer;
use super::connections::Client;
use super::error::Problem;
use super::http::Request;
use super::leases::{Lease, Leases};
use super::lock::Mutex;
use super::pace::{Pace, Turn};
use super::store::{Store, random};
use super::tickets::is_same;
use crate::cli::tls::digest;

/// Wrong tokens of an address, after which more of them are refused as too many for a while.
const PATIENCE: u32 = 10;
/// Time after which one of them is forgotten.
pub const FORGET: Duration = Duration::from_secs(6);
/// Maximum number of addresses that are remembered. The one that has been quiet for longest is forgotten.
const MAX_ADDRESSES: usize = 1024;
/// Validity of the code that `--open` prints.
const CODE: Duration = Duration::from_secs(600);
/// Validity of the token that the page gets for it.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Maximum number of such tokens. The oldest ends.
const MAX_SESSIONS: usize = 16;

/// Decides who a request comes from.
pub struct Guard {
    access: Mutex<Access>,
    /// The token of the user of the service.
    own: Option<String>,
    page: Mutex<Page>,
    failures: Mutex<Failures>,
    leases: Leases,
    pace: Pace,
}

/// What opens the page without a token.
#[derive(Default)]
struct Page {
    /// The code that is used once.
    code: Option<(String, Instant)>,
    /// Tokens that were given for codes.
    sessions: Vec<(String, Instant)>,
}

impl Guard {
    /// Reads who may do what.
    ///
    /// # Errors
    /// Returns an error if the file is broken.
    pub fn open(store: &Store, own: Option<String>) -> io::Result<Self> {
        let access = Mutex::new(Access::load(store)?);
        let (page, failures, leases, pace) = Default::default();
        Ok(Self { access, own, page, failures, leases, pace })
    }

    /// Returns who a request comes from.
    ///
    /// # Errors
    /// Returns an error if that is unknown, or if there were too many wrong tokens.
    pub fn admit(&self, client: &Client, request: &Request) -> Result<Caller, Problem> {
        if let Peer::User(user) = client.peer {
            return Ok(Caller::lasting(format!("user {user}"), Role::Administer));
        }
        let address = address(client);
        if let Some(token) = bearer(request) {
            return self.guess(address, || self.by_token(token));
        }
        let Some(certificate) = &client.certificate else { return Err(Problem::unauthorized()) };
        self.access.lock().by_certificate(certificate).ok_or_else(|| {
            let fingerprint = digest(certificate);
            Problem::unauthorized_with(format!("nobody has given the certificate sha256:{fingerprint} a role"))
                .with_remedy("ask an administrator for viridian access add NAME --role ROLE --certificate FILE")
        })
    }

    /// Tries a token. A right one is accepted whatever others at the address have tried: they share it behind a proxy, for example.
    fn guess<T>(&self, address: IpAddr, find: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        if let Some(found) = find() {
            return Ok(found);
        }
        let now = Instant::now();
        let mut failures = self.failures.lock();
        if failures.are_too_many(address, now) {
            let text = format!("there were too many wrong tokens from {}", address.to_canonical());
            return Err(Problem::too_many(text).with_remedy(format!("try again in {} seconds", FORGET.as_secs())));
        }
        failures.add(address, now);
        Err(Problem::unauthorized())
    }

    fn by_token(&self, token: &str) -> Option<Caller> {
        if self.own.as_ref().is_some_and(|own| is_same(own, token)) {
            return Some(Caller::lasting("token file", Role::Administer));
        }
        if self.page.lock().knows(token, Instant::now()) {
            let by = Credential::Session(token.to_owned());
            return Some(Caller { who: "page session".into(), role: Role::Administer, by });
        }
        self.access.lock().by_token(&digest(token.as_bytes()))
    }

    /// Returns how long a caller keeps its role: `None` if it has lost it.
    fn left(&self, caller: &Caller) -> Option<Duration> {
        match &caller.by {
            Credential::Lasting => Some(Duration::MAX),
            Credential::Session(token) => self.page.lock().left(token, Instant::now()),
            Credential::Entry(proof) => self.access.lock().left(&caller.who, proof, caller.role),
        }
    }

    /// Returns `true` if a caller that was known still is.
    pub fn still_knows(&self, caller: &Caller) -> bool {
        self.left(caller).is_some()
    }

    /// Disconnects a caller when its right ends, until the result is dropped.
    ///
    /// # Errors
    /// Returns an error if the right has just ended, or if the host has no descriptors left.
    pub fn hold(&self, caller: &Caller, stream: &UnixStream) -> Result<Option<Lease<'_>>, Problem> {
        if caller.by == Credential::Lasting {
            return Ok(None);
        }
        let lease = self.leases.hold(caller, stream).map_err(|error| Problem::host(error.to_string()))?;
        // It may have been withdrawn after it was looked up, and before it was held.
        if !self.still_knows(caller) {
            return Err(Problem::unauthorized());
        }
        Ok(Some(lease))
    }

    /// Begins a request of a caller.
    ///
    /// # Errors
    /// Returns an error if the caller makes too many.
    pub fn begin(&self, client: &Client, caller: &Caller, lasts: bool) -> Result<Option<Turn<'_>>, Problem> {
        match client.peer {
            Peer::User(_) => Ok(None),
            _ => self.pace.begin(caller, network(address(client)), lasts).map(Some),
        }
    }

    /// Disconnects callers whose right has just ended.
    fn sweep(&self) {
        self.leases.sweep(|caller| self.left(caller));
    }

    /// Disconnects callers whose right expires, for as long as the service runs.
    pub fn watch(&self) {
        self.leases.watch(|caller| self.left(caller));
    }

    /// Returns a new code, for which the page gets a token once.
    ///
    /// # Errors
    /// Returns an error if the host has no random numbers.
    pub fn code(&self) -> io::Result<String> {
        let code = random()?;
        self.page.lock().code = Some((code.clone(), Instant::now() + CODE));
        Ok(code)
    }

    /// Returns a token for the code that a request has.
    ///
    /// # Errors
    /// Returns an error if the request has none, or not the right one.
    pub fn enter(&self, client: &Client, request: &Request) -> Result<String, Problem> {
        let code = bearer(request).ok_or_else(Problem::unauthorized)?;
        self.guess(address(client), || self.page.lock().take(code, Instant::now()).then_some(()))?;
        let token = random().map_err(|error| Problem::host(error.to_string()))?;
        self.page.lock().add(token.clone(), Instant::now());
        // The oldest one may have ended.
        self.sweep();
        Ok(token)
    }

    /// See [`Access::add`].
    pub fn add(&self, store: &Store, name: &str, new: &NewEntry) -> Result<Value, Problem> {
        let added = self.access.lock().add(store, name, new)?;
        self.sweep();
        Ok(added)
    }

    /// See [`Access::remove`].
    pub fn remove(&self, store: &Store, name: &str) -> Result<(), Problem> {
        self.access.lock().remove(store, name)?;
        self.sweep();
        Ok(())
    }

    /// See [`Access::to_json`].
    pub fn to_json(&self) -> Value {
        self.access.lock().to_json()
    }
}

impl Page {
    /// Returns `true` if this is the code, which is used up then.
    fn take(&mut self, code: &str, now: Instant) -> bool {
        let is_it = self.code.as_ref().is_some_and(|(own, end)| now < *end && is_same(own, code));
        if is_it {
            self.code = None;
        }
        is_it
    }

    fn add(&mut self, token: String, now: Instant) {
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push((token, now + SESSION));
    }

    fn knows(&self, token: &str, now: Instant) -> bool {
        self.left(token, now).is_some()
    }

    /// Returns how long a token is valid.
    fn left(&self, token: &str, now: Instant) -> Option<Duration> {
        let (_, end) = self.sessions.iter().find(|(own, _)| is_same(own, token))?;
        end.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

/// The wrong tokens of each address.
#[derive(Default)]
struct Failures(BTreeMap<IpAddr, (u32, Instant)>);

impl Failures {
    /// Returns `true` if an address has tried too many wrong tokens.
    fn are_too_many(&mut self, address: IpAddr, now: Instant) -> bool {
        let network = network(address);
        let left = self.0.get(&network).map_or(0, |(count, since)| left(*count, *since, now));
        if left == 0 {
            self.0.remove(&network);
        }
        left >= PATIENCE
    }

    fn add(&mut self, address: IpAddr, now: Instant) {
        let network = network(address);
        let before = self.0.get(&network).map_or(0, |(count, since)| left(*count, *since, now));
        if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&network) {
            let oldest = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address);
            oldest.map(|address| self.0.remove(&address));
        }
        self.0.insert(network, (before + 1, now));
    }
}

/// Returns the address of a client. Clients of this host have the same one.
fn address(client: &Client) -> IpAddr {
    match client.peer {
        Peer::User(_) | Peer::Other(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Peer::Address(address) => address,
    }
}

/// Returns how many of the failures until a time are not forgotten yet.
fn left(count: u32, since: Instant, now: Instant) -> u32 {
    let forgotten = now.saturating_duration_since(since).as_secs() / FORGET.as_secs();
    count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
}

/// Returns the address, or what all IPv6 addresses of a host have in common.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        other => other,
    }
}

/// Returns the token of a request.
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_wrong_tokens_waits_and_others_do_not() {
        let mut failures = Failures::default();
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let now = Instant::now();
        for _ in 0..PATIENCE {
            assert!(!failures.are_too_many(one, now));
            failures.add(one, now);
        }
        assert!(failures.are_too_many(one, now));
        assert!(!failures.are_too_many(other, now));
        assert!(!failures.are_too_many(one, now + FORGET));
        failures.add(one, now + FORGET);
        assert!(failures.are_too_many(one, now + FORGET));
        assert!(!failures.are_too_many(one, now + FORGET * 11));
        assert!(failures.0.is_empty(), "all is forgotten");
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_the_memory_is_bounded() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let parse = |text: &str| -> IpAddr { text.parse().unwrap() };
        for host in 0..PATIENCE {
            failures.add(parse(&format!("2001:db8::{host:x}")), now);
        }
        assert!(failures.are_too_many(parse("2001:db8::ffff"), now));
        assert!(!failures.are_too_many(parse("2001:db8:0:1::1"), now));
        assert_eq!(network(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
        for number in 0..2 * MAX_ADDRESSES as u32 {
            failures.add(IpAddr::V4(number.into()), now + Duration::from_millis(number.into()));
        }
        assert_eq!(failures.0.len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_code_opens_the_page_once_and_ends() {
        let now = Instant::now();
        let mut page = Page { code: Some(("abc".into(), now + CODE)), sessions: Vec::new() };
        assert!(!page.take("abd", now) && !page.take("ab", now) && !page.take("abc", now + CODE));
        assert!(page.take("abc", now));
        assert!(!page.take("abc", now));
        page.add("t".into(), now);
        assert!(page.knows("t", now) && !page.knows("t", now + SESSION) && !page.knows("u", now));
        assert_eq!((page.left("t", now), page.left("t", now + SESSION)), (Some(SESSION), None));
        for number in 0..MAX_SESSIONS {
            page.add(number.to_string(), now);
        }
        assert!(!page.knows("t", now) && page.sessions.len() == MAX_SESSIONS);
    }
}
