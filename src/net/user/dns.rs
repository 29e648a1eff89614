//! DNS look-ups: a guest's question to the network's name server, and the host's servers that are asked.
//!
//! Servers are asked in order until one replies, one second apart, or at once if the previous one has failed. Late replies
//! are accepted. If all servers have failed, or if there are none, the guest gets SERVFAIL at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::super::ports::SwitchPort;
use super::datagram::connect;
use super::share::Guest;
use crate::host::descriptors::Ticket;

/// Time after which the next server is asked as well.
const TURN: Duration = Duration::from_secs(1);

/// Maximum duration of a look-up. Guests ask again after five seconds by themselves.
const PATIENCE: Duration = Duration::from_secs(12);

/// Time for which a server is asked last after it has failed, or has not replied while another one did.
const DEAD: Duration = Duration::from_secs(60);

/// Maximum number of servers that are remembered as dead.
const MAX_DEAD: usize = 32;

/// Maximum number of datagrams that are read at a time.
const MAX_ANSWERS: usize = 64;

/// Length of a message's header (RFC 1035, 4.1.1).
pub const HEADER: usize = 12;

const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// The identity of a look-up, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The guest's port of the switch.
    pub port: SwitchPort,
    /// The guest's endpoint.
    pub guest: SocketAddr,
    /// The address of the network that was asked.
    pub server: SocketAddr,
    /// The question's identifier.
    pub number: u16,
}

/// The servers that seem to be dead.
#[derive(Debug, Default)]
pub struct Health {
    dead_until: HashMap<SocketAddr, Instant>,
}

impl Health {
    /// Moves servers that seem to be dead to the end.
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

/// The state of a look-up, after it was advanced or its replies were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no answer yet.
    Waiting,
    /// The answer.
    Answered(Vec<u8>),
}

/// A look-up; see the module's description.
#[derive(Debug)]
pub struct Lookup {
    key: Key,
    guest: Guest,
    question: Vec<u8>,
    /// Servers that have not been asked yet; the next one is last.
    servers: Vec<SocketAddr>,
    asked: Vec<Asked>,
    /// The latest reply with an error, which the guest gets if no server does better.
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

    /// Returns the identity of the look-up.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Returns `true` if the look-up is for this question.
    pub fn is_for(&self, question: &[u8]) -> bool {
        self.question == question
    }

    /// Returns the guest.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// Returns the time at which it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Returns the time at which the next server must be asked, or the guest gets SERVFAIL.
    pub fn deadline(&self) -> Instant {
        if self.servers.is_empty() { self.begun + PATIENCE } else { self.next_turn }
    }

    /// Asks the same servers again, because the guest has repeated its question.
    pub fn repeat(&self) {
        for Asked { socket, .. } in &self.asked {
            let _ = rustix::net::send(socket, &self.question, SendFlags::empty());
        }
    }

    /// Asks further servers if it is time. `watch` is called with each new socket, and returns `false` if it cannot be
    /// watched.
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
        Standing::Waiting
    }

    /// Reads the servers' replies.
    pub fn read(&mut self, scratch: &mut [u8], health: &mut Health, now: Instant) -> Standing {
        let mut place = 0;
        for _ in 0..MAX_ANSWERS {
            let Some(Asked { server, socket, .. }) = self.asked.get(place) else { break };
            match rustix::net::recv(socket, &mut *scratch, RecvFlags::empty()) {
                Ok((length, _)) => {
                    let answer = &scratch[..length.min(scratch.len())];
                    // A reply with another identifier does not belong to this question.
                    if answer.len() < HEADER || answer[..2] != self.question[..2] {
                        continue;
                    }
                    if !is_no_help(answer) {
                        // Servers that were asked before and have not replied are asked later from now on.
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
            // This server has failed, so the next one is asked at once.
            self.asked.remove(place);
            self.next_turn = now;
        }
        Standing::Waiting
    }
}

/// Returns `true` if a server reports that it failed, so that another might succeed.
fn is_no_help(answer: &[u8]) -> bool {
    const ANSWER: u8 = 0x80;
    answer[2] & ANSWER != 0 && matches!(answer[3] & 0xf, SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED)
}

/// Returns the end of the question in a message, if there is exactly one.
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

/// Returns a SERVFAIL reply (RFC 1035, 4.1.1). `question` has a header.
pub fn failure(question: &[u8]) -> Vec<u8> {
    let end = end_of_question(question);
    let mut answer = question[..end.unwrap_or(HEADER)].to_vec();
    // A reply, with the question's opcode and recursion flag; recursion is available.
    answer[2] = 0x80 | answer[2] & 0x79;
    answer[3] = 0x80 | SERVER_FAILURE;
    answer[4..HEADER].fill(0);
    answer[5] = end.is_some().into();
    answer
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
