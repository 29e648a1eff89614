//! Look-ups: a question that a guest asks of the network's name server, and the host's servers that are asked for it.
//!
//! One server after the other is asked until one answers, a second apart, or at once where the last one is not there. An answer that comes late is as
//! good as any. When all have failed, or there are none, the guest is told so (SERVFAIL) instead of waiting.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::super::ports::SwitchPort;
use super::budget::Ticket;
use super::datagram::connect;
use super::share::Guest;

/// How long a server has before the next one is asked as well.
const TURN: Duration = Duration::from_secs(1);

/// How long a look-up takes at most. Guests ask again after five seconds, by themselves.
const PATIENCE: Duration = Duration::from_secs(12);

/// How long a server that did not answer where another did is asked last.
const DEAD: Duration = Duration::from_secs(60);

/// How many servers are remembered as dead.
const MAX_DEAD: usize = 32;

/// How many datagrams are read at a time, whatever servers send.
const MAX_ANSWERS: usize = 64;

/// Length of a message's header (RFC 1035, 4.1.1).
pub const HEADER: usize = 12;

const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// A look-up, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where the guest is.
    pub port: SwitchPort,
    /// Who asks.
    pub guest: SocketAddr,
    /// Which of the network's addresses is asked.
    pub server: SocketAddr,
    /// The question's number.
    pub number: u16,
}

/// Which servers were found to be dead.
#[derive(Debug, Default)]
pub struct Health {
    dead_until: HashMap<SocketAddr, Instant>,
}

impl Health {
    /// Puts those that seem to be dead last.
    pub fn sort(&self, servers: &mut [SocketAddr], now: Instant) {
        servers.sort_by_key(|server| self.dead_until.get(server).is_some_and(|until| *until > now));
    }

    fn mark(&mut self, server: SocketAddr, now: Instant) {
        if self.dead_until.len() >= MAX_DEAD {
            self.dead_until.retain(|_, until| *until > now);
        }
        if self.dead_until.len() < MAX_DEAD {
            self.dead_until.insert(server, now + DEAD);
        }
    }
}

/// A server that has been asked.
#[derive(Debug)]
struct Asked {
    server: SocketAddr,
    socket: OwnedFd,
    _ticket: Ticket,
}

/// What is left of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No answer yet.
    Waits,
    /// Here it is.
    Answered(Vec<u8>),
}

/// See the module's description.
#[derive(Debug)]
pub struct Lookup {
    key: Key,
    guest: Guest,
    question: Vec<u8>,
    /// Those that have not been asked yet, the next one last.
    servers: Vec<SocketAddr>,
    asked: Vec<Asked>,
    /// What a server said that could not help.
    no_help: Option<Vec<u8>>,
    next_turn: Instant,
    begun: Instant,
}

impl Lookup {
    /// Creates a look-up for which no server has been asked yet.
    pub fn new(key: Key, guest: Guest, question: &[u8], mut servers: Vec<SocketAddr>, now: Instant) -> Self {
        servers.reverse();
        let question = question.to_vec();
        Self { key, guest, question, servers, asked: Vec::new(), no_help: None, next_turn: now, begun: now }
    }

    /// Returns the look-up, as the guest sees it.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Returns `true` if it is that question that is looked up.
    pub fn is_for(&self, question: &[u8]) -> bool {
        self.question == question
    }

    /// Who wants to know.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// Returns when it was begun.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Returns when the next server is to be asked, or the guest to be told that there is no answer.
    pub fn deadline(&self) -> Instant {
        if self.servers.is_empty() { self.begun + PATIENCE } else { self.next_turn }
    }

    /// The guest asks once more: so are those that have been asked.
    pub fn repeat(&self) {
        for Asked { socket, .. } in &self.asked {
            let _ = rustix::net::send(socket, &self.question, SendFlags::empty());
        }
    }

    /// Asks further servers, if it is time. `watch` is given each new socket, and false if it cannot be watched.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        health: &mut Health,
        mut ticket: impl FnMut() -> Option<Ticket>,
        watch: impl Fn(BorrowedFd<'_>) -> bool,
    ) -> Standing {
        while now >= self.next_turn {
            let Some(server) = self.servers.pop() else { break };
            let Some(ticket) = ticket() else { break };
            let asked = connect(server, None).and_then(|socket| {
                rustix::net::send(&socket, &self.question, SendFlags::empty())?;
                Ok(socket)
            });
            match asked {
                Ok(socket) if watch(socket.as_fd()) => {
                    self.asked.push(Asked { server, socket, _ticket: ticket });
                    self.next_turn = now + TURN;
                }
                _ => health.mark(server, now),
            }
        }
        let nobody_left = self.servers.is_empty() && self.asked.is_empty();
        if nobody_left || now >= self.begun + PATIENCE {
            return Standing::Answered(self.no_help.take().unwrap_or_else(|| failure(&self.question)));
        }
        Standing::Waits
    }

    /// Reads what servers have answered.
    pub fn read(&mut self, scratch: &mut [u8], health: &mut Health, now: Instant) -> Standing {
        let mut place = 0;
        for _ in 0..MAX_ANSWERS {
            let Some(Asked { server, socket, .. }) = self.asked.get(place) else { break };
            match rustix::net::recv(socket, &mut *scratch, RecvFlags::empty()) {
                Ok((length, _)) => {
                    let answer = &scratch[..length.min(scratch.len())];
                    // Whatever has another number is no answer to this.
                    if answer.len() < HEADER || answer[..2] != self.question[..2] {
                        continue;
                    }
                    if !is_no_help(answer) {
                        // Those that were asked before and have said nothing are asked later from now on.
                        self.asked[..place].iter().for_each(|silent| health.mark(silent.server, now));
                        return Standing::Answered(answer.to_vec());
                    }
                    self.no_help = Some(answer.to_vec());
                }
                Err(Errno::AGAIN) => {
                    place += 1;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(_) => health.mark(*server, now),
            }
            // This one has nothing more to say: it is the next one's turn.
            self.asked.remove(place);
            self.next_turn = now;
        }
        Standing::Waits
    }
}

/// Returns `true` if a server says that it cannot find out, so that another might.
fn is_no_help(answer: &[u8]) -> bool {
    const ANSWER: u8 = 0x80;
    answer[2] & ANSWER != 0 && matches!(answer[3] & 0xf, SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED)
}

/// Returns where the question in a message ends, if it is one question.
fn end_of_question(message: &[u8]) -> Option<usize> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut place = HEADER;
    loop {
        match *message.get(place)? {
            0 => break,
            length @ 1..=63 => place += 1 + usize::from(length),
            _ => return None,
        }
    }
    // Type and class.
    (place + 5 <= message.len()).then_some(place + 5)
}

/// Returns an answer that says that the server has failed (RFC 1035, 4.1.1). `question` has a header.
pub fn failure(question: &[u8]) -> Vec<u8> {
    let end = end_of_question(question);
    let mut answer = question[..end.unwrap_or(HEADER)].to_vec();
    // An answer; what was asked, and whether recursion was wanted, as in the question; recursion is available.
    answer[2] = 0x80 | answer[2] & 0x79;
    answer[3] = 0x80 | SERVER_FAILURE;
    answer[4..HEADER].fill(0);
    answer[5] = end.is_some().into();
    answer
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
