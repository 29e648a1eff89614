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

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) mod builder;
#[doc(hidden)]
pub mod check;
mod devices;
pub(crate) mod end;
mod error;
pub(crate) mod events;
mod exits;
pub(crate) mod guest;
mod incarnation;
#[doc(hidden)]
pub mod interface;
mod interrupts;
mod memory;
mod over;
mod own;
mod parts;
mod pausing;
mod prepared;
mod processors;
mod report;
mod run;
mod services;
mod test_device;
mod trace;

pub use crate::console::{Capture, NotSeen, NotTyped};
pub use builder::Builder;
pub use end::End;
#[doc(hidden)]
pub use end::{EXIT_CODES, code};
pub use error::MachineError;
pub use events::{DeviceEvent, Event, Events, Failure};
pub use exits::Exits;
pub use guest::{AccessError, Guest, kvm_regs, kvm_sregs};
pub(crate) use memory::MemoryUse;
pub use pausing::PauseError;
pub use prepared::Prepared;

pub use crate::vsp::screen::set::{Screen, ScreenError};
pub use crate::vsp::video::picture::Picture;

use builder::{CallSetup, ConsoleUse, Extras};

use crate::config::Config;
use crate::console::{Attached, Console, ConsoleConfig, ConsoleDevice, NotAttached, Part};
use crate::device::{Device, Devices, Registration};
use crate::engine::{Engine, TraceWriter};
use crate::host::event::EventFd;
use crate::host::lock::{Mutex, RwLock};
use crate::host::{limited, records};
use crate::hyperv::features::EngineKind;
use crate::kvm::gate::Gate;
use crate::vmbus::bus::{self, ConnectSink, FailureSink, VmBus};
use devices::{Providers, Setup};
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

/// State that the threads of a machine share.
struct Shared {
    config: Config,
    tracer: Arc<TraceWriter>,
    /// Hypercalls of the library's user, which are added in each life.
    calls: Vec<CallSetup>,
    /// The devices of the library's user.
    own: OwnDevices,
    announcer: Arc<Announcer>,
    /// The exits of each VP.
    exits: Vec<Counters>,
    /// The accessible parts of the guest's current life.
    life: RwLock<Option<Arc<Life>>>,
    /// Its devices outlive resets.
    vmbus: VmBus,
    providers: Providers,
    devices: Devices,
    /// The devices that are the machine's own.
    joined: Mutex<Vec<Registration>>,
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
    /// The end of the guest's current life. A restart may follow.
    end: Option<End>,
    /// The run was ended from outside, so no restart follows.
    stopped: bool,
    /// The host wants the guest's next reset to start it again, whatever the settings say.
    restarts: bool,
    /// Number of times that the guest has started again.
    restarted: u64,
    /// The engine of the present life, once its VPs run.
    engine: Option<Arc<dyn Engine>>,
    /// Its kind.
    engine_kind: Option<EngineKind>,
    /// Whether the machine should be paused, also in its next life.
    paused: bool,
    /// Whether the engine's time is stopped.
    time_stands: bool,
}

impl Machine {
    /// Starts a machine. It runs when this returns.
    ///
    /// # Errors
    /// Returns an error if the settings or the files that they name are invalid, or if the host refuses something.
    pub fn start(config: &Config) -> Result<Self, MachineError> {
        Self::build(config, Extras::default(), Gate::new())?.watched()
    }

    /// Builds a machine, whose VPs run as soon as the gate is open.
    fn build(config: &Config, extras: Extras, gate: Gate) -> Result<Self, MachineError> {
        config.check_conflicts()?;
        let gate = Arc::new(gate);
        let Extras { console, devices: offered, calls, own, end_on_failure } = extras;
        let announcer = Arc::new(Announcer::new(&config.name));
        let failed = |source| MachineError::Descriptor { what: "an eventfd", source };
        records::survive_file_size_limit();
        let tracer = trace::tracer(config, console == ConsoleUse::Labelled)?;
        let devices = Devices::new(!gate.is_open(), announcer.outlet());
        let vmbus = VmBus::new(bus::Settings {
            gate: gate.clone(),
            devices: devices.clone(),
            name: config.name.clone(),
            max_version: config.vmbus_max_version,
            tracer: Some(trace::lines(&tracer, crate::vmbus::trace::KIND)),
            connects: ConnectSink::default(),
            failures: FailureSink::new({
                let announcer = announcer.clone();
                move |failure| announcer.failed(failure.into())
            }),
        });
        let vps = config.cpus.topology()?.vps();
        let setup = Setup { config, vmbus: &vmbus, devices: &devices, tracer: &tracer, vps };
        let providers = Providers::new(&setup)?;
        let joined = devices::join(&devices, [vmbus.as_device()])?;
        for device in offered {
            vmbus.offer(device)?;
        }
        let shared = Arc::new(Shared {
            config: config.clone(),
            calls,
            own,
            announcer,
            exits: (0..vps).map(|_| Counters::default()).collect(),
            life: RwLock::default(),
            tracer,
            vmbus,
            devices,
            joined: Mutex::new(joined),
            providers,
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
        let at_end = config.console_at_end.as_deref().map(|path| console.keep_last(path)).transpose();
        at_end.map_err(MachineError::ConsoleAtEnd)?;
        console.pty_path().inspect(|path| log::warn!("{}: the console is at {}", config.name, path.display()));
        let device = ConsoleDevice {
            destination: (capture.is_none()).then(|| config.console.clone()),
            pty: console.pty_path().map(Path::to_owned),
        };
        let joined = devices::join(&shared.devices, [Arc::new(device) as Arc<dyn Device>])?;
        shared.joined.lock().extend(joined);
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
            // The thread ended without reporting success: the way it ended says why.
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

    /// Continues the VPs and the guest's time.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Resets the machine: the guest starts again, whatever the settings say about resets.
    pub(crate) fn reset(&self) {
        self.shared.reset();
    }

    /// Sets whether the next reset by the guest starts it again, whatever the settings say.
    pub(crate) fn restart_at_reset(&self, restarts: bool) {
        self.shared.state().restarts = restarts;
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

    /// The console of a machine that was built to [capture](builder::Builder::capture_console) it.
    pub fn console(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// Attaches a client to the console. Returns `None` if there is none yet.
    pub(crate) fn attach_console(&self, part: Part) -> Option<Result<Attached, NotAttached>> {
        self.shared.console.get().map(|console| console.attach(part))
    }

    /// The path of the other end of a `pty` console.
    pub fn pty_path(&self) -> Option<&Path> {
        self.shared.console.get().and_then(Console::pty_path)
    }

    /// Starts the time limit of the machine.
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
        // The watchdog ends with the machine. Its own panic does not change the machine's end.
        let _ = self.watchdog.take().map(JoinHandle::join);
        limited::finish(&self.shared.config.name);
        end
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Machine").field("name", &self.shared.config.name).finish_non_exhaustive()
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

/// Thread names have 15 bytes; the VP's number matters more than the end of the partition's name.
fn thread_named(name: &str, vp: u32) -> thread::Builder {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(9).collect();
    thread::Builder::new().name(format!("{name}/vp{vp}"))
}
