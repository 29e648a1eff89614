//! One machine, from a configuration to its end.
//!
//! ```no_run
//! use viridian::{Builder, Machine};
//!
//! let machine = Builder::new().cmdline("greeting").memory(64 << 20).cpus(2).start()?;
//! let end = machine.wait();
//! assert_eq!(end.exit_code(), 0, "{end}");
//! # Ok::<(), viridian::machine::MachineError>(())
//! ```
//!
//! A machine is a thread for each VP, and the console's. VP 0's thread also builds the machine, starts it again
//! after a reset where that is wanted, and takes it down: when it ends, nothing of the machine is left.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) mod builder;
pub mod check;
pub(crate) mod end;
mod error;
pub(crate) mod events;
mod exits;
pub(crate) mod guest;
mod incarnation;
pub mod interface;
mod interrupts;
mod over;
mod own;
mod pausing;
mod prepared;
mod processors;
mod report;
mod services;
mod test_device;
mod trace;

pub use crate::console::{Capture, NotSeen, NotTyped};
pub use builder::Builder;
pub use end::{EXIT_CODES, End, code};
pub use error::MachineError;
pub use events::{Event, Events, Failure};
pub use exits::Exits;
pub use guest::{AccessError, Guest, kvm_regs, kvm_sregs};
pub use pausing::PauseError;
pub use prepared::Prepared;

use builder::{CallSetup, ConsoleUse, Extras};

use crate::config::{Config, OnReset};
use crate::console::{Console, ConsoleConfig, ConsoleEvent};
use crate::engine::{Engine, Tracer};
use crate::host::event::EventFd;
use crate::host::lock::{Mutex, MutexGuard, RwLock};
use crate::host::{limited, records};
use crate::kvm::gate::Gate;
use crate::vmbus::bus::{self, FailureSink, VmBus};
use crate::vsp::network::nics::Nics;
use crate::vsp::services::set::Services;
use crate::vsp::storage::disks::Disks;
use events::Announcer;
use exits::Counters;
use guest::Life;
use own::OwnDevices;

/// A running machine.
///
/// Dropping it ends the run.
pub struct Machine {
    shared: Arc<Shared>,
    capture: Option<Capture>,
    thread: Option<JoinHandle<End>>,
    watchdog: Option<JoinHandle<()>>,
}

/// What the threads of a machine share.
struct Shared {
    config: Config,
    tracer: Option<Arc<Tracer>>,
    /// What each life's hypercalls are beside the standard ones.
    calls: Vec<CallSetup>,
    /// The devices of the library's user.
    own: OwnDevices,
    announcer: Arc<Announcer>,
    /// The exits of each VP.
    exits: Vec<Counters>,
    /// What is to be reached of the guest's present life.
    life: RwLock<Option<Arc<Life>>>,
    /// Its devices outlive resets.
    vmbus: VmBus,
    disks: Disks,
    nics: Nics,
    services: Services,
    gate: Arc<Gate>,
    /// Held by whoever pauses the machine, until it is paused.
    pausing: Mutex<()>,
    state: Mutex<State>,
    /// Readable once the machine is gone.
    ended: EventFd,
    /// There from before the first VP runs.
    console: OnceLock<Console>,
}

#[derive(Default)]
struct State {
    /// How the guest's present life ended; a restart may follow.
    end: Option<End>,
    /// Somebody outside ended the run: no restart follows.
    stopped: bool,
    /// The engine of the present life, once its VPs run.
    engine: Option<Arc<dyn Engine>>,
    /// Whether the machine is to be paused, also in its next life.
    paused: bool,
    /// Whether the engine's time stands still.
    time_stands: bool,
}

impl Machine {
    /// Starts a machine. It runs when this returns.
    ///
    /// # Errors
    /// What is wrong with the settings or the files that they name, or what the host refuses.
    pub fn start(config: &Config) -> Result<Self, MachineError> {
        Self::build(config, Extras::default(), Gate::new())?.watched()
    }

    /// Builds a machine, whose VPs run as soon as the gate is open.
    fn build(config: &Config, extras: Extras, gate: Gate) -> Result<Self, MachineError> {
        let gate = Arc::new(gate);
        let Extras { console, devices, calls, own, end_on_failure } = extras;
        let announcer = Arc::new(Announcer::new(&config.name));
        let failed = |source| MachineError::Descriptor { what: "an eventfd", source };
        records::survive_file_size_limit();
        let tracer = trace::tracer(config, console == ConsoleUse::Labelled)?;
        let vmbus = VmBus::new(bus::Settings {
            gate: gate.clone(),
            name: config.name.clone(),
            max_version: config.vmbus_max_version,
            tracer: trace::vmbus(tracer.as_ref()),
            failures: FailureSink::new({
                let announcer = announcer.clone();
                move |failure| announcer.failed(failure.into())
            }),
        });
        let vps = config.cpus.topology()?.vps();
        // The primary channel is one VP's.
        let subchannels = vps.saturating_sub(1) as u16;
        let disks = Disks::new(vmbus.clone(), subchannels, trace::storage(tracer.as_ref()));
        disks.attach_all(&config.machine_disks())?;
        let channels = subchannels.saturating_add(1);
        let nics = Nics::new(vmbus.clone(), &config.name, channels, trace::network(tracer.as_ref()));
        nics.attach_all(&config.machine_networks())?;
        for device in devices {
            vmbus.offer(device)?;
        }
        let services = services::offer(&vmbus, &config.services, &announcer)?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            calls,
            own,
            announcer,
            exits: (0..vps).map(|_| Counters::default()).collect(),
            life: RwLock::default(),
            tracer,
            vmbus,
            disks,
            nics,
            services,
            state: Mutex::new(State { paused: !gate.is_open(), ..State::default() }),
            gate,
            pausing: Mutex::default(),
            ended: EventFd::new().map_err(failed)?,
            console: OnceLock::new(),
        });
        if end_on_failure {
            shared.announcer.end_on_failure(Arc::downgrade(&shared));
        }
        // Weak: the console belongs to what it reports to.
        let machine = Arc::downgrade(&shared);
        let report = move |event| {
            if let Some(shared) = machine.upgrade() {
                shared.console_event(event);
            }
        };
        let (console, capture) = match console {
            ConsoleUse::Captured => {
                let (console, capture) = Console::capture();
                (console, Some(capture))
            }
            ConsoleUse::Labelled if config.console == ConsoleConfig::Stdio => {
                (Console::labelled(&config.name, report)?, None)
            }
            ConsoleUse::Labelled | ConsoleUse::Configured => (Console::open(&config.console, report)?, None),
        };
        console.pty_path().inspect(|path| log::warn!("{}: the console is at {}", config.name, path.display()));
        let _ = shared.console.set(console);
        let (report, started) = mpsc::sync_channel(1);
        let body = {
            let shared = shared.clone();
            move || shared.live(report)
        };
        let thread = thread_named(&config.name, 0).spawn(body).map_err(MachineError::Thread)?;
        let mut machine = Self { shared, capture, thread: Some(thread), watchdog: None };
        match started.recv() {
            Ok(()) => Ok(machine),
            // The thread ended without a word of success: how it ended says why.
            Err(mpsc::RecvError) => match machine.join() {
                End::Failed(error) => Err(error),
                end => Err(MachineError::Defect(format!("the machine never ran: {end}"))),
            },
        }
    }

    /// Waits for the end. Nothing of the machine is left when this returns.
    pub fn wait(mut self) -> End {
        self.join()
    }

    /// Waits for the end at most this long. The machine back if it still runs.
    ///
    /// # Errors
    /// The machine still runs.
    pub fn wait_timeout(self, time: Duration) -> Result<End, Self> {
        match self.shared.is_over_within(time) {
            true => Ok(self.wait()),
            false => Err(self),
        }
    }

    /// Becomes readable once the machine is gone and [`wait`](Self::wait) will not block.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.shared.ended.as_fd()
    }

    /// Ends the run from outside. The first end counts; a second call gives up on console output that nobody reads.
    pub fn stop(&self, end: End) {
        self.shared.stop(end);
    }

    /// Stops the guest, its time, and everything that works for it: when this returns, no thread of the process writes to the
    /// guest's memory. Disk requests that were under way have ended, or wait between two steps. A machine that is paused
    /// already stays so.
    ///
    /// # Errors
    /// See [`PauseError`].
    pub fn pause(&self) -> Result<(), PauseError> {
        self.shared.pause()
    }

    /// Lets the VPs and the guest's time go on.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Returns a handle on the guest: its memory, registers and interrupts.
    pub fn guest(&self) -> Guest {
        Guest::new(Arc::downgrade(&self.shared))
    }

    /// Returns the machine's events, from its start on. Each call gives a listener of its own.
    ///
    /// ```no_run
    /// # use viridian::{Builder, Machine, machine::Event};
    /// let machine = Builder::new().kernel("my-kernel").start()?;
    /// for event in machine.events() {
    ///     match event {
    ///         Event::Failed(failure) => eprintln!("{failure}"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// // There are no more: it has ended.
    /// println!("{}", machine.wait());
    /// # Ok::<(), viridian::machine::MachineError>(())
    /// ```
    pub fn events(&self) -> Events {
        self.shared.announcer.events()
    }

    /// Returns how often the VPs have left the guest for Viridian so far. The count is final once the machine has
    /// [ended](Self::ended).
    pub fn exits(&self) -> Exits {
        exits::sum(&self.shared.exits)
    }

    /// The machine's VMBus, to offer and rescind devices while it runs.
    pub fn vmbus(&self) -> &VmBus {
        &self.shared.vmbus
    }

    /// The machine's disks, to attach and detach some while it runs, and to have the guest notice new sizes.
    pub fn disks(&self) -> &Disks {
        &self.shared.disks
    }

    /// The machine's network adapters, to plug and unplug cables, and to attach and detach some while it runs.
    pub fn nics(&self) -> &Nics {
        &self.shared.nics
    }

    /// The console of a machine that was built to [capture](builder::Builder::capture_console) it.
    pub fn console(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// The path of the other end of a `pty` console.
    pub fn pty_path(&self) -> Option<&Path> {
        self.shared.console.get().and_then(Console::pty_path)
    }

    /// The same machine, whose time starts now.
    fn watched(mut self) -> Result<Self, MachineError> {
        let time = self.shared.config.timeout;
        self.watchdog = time.map(|time| self.watch(time.duration())).transpose()?;
        Ok(self)
    }

    /// Ends the run when its time is over.
    fn watch(&self, time: Duration) -> Result<JoinHandle<()>, MachineError> {
        let shared = self.shared.clone();
        let watch = move || {
            if !shared.is_over_within(time) {
                shared.stop(End::TimedOut(time));
            }
        };
        thread::Builder::new().name("watchdog".into()).spawn(watch).map_err(MachineError::Thread)
    }

    fn join(&mut self) -> End {
        let end = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(end)) => end,
            Some(Err(_)) => End::Failed(MachineError::Defect("a machine's thread panicked".into())),
            None => End::Failed(MachineError::Defect("a machine was joined twice".into())),
        };
        // It ends with the machine, and a panic of its own changes nothing about how that ended.
        let _ = self.watchdog.take().map(JoinHandle::join);
        limited::finish(&self.shared.config.name);
        end
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop(End::Terminated);
            self.stop(End::Terminated);
            self.join();
        }
    }
}

impl Shared {
    /// The whole run, on VP 0's thread: one life of the guest, and another after each reset where that is wanted.
    fn live(self: Arc<Self>, started: mpsc::SyncSender<()>) -> End {
        // Also when this thread panics: whoever waits for the end must learn of it.
        let _over = over::Over(&self);
        // A pause waits for what is written to the memory of a new life.
        let mut building = self.gate.join(Box::new(pausing::NeverAsleep));
        loop {
            if let Err(error) = incarnation::live(&self, building, &started) {
                self.end_life(End::Failed(error));
            }
            // Before the gate is reopened: a pause that waits for the next life waits until it is built.
            building = self.gate.join(Box::new(pausing::NeverAsleep));
            if let Some(end) = self.end_or_restart() {
                drop(building);
                self.gate.finish();
                return self.finish_console(end);
            }
            let name = &self.config.name;
            limited::info!(of: name, "{name}: the guest asked for a reset: it starts again");
            self.announcer.restarted();
        }
    }

    /// How the run ended; none after opening the gate for another life.
    fn end_or_restart(&self) -> Option<End> {
        let mut state = self.state();
        let end = state.end.take();
        if matches!(end, Some(End::Reset)) && self.config.on_reset == OnReset::Restart {
            self.gate.reopen();
            if state.paused {
                self.gate.close();
            }
            return None;
        }
        end.or_else(|| Some(End::Failed(MachineError::Defect("the VPs ended without a reason".into()))))
    }

    /// A life's VPs are about to run, on this engine.
    fn begin(&self, engine: Option<Arc<dyn Engine>>) {
        let mut state = self.state();
        (state.engine, state.time_stands) = (engine, false);
        if state.paused {
            state.stop_time();
        }
    }

    /// The engine's life is over.
    fn end_engine(&self) {
        let engine = self.state().engine.take();
        // Without the lock: its threads end here, and they may want it.
        engine.inspect(|engine| engine.shut_down());
    }

    /// Ends the guest's present life. The first end counts.
    fn end_life(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        self.gate.stop();
    }

    /// Ends the run, and not only the guest's present life, from a device or a handler.
    fn end_run(&self, end: End) {
        self.set_end(&mut self.state(), end);
    }

    fn set_end(&self, state: &mut State, end: End) {
        match state.end {
            Some(End::Reset) if self.config.on_reset == OnReset::Restart => state.end = Some(end),
            _ => drop(state.end.get_or_insert(end)),
        }
        self.gate.stop();
    }

    /// Ends the run from outside.
    fn stop(&self, end: End) {
        let mut state = self.state();
        self.set_end(&mut state, end);
        if std::mem::replace(&mut state.stopped, true) {
            self.console.get().inspect(|console| console.cancel());
        }
    }

    fn has_timed_out(&self) -> bool {
        matches!(self.state().end, Some(End::TimedOut(_)))
    }

    /// Whether somebody outside ended the run, for whom there is more to tell in the log.
    fn was_ended_by_a_signal(&self) -> bool {
        matches!(self.state().end, Some(End::Interrupted | End::Terminated))
    }

    /// Whether the machine is gone, or will be within this time.
    fn is_over_within(&self, time: Duration) -> bool {
        let deadline = Instant::now().checked_add(time);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let Ok(is_over) = self.ended.is_signalled_within(left) {
                return is_over;
            } // interrupted
        }
    }

    /// Waits for the last output to reach its reader. A run that was ended from outside waits a moment only.
    fn finish_console(&self, end: End) -> End {
        const PATIENCE: Duration = Duration::from_millis(250);
        let outside = self.state().stopped;
        let deadline = outside.then(|| Instant::now() + PATIENCE);
        let written = self.console.get().is_none_or(|console| console.finish(deadline));
        self.tracer.iter().for_each(|tracer| tracer.finish());
        if !written && outside {
            log::warn!("{}: the last output of the guest was not read, and is lost", self.config.name);
        }
        // A write that fails after the guest's end spoils the end: the output is not complete.
        let end = match self.state().end.take() {
            Some(failure @ End::Failed(_)) => failure,
            _ => end,
        };
        self.console.get().inspect(|console| console.end(&end.to_string()));
        end
    }

    /// What the console tells: also while [`finish_console`](Self::finish_console) waits for it.
    fn console_event(&self, event: ConsoleEvent) {
        match event {
            ConsoleEvent::Quit => self.stop(End::Interrupted),
            ConsoleEvent::Failed(error) => self.end_life(End::Failed(error.into())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Thread names have 15 bytes; the VP's number matters more than the end of the partition's name.
fn thread_named(name: &str, vp: u32) -> thread::Builder {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(9).collect();
    thread::Builder::new().name(format!("{name}/vp{vp}"))
}
