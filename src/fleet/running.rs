//! A fleet whose machines run, and the thread that watches them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::log::Log;
use super::memory::{Budget, Sharing};
use super::{Event, Events, Outcome};
use crate::host::event::EventFd;
use crate::host::lock::{RwLock, RwLockReadGuard};
use crate::machine::{End, Exits, Machine, Prepared};

/// The interval at which the sizes of disk images are checked and memory is shared.
const PERIOD: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// The watching thread calls little.
const STACK: usize = 256 << 10;

/// Machines that run together. They end by themselves, or by [`stop`](Self::stop).
///
/// Once a second, it checks the sizes of disk images, and notifies the guests of those that have changed.
///
/// Dropping it ends all machines, and returns when all of their resources are released.
pub struct RunningFleet {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

struct Shared {
    members: Vec<Running>,
    log: Arc<Log>,
    /// Readable once the last machine has ended.
    ended: EventFd,
    /// Wakes the watching thread.
    wake: EventFd,
    /// `true` if the watching thread wakes by itself once a period. It does not if there are no disks to look at.
    is_periodic: AtomicBool,
}

struct Running {
    name: String,
    since: Instant,
    state: RwLock<State>,
}

enum State {
    Runs(Machine),
    /// The machine has ended, and its resources are being released.
    Ending(Exits),
    Ended(Outcome),
}

/// The present state of one machine of a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The machine's name.
    pub partition: String,
    /// The other end of its `pty` console.
    pub pty: Option<PathBuf>,
    /// Number of exits of its VPs to this process so far. `None` if it never started.
    pub exits: Option<Exits>,
    /// The end of a machine that no longer runs.
    pub outcome: Option<Outcome>,
}

impl RunningFleet {
    pub(super) fn start(ready: Vec<(String, Prepared)>, budget: Option<Budget>) -> io::Result<Self> {
        let log = Arc::new(Log::default());
        let (ended, wake) = (EventFd::new()?, EventFd::new()?);
        let mut members = Vec::new();
        for (name, machine) in ready {
            let since = Instant::now();
            let (event, state) = match machine.start() {
                Ok(machine) => (Event::started(&name, machine.pty_path().map(Into::into)), State::Runs(machine)),
                Err(error) => {
                    let outcome = Outcome::never_started(name.clone(), End::Failed(error));
                    let outcome = Outcome { time: since.elapsed(), ..outcome };
                    (outcome.clone().into(), State::Ended(outcome))
                }
            };
            let failed = matches!(state, State::Ended(_));
            log.push(event);
            members.push(Running { name, since, state: RwLock::new(state) });
            if failed {
                members.iter().for_each(|running| running.stop(End::Interrupted));
                break;
            }
        }
        let shared = Arc::new(Shared { members, log, ended, wake, is_periodic: AtomicBool::new(false) });
        let watch = {
            let shared = shared.clone();
            move || shared.watch(budget.map(Sharing::new))
        };
        // Without the thread the machines end with `shared`.
        let watcher = thread::Builder::new().name("fleet".into()).stack_size(STACK).spawn(watch)?;
        Ok(Self { shared, watcher: Some(watcher) })
    }

    /// Returns the events of the fleet, from its start on. Each call gives a listener of its own.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn events(&self) -> io::Result<Events> {
        Ok(Events::new(self.shared.log.clone(), self.shared.log.listen()?))
    }

    /// Returns the present state of each machine that was started, in the order of their start.
    pub fn status(&self) -> Vec<Status> {
        self.shared.members.iter().map(Running::status).collect()
    }

    /// Does something with a machine that runs. Returns `None` if it has ended, or if there is none of this name.
    ///
    /// The machine's end is not reported before `access` returns: do not wait for that in it.
    pub fn with<T>(&self, name: &str, access: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.shared.with(self.shared.members.iter().find(|running| running.name == name)?, access)
    }

    /// Returns handles on the machines, in the order of their start.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        (0..self.shared.members.len()).map(|index| Handle { shared: self.shared.clone(), index }).collect()
    }

    /// Ends all machines that still run, each with an end from `end`. Does not wait. A second call gives up on console output that
    /// nobody reads.
    pub fn stop(&self, end: impl Fn() -> End) {
        self.shared.members.iter().for_each(|running| running.stop(end()));
    }

    /// Becomes readable once the last machine has ended and [`wait`](Self::wait) will not block.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.shared.ended.as_fd()
    }

    /// Waits for the end of all machines, and returns how they ended, in the order in which they did.
    pub fn wait(mut self) -> Vec<Outcome> {
        self.join();
        self.shared.log.outcomes()
    }

    fn join(&mut self) {
        if self.watcher.take().map(JoinHandle::join).is_some_and(|joined| joined.is_err()) {
            log::error!("the thread that watches the machines panicked");
        }
    }
}

/// A handle on one machine of a fleet. It does not keep the machine.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    index: usize,
}

impl Handle {
    fn member(&self) -> &Running {
        &self.shared.members[self.index]
    }

    /// Returns the name of the machine.
    pub fn name(&self) -> &str {
        &self.member().name
    }

    /// Returns the time since the start of the machine.
    pub fn age(&self) -> Duration {
        self.member().since.elapsed()
    }

    /// Does something with the machine, as [`RunningFleet::with`].
    pub fn with<T>(&self, access: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.shared.with(self.member(), access)
    }

    /// Waits for the end of the machine.
    pub fn outcome(&self) -> io::Result<Option<Outcome>> {
        let events = Events::new(self.shared.log.clone(), self.shared.log.listen()?);
        let ended = |event| match event {
            Event::Ended { outcome, .. } if outcome.partition == self.name() => Some(outcome),
            _ => None,
        };
        Ok(events.into_iter().find_map(ended))
    }
}

impl Drop for RunningFleet {
    fn drop(&mut self) {
        if self.watcher.is_some() {
            self.stop(|| End::Terminated);
            self.stop(|| End::Terminated);
            self.join();
        }
    }
}

impl Shared {
    /// Releases each machine when it ends, until none runs.
    fn watch(&self, mut sharing: Option<Sharing>) {
        // Also if this thread panics, everybody who waits for the end is woken.
        let _over = Over(self);
        let mut left: Vec<_> = self.members.iter().filter(|member| member.runs()).collect();
        while !left.is_empty() {
            match self.wait_for_ends(&left, sharing.is_some()) {
                Ok(ended) => {
                    if let Some(sharing) = &mut sharing {
                        self.share_memory(sharing);
                    }
                    let (ended, others) = left.into_iter().zip(ended).partition::<Vec<_>, _>(|(_, ended)| *ended);
                    left = others.into_iter().map(|(member, _)| member).collect();
                    self.take_down(ended.iter().map(|(member, _)| *member), left.is_empty());
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    log::error!("the machines cannot be watched, and end: {error}");
                    left.iter().for_each(|member| member.stop(End::Terminated));
                    self.take_down(left.drain(..), true);
                }
            }
        }
    }

    /// Does something with a machine that runs. If that has attached its first disk, its size is looked at from now on.
    fn with<T>(&self, member: &Running, access: impl FnOnce(&Machine) -> T) -> Option<T> {
        member.with(|machine| {
            let result = access(machine);
            if !machine.disks().is_empty() && !self.is_periodic.load(Ordering::SeqCst) {
                self.wake.signal();
            }
            result
        })
    }

    /// Waits until one of the machines ends, or a period is over, if disks are to be looked at or memory is to be shared. Returns which
    /// have ended.
    fn wait_for_ends(&self, members: &[&Running], shares: bool) -> Result<Vec<bool>, Errno> {
        // Others read, too. Only this thread writes, and only after it has dropped these guards.
        let states: Vec<_> = members.iter().map(|member| member.state()).collect();
        let machines = || states.iter().filter_map(|state| state.machine());
        let mut fds: Vec<_> =
            machines().map(|machine| PollFd::from_borrowed_fd(machine.ended(), PollFlags::IN)).collect();
        fds.push(PollFd::new(&self.wake, PollFlags::IN));
        // A disk that is attached after the look wakes this thread, because it finds `false`.
        self.is_periodic.store(false, Ordering::SeqCst);
        let is_periodic = shares || machines().any(|machine| !machine.disks().is_empty());
        self.is_periodic.store(is_periodic, Ordering::SeqCst);
        if poll(&mut fds, is_periodic.then_some(&PERIOD))? == 0 {
            machines().for_each(|machine| machine.disks().check_sizes_aside());
        }
        self.wake.take();
        fds.pop();
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// Releases machines that have ended, and publishes their outcomes. `all` is `true` if no other machine runs.
    fn take_down<'a>(&self, members: impl Iterator<Item = &'a Running>, all: bool) {
        let mut members = members.peekable();
        while let Some(member) = members.next() {
            let Some(outcome) = member.take_down() else { continue };
            if all && members.peek().is_none() {
                // Signal first, so that the descriptor is readable for everybody who has seen the last event.
                self.ended.signal();
                self.log.push_last(outcome.into());
            } else {
                self.log.push(outcome.into());
            }
        }
    }

    /// Moves memory to where it is needed.
    fn share_memory(&self, sharing: &mut Sharing) {
        let uses: Vec<_> = self.members.iter().map(|member| member.with(Machine::memory_use)).collect();
        for (member, target) in self.members.iter().zip(sharing.targets(&uses)) {
            target.and_then(|bytes| member.with(|machine| machine.set_memory_target(bytes)));
        }
    }
}

impl State {
    fn machine(&self) -> Option<&Machine> {
        match self {
            Self::Runs(machine) => Some(machine),
            Self::Ending(_) | Self::Ended(_) => None,
        }
    }
}

impl Running {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn set(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.write(), state)
    }

    fn runs(&self) -> bool {
        self.state().machine().is_some()
    }

    fn with<T>(&self, access: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.state().machine().map(access)
    }

    fn stop(&self, end: End) {
        self.with(|machine| machine.stop(end));
    }

    /// Releases the machine, which has ended. Returns its outcome, or `None` if it never ran.
    fn take_down(&self) -> Option<Outcome> {
        let (time, exits) = self.with(|machine| (self.since.elapsed(), machine.exits()))?;
        let State::Runs(machine) = self.set(State::Ending(exits)) else { return None };
        let outcome = Outcome { partition: self.name.clone(), time, end: Arc::new(machine.wait()), exits: Some(exits) };
        self.set(State::Ended(outcome.clone()));
        Some(outcome)
    }

    fn status(&self) -> Status {
        let partition = self.name.clone();
        match &*self.state() {
            State::Runs(machine) => {
                let pty = machine.pty_path().map(Into::into);
                Status { partition, pty, exits: Some(machine.exits()), outcome: None }
            }
            State::Ending(exits) => Status { partition, pty: None, exits: Some(*exits), outcome: None },
            State::Ended(outcome) => {
                Status { partition, pty: None, exits: outcome.exits, outcome: Some(outcome.clone()) }
            }
        }
    }
}

/// When dropped, wakes everybody who waits for the end of the fleet.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        // After the last event, or where there was none.
        self.0.ended.signal();
        self.0.log.finish();
    }
}
