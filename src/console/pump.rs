//! The console's thread, which does all I/O of its backend.
//!
//! It sleeps in one poll, on its eventfd and on the descriptors of the backend. The first byte after a pause is written
//! at once. Output that follows within [`LINGER`] is written together, so a guest that prints one byte per exit causes
//! about one write per millisecond and no other wake-ups.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smallvec::SmallVec;

use super::backend::{Backend, Typed};
use super::input::{self, ConsoleInput};
use super::output::{self, OutputQueue};
use super::wake::Waker;
use super::{ConsoleError, ConsoleEvent, EventSink};

/// The time for which output that follows other output is collected.
const LINGER: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// The maximum time for which a backend holds output back.
const PATIENCE: Duration = Duration::from_millis(200);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Amount of output that is not delayed further.
const ENOUGH: usize = output::CAPACITY / 4;
/// Maximum amount of output that is kept for the next reader while there is none.
const BACKLOG: usize = output::CAPACITY;

pub(super) struct Pump {
    pub backend: Box<dyn Backend>,
    pub output: Arc<OutputQueue>,
    pub input: Arc<ConsoleInput>,
    pub waker: Arc<Waker>,
    pub events: EventSink,
    pub batch: Batch,
    /// The time since which the backend holds output back with nothing more to print.
    pub held_since: Option<Instant>,
}

/// Output that the console's thread has taken.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    written: usize,
}

impl Batch {
    fn is_done(&self) -> bool {
        self.written == self.bytes.len()
    }
}

/// The result of an attempt to print.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// There was nothing to print.
    Nothing,
    /// Everything was written.
    All,
    /// Everything was accepted, but the backend holds some of it back, at most for this time.
    Held(Duration),
    /// The sink is full.
    Blocked,
    /// There is no reader.
    Kept,
}

/// The result of the poll.
#[derive(Default)]
struct Ready {
    source: bool,
    notices: bool,
    hang_up: bool,
    door: bool,
}

impl Pump {
    /// Runs until the output is closed.
    pub fn run(mut self) {
        while !self.output.is_closed() {
            let printed = self.print();
            let (wake_at, timeout) = match printed {
                Printed::Nothing => (1, None),
                Printed::All => (ENOUGH, Some(LINGER)),
                Printed::Held(time) => (1, Timespec::try_from(time).ok()),
                Printed::Kept => (ENOUGH, None),
                Printed::Blocked => (usize::MAX, None),
            };
            // Input is checked even if there is more to print, so that a guest that never stops printing can be
            // stopped.
            let in_flight = printed == Printed::Blocked || self.backend.holds();
            let glance = self.backend.glance().and_then(|time| Timespec::try_from(time).ok());
            let timeout = timeout.map_or(glance, |time| Some(glance.map_or(time, |glance| glance.min(time))));
            let sleeps = self.output.may_sleep(wake_at, in_flight);
            let ready = self.poll(printed, if sleeps { timeout } else { Some(AT_ONCE) });
            if ready.notices {
                self.backend.heed();
            }
            if ready.hang_up {
                self.backend.hang_up();
            }
            if ready.door {
                self.backend.open_door();
            }
            if ready.source {
                self.read();
            }
        }
    }

    /// Writes the output.
    fn print(&mut self) -> Printed {
        if self.backend.sink().is_none() {
            return self.blocked();
        }
        if self.batch.is_done() {
            self.batch.written = 0;
            self.batch.bytes.clear();
            self.output.take(&mut self.batch.bytes);
        }
        if self.batch.is_done() {
            return self.print_held();
        }
        self.held_since = None;
        while !self.batch.is_done() {
            match self.backend.write(&self.batch.bytes[self.batch.written..]) {
                Ok(count) => self.batch.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.blocked(),
                Err(source) => {
                    self.fail(source);
                    return Printed::Nothing;
                }
            }
        }
        Printed::All
    }

    /// If nothing new has arrived for long enough, makes the backend write what it holds back.
    fn print_held(&mut self) -> Printed {
        if !self.backend.holds() {
            return Printed::Nothing;
        }
        let left = PATIENCE.saturating_sub(self.held_since.get_or_insert_with(Instant::now).elapsed());
        if !left.is_zero() && !self.output.is_finishing() {
            return Printed::Held(left);
        }
        match self.backend.let_go() {
            Ok(()) => self.held_since = None,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Printed::Held(Duration::ZERO),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Printed::Blocked,
            Err(source) => self.fail(source),
        }
        Printed::Nothing
    }

    /// Handles a sink that accepts nothing, because it is full or because its reader has just left.
    fn blocked(&mut self) -> Printed {
        if self.backend.sink().is_some() {
            return Printed::Blocked;
        }
        self.keep();
        Printed::Kept
    }

    /// Keeps the newest output for the next reader.
    fn keep(&mut self) {
        let mut news = Vec::new();
        self.output.take(&mut news);
        self.batch.bytes.drain(..std::mem::take(&mut self.batch.written));
        self.batch.bytes.append(&mut news);
        let surplus = self.batch.bytes.len().saturating_sub(BACKLOG);
        self.batch.bytes.drain(..surplus);
    }

    fn fail(&mut self, source: std::io::Error) {
        self.output.close();
        let (to, advice) = self.backend.explain(&source);
        (self.events)(ConsoleEvent::Failed(ConsoleError::Write { to, source, advice }));
    }

    fn poll(&self, printed: Printed, timeout: Option<Timespec>) -> Ready {
        let mut fds: SmallVec<[PollFd<'_>; 5]> = SmallVec::new();
        fds.push(PollFd::new(&*self.waker, PollFlags::IN));
        let mut add = |fd, flags| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            fds.len() - 1
        };
        let source = self.backend.source().filter(|_| self.input.room() > 0).map(|fd| add(fd, PollFlags::IN));
        let writing = if printed == Printed::Blocked { PollFlags::OUT } else { PollFlags::empty() };
        let sink = self.backend.sink().filter(|_| !writing.is_empty() || self.backend.has_visitors());
        let sink = sink.map(|fd| add(fd, writing));
        let door = self.backend.door().map(|fd| add(fd, PollFlags::IN));
        let notices = self.backend.notices().map(|fd| add(fd, PollFlags::IN));
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Ready::default();
        }
        if !fds[0].revents().is_empty() {
            self.waker.clear();
        }
        let found = |index: Option<usize>| index.map_or(PollFlags::empty(), |index| fds[index].revents());
        Ready {
            source: !found(source).is_empty(),
            notices: !found(notices).is_empty(),
            hang_up: found(sink).intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
            door: !found(door).is_empty(),
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; input::CAPACITY];
        let room = self.input.room();
        match self.backend.read(&mut buffer[..room]) {
            Typed::Bytes(count) => self.input.put(&buffer[..count]),
            Typed::Quit => (self.events)(ConsoleEvent::Quit),
        }
    }
}

impl Drop for Pump {
    /// Releases waiting threads, even if this thread panicked.
    fn drop(&mut self) {
        self.output.close();
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
