//! The console's thread: the only one that reads or writes its backend.
//!
//! It sleeps in one poll, on its eventfd and on whatever the backend waits for. The first byte after a silence is
//! written at once; what follows within [`LINGER`] goes out together, so a guest that prints a byte per exit costs about
//! one write a millisecond and wakes nobody meanwhile.

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

/// How long output that follows on other output waits for company.
const LINGER: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// How long a backend may hold output back while nothing more comes.
const PATIENCE: Duration = Duration::from_millis(200);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// As much output does not wait longer.
const ENOUGH: usize = output::CAPACITY / 4;
/// Output that is kept for the next reader, while nobody is there: the newest.
const BACKLOG: usize = output::CAPACITY;

pub(super) struct Pump {
    pub backend: Box<dyn Backend>,
    pub output: Arc<OutputQueue>,
    pub input: Arc<ConsoleInput>,
    pub waker: Arc<Waker>,
    pub events: EventSink,
    pub batch: Batch,
    /// Since when the backend has been holding output back, with nothing more to print.
    pub held_since: Option<Instant>,
}

/// Output in the hands of the console's thread.
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

/// How the attempt to print went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// There was nothing.
    Nothing,
    /// All that there was.
    All,
    /// All, but the backend holds some of it back, for so long at most.
    Held(Duration),
    /// The sink is full.
    Blocked,
    /// Nobody is there.
    Kept,
}

/// What the poll found.
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
            // Even with more to print, look at the input: a guest that never stops must not keep its user from doing so.
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

    /// Writes what there is.
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

    /// There is nothing new: has the backend let go of what it holds back, if that was long enough.
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

    /// The sink took nothing: because it is full, or because its reader has just left.
    fn blocked(&mut self) -> Printed {
        if self.backend.sink().is_some() {
            return Printed::Blocked;
        }
        self.keep();
        Printed::Kept
    }

    /// Keeps the newest output for whoever comes next.
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
    /// Nobody waits for a console that is gone, even if this thread panicked.
    fn drop(&mut self) {
        self.output.close();
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
