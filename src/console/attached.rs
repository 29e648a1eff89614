//! Clients that are attached to the console of a running machine: any number of them watch, and one types.
//!
//! The newest output is kept once for all of them. A client that is attached gets it first, and then what follows. One that
//! reads too slowly loses the oldest output, and finds a note in its place: it slows nobody down. What the machine's own
//! console reads and types is independent of this.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::input::{self, ConsoleInput};
use super::wake::Waker;
use crate::host::lock::Mutex;

/// Number of bytes of output that are kept.
const KEPT: usize = 64 << 10;
/// Maximum number of bytes that a client gets at a time.
const PIECE: usize = 16 << 10;

#[derive(Default)]
struct State {
    /// The newest output.
    kept: VecDeque<u8>,
    /// Number of bytes of all output so far.
    printed: u64,
    /// There will be no more.
    is_over: bool,
    clients: Vec<Client>,
    /// The client that types.
    typist: Option<u64>,
    next_id: u64,
}

struct Client {
    id: u64,
    waker: Arc<Waker>,
    /// The client has read everything, and must be woken for new output.
    sleeps: bool,
}

impl State {
    fn wake_all(&mut self) {
        for client in &mut self.clients {
            if std::mem::take(&mut client.sleeps) {
                client.waker.wake();
            }
        }
    }
}

/// The newest output of a console, and the clients that are attached to it.
#[derive(Default)]
pub(super) struct History(Mutex<State>);

impl History {
    /// Appends output. Never blocks.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.printed += bytes.len() as u64;
        state.kept.extend(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = state.kept.len().saturating_sub(KEPT);
        state.kept.drain(..surplus);
        state.wake_all();
    }

    /// Returns the newest output.
    pub fn kept(&self) -> Vec<u8> {
        self.0.lock().kept.iter().copied().collect()
    }

    /// Ends the output.
    pub fn end(&self) {
        let mut state = self.0.lock();
        state.is_over = true;
        state.wake_all();
    }
}

/// The part of a client at the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The client only watches.
    Watch,
    /// The client also types, unless another one does.
    Type,
    /// The client also types. If another one types, that one can only watch from then on.
    TakeOver,
}

/// The reason why a client is not attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAttached {
    /// Another client types.
    #[error("another client types at this console; watch it (--read-only), or take the keyboard over (--take)")]
    Taken,
    /// The host lacks a descriptor.
    #[error("the host has no descriptor for another client: {0}")]
    Host(#[from] io::Error),
}

/// The result of reading a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is output.
    Output,
    /// There is none at present. The descriptor becomes readable when there is some.
    Nothing,
    /// There will be no more.
    Over,
}

/// An attached client. Its descriptor is readable if it has something to do. Dropping it detaches it.
pub(crate) struct Attached {
    history: Arc<History>,
    input: Arc<ConsoleInput>,
    waker: Arc<Waker>,
    id: u64,
    /// Number of bytes of output before what it reads next.
    position: u64,
    /// Whether the client types, as of its last notification.
    types: bool,
}

impl Attached {
    pub(super) fn new(history: Arc<History>, input: Arc<ConsoleInput>, part: Part) -> Result<Self, NotAttached> {
        let waker = Arc::new(Waker::new()?);
        let mut state = history.0.lock();
        let types = part != Part::Watch;
        if part == Part::Type && state.typist.is_some() {
            return Err(NotAttached::Taken);
        }
        let id = state.next_id;
        state.next_id += 1;
        let position = state.printed - state.kept.len() as u64;
        state.clients.push(Client { id, waker: waker.clone(), sleeps: false });
        if types {
            state.typist = Some(id);
            input.wake_for_room(Some(waker.clone()));
            // Notify the client that typed before.
            state.wake_all();
        }
        drop(state);
        Ok(Self { history, input, waker, id, position, types })
    }

    /// Clears all previous wakes. Call it when the descriptor is readable, and then look again.
    pub fn clear(&self) {
        self.waker.clear();
    }

    /// Appends the next output to `bytes`, which must be empty, and notes about what is missing there.
    pub fn read(&mut self, bytes: &mut Vec<u8>) -> Seen {
        let mut state = self.history.0.lock();
        if self.types && state.typist != Some(self.id) {
            self.types = false;
            bytes.extend(b"\r\n[viridian: another client has taken the keyboard over; this one only watches now]\r\n");
        }
        let first = state.printed - state.kept.len() as u64;
        if self.position < first {
            let lost = first - self.position;
            bytes.extend(format!("\r\n[viridian: {lost} bytes are missing here: the reader was too slow]\r\n").bytes());
            self.position = first;
        }
        let from = (self.position - first) as usize;
        let to = state.kept.len().min(from + PIECE);
        bytes.extend(state.kept.range(from..to));
        self.position += (to - from) as u64;
        if !bytes.is_empty() {
            return Seen::Output;
        }
        if state.is_over {
            return Seen::Over;
        }
        let me = state.clients.iter_mut().find(|client| client.id == self.id);
        me.into_iter().for_each(|client| client.sleeps = true);
        Seen::Nothing
    }

    /// Returns how many bytes may be typed. If there is no room, the descriptor becomes readable when there is some. What one
    /// types who only watches is dropped.
    pub fn room(&self) -> usize {
        if self.types { self.input.room() } else { input::CAPACITY }
    }

    /// Types, if it is this client that types.
    pub fn type_bytes(&self, bytes: &[u8]) {
        if self.history.0.lock().typist == Some(self.id) {
            self.input.put(bytes);
        }
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut state = self.history.0.lock();
        state.clients.retain(|client| client.id != self.id);
        if state.typist == Some(self.id) {
            state.typist = None;
            self.input.wake_for_room(None);
        }
    }
}

#[cfg(test)]
#[path = "attached_tests.rs"]
mod tests;
