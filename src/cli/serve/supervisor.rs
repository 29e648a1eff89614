//! The supervisor: it keeps the machines, one thread for each that is not stopped.
//!
//! The thread starts the process, follows its events, waits for its end, and starts it again if the policy says so. No lock is held
//! while a machine or a disk is waited for, so a machine that hangs delays nobody.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use viridian::process::limit_remedy;

use super::budget::{Budget, bounds};
use super::cgroup::Groups;
use super::definition::Definition;
use super::error::Problem;
use super::event_log::EventLog;
use super::jobs::Jobs;
use super::lock::{Condvar, Mutex, MutexGuard};
use super::machine::{Machine, Running, State, is_by_host};
use super::process::{Places, Process};
use super::store::Store;
use crate::cli::client::{Failure, Remote};

/// Stack of a thread. It makes requests, and no more.
pub const STACK: usize = 256 << 10;
/// Delay before the next attempt to reach a machine that starts.
pub const RETRY: Duration = Duration::from_millis(20);
/// Delay if it does not for a while.
pub const SLOW_RETRY: Duration = Duration::from_secs(1);

/// All machines, by name.
pub type Machines = BTreeMap<String, Machine>;

/// The supervisor.
pub struct Supervisor {
    /// The definitions.
    pub store: Store,
    /// The events.
    pub events: EventLog,
    /// The jobs.
    pub jobs: Jobs,
    /// The directories of the machines' files.
    pub places: Places,
    /// Files in the state directory that are no definitions.
    pub unknown: Vec<(PathBuf, String)>,
    program: PathBuf,
    /// Where machines get their shares of the host.
    pub groups: Option<Groups>,
    /// The memory that machines share.
    pub budget: Option<Budget>,
    machines: Mutex<Machines>,
    /// Told of each change of a machine.
    pub changed: Condvar,
    /// Held while a definition is written.
    pub writing: Mutex<()>,
    /// Held while a meter is written.
    pub meter_writer: Mutex<()>,
}

impl Supervisor {
    /// Reads the definitions, adopts the machines that run, and starts those that start with the service.
    ///
    /// # Errors
    /// Returns an error if the definitions cannot be read.
    pub fn start(
        store: Store,
        places: Places,
        program: PathBuf,
        groups: Option<Groups>,
        budget: Option<Budget>,
    ) -> io::Result<Arc<Self>> {
        let found = store.load_all()?;
        for (path, reason) in &found.unknown {
            log::warn!("{}: ignored: {reason}", path.display());
        }
        for (name, definition) in &found.machines {
            if let Err(problem) = definition {
                log::warn!("the definition of {name} is broken: {problem}");
            }
        }
        let machine = |(name, definition): (String, _)| {
            let mut machine = Machine::new(definition);
            machine.meter = store.meter(&name);
            (name, machine)
        };
        let machines = found.machines.into_iter().map(machine).collect();
        let supervisor = Arc::new(Self {
            store,
            events: EventLog::new(),
            jobs: Jobs::new(),
            places,
            unknown: found.unknown,
            program,
            groups,
            budget,
            machines: Mutex::new(machines),
            changed: Condvar::default(),
            writing: Mutex::default(),
            meter_writer: Mutex::default(),
        });
        supervisor.place_all_members();
        supervisor.adopt()?;
        supervisor.share_memory()?;
        Ok(supervisor)
    }

    fn adopt(self: &Arc<Self>) -> io::Result<()> {
        let mut started = self.places.started()?;
        let mut tasks = Vec::new();
        for (name, process) in self.places.find()? {
            started.retain(|other| *other != name);
            tasks.push((name, Task::Watch(process)));
        }
        tasks.extend(started.into_iter().map(|name| (name, Task::Decide)));
        let mut machines = self.machines.lock();
        for (name, task) in &tasks {
            let without = || Machine::new(Err(Problem::not_found("its definition is not there any more")));
            let machine = machines.entry(name.clone()).or_insert_with(without);
            machine.kept(State::Starting);
            if matches!(task, Task::Watch(_)) {
                machine.adopted_bytes = self.places.settings(name).map(|config| bounds(&config.memory));
                self.adopt_members(&mut machines, name);
            }
        }
        drop(machines);
        for (name, task) in tasks {
            if let Task::Watch(process) = &task {
                self.events.add(json!({ "event": "adopted", "machine": name, "process": process.id }));
            }
            self.keep(name, task);
        }
        self.autostart()
    }

    /// Returns the machines, which nobody else can use meanwhile.
    pub fn machines(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock()
    }

    /// Waits until something holds for a machine, or until the time is over.
    pub fn wait(&self, name: &str, limit: Duration, is_so: impl Fn(&Machine) -> bool) -> bool {
        let begun = Instant::now();
        let mut machines = self.machines.lock();
        loop {
            if machines.get(name).is_none_or(&is_so) {
                return true;
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return false;
            }
            machines = self.changed.wait_timeout(machines, left);
        }
    }

    /// Wakes all threads that wait for a change.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Changes a machine, and tells all who wait, and those who follow the events if its state is another one.
    ///
    /// # Errors
    /// Returns an error if there is no such machine, and that of the function.
    pub fn change<T>(&self, name: &str, how: impl FnOnce(&mut Machine) -> Result<T, Problem>) -> Result<T, Problem> {
        let mut machines = self.machines.lock();
        let machine = machines.get_mut(name).ok_or_else(|| Problem::no_machine(name))?;
        let before = machine.state();
        let result = how(machine);
        let after = machine.state();
        if before != after {
            let end = if matches!(after, "stopped" | "waiting") { machine.end.clone() } else { Value::Null };
            let process = machine.process.as_ref().map(|process| process.id);
            self.events
                .add(json!({ "event": "state", "machine": name, "state": after, "process": process, "end": end }));
        }
        drop(machines);
        self.changed.notify_all();
        result
    }

    /// Begins to start a machine that is stopped or waits.
    ///
    /// # Errors
    /// Returns an error if its state or its definition does not allow it.
    pub fn begin(self: &Arc<Self>, name: &str) -> Result<(), Problem> {
        let needs_thread = self.change(name, |machine| match (machine.state, &machine.definition) {
            _ if machine.lab.is_some() => Self::of_lab(name, machine).map(|()| false),
            (State::Stopped, Err(problem)) => Err(Problem::state(format!("the definition is broken: {problem}"))
                .with_remedy("replace it by PUT, or remove it by DELETE")),
            (State::Stopped | State::Waiting(_), _) => Ok(machine.wanted()),
            (State::Stopping, _) => Err(Problem::state(format!("{name} is stopping")).with_remedy("wait for its end")),
            (State::Starting | State::Running, _) => {
                machine.goes_on(false);
                Ok(false)
            }
        })?;
        if needs_thread {
            self.keep(name.to_owned(), Task::Start);
        }
        Ok(())
    }

    /// Starts a machine that is stopped, after a delay.
    pub fn start_after(self: &Arc<Self>, name: &str, delay: Duration) {
        let needs_thread = self.change(name, |machine| {
            Ok(machine.state == State::Stopped && machine.kept(State::Waiting(Instant::now() + delay)))
        });
        if needs_thread == Ok(true) {
            self.keep(name.to_owned(), Task::Wait);
        }
    }

    /// Returns the machine's own socket.
    ///
    /// # Errors
    /// Returns an error if the machine does not run.
    pub fn remote(&self, name: &str) -> Result<Remote, Problem> {
        let machines = self.machines.lock();
        let machine = machines.get(name).ok_or_else(|| Problem::no_machine(name))?;
        if let Some(members) = &machine.members {
            let message = format!("{name} is a lab of {} machines", members.len());
            return Err(Problem::state(message).with_remedy(format!("name one of them: {}", members.join(", "))));
        }
        match machine.state {
            State::Running | State::Stopping => Ok(self.socket(name)),
            _ => Err(Problem::state(format!("{name} is {}", machine.state())).with_remedy("start it first")),
        }
    }

    /// Returns the socket of a machine, on which perhaps nobody listens.
    pub fn socket(&self, name: &str) -> Remote {
        Remote::at(name, self.places.socket(name))
    }

    /// Starts the thread of a machine.
    fn keep(self: &Arc<Self>, name: String, task: Task) {
        let (supervisor, thread_name) = (self.clone(), name.clone());
        let keep = move || {
            // The panic's message is already on standard error.
            if catch_unwind(AssertUnwindSafe(|| supervisor.run(&thread_name, task))).is_err() {
                supervisor.give_up(&thread_name, "the service's own code panicked");
            }
        };
        if let Err(error) = thread::Builder::new().name("machine".into()).stack_size(STACK).spawn(keep) {
            self.give_up(&name, &format!("no thread can be started: {error}"));
        }
    }

    /// Notes that a machine has no thread, and why.
    fn give_up(&self, name: &str, reason: &str) {
        let _ = self.change(name, |machine| {
            machine.ended(failed(reason));
            machine.state = State::Stopped;
            machine.has_thread = false;
            Ok(())
        });
    }

    fn run(self: &Arc<Self>, name: &str, mut task: Task) {
        loop {
            let end = match task {
                Task::Start => match self.spawn(name) {
                    Ok(process) => self.watch(name, process, true),
                    Err(problem) => {
                        let remedy = problem.remedy.map(|remedy| format!("; {remedy}"));
                        failed(&(problem.message + remedy.as_deref().unwrap_or_default()))
                    }
                },
                Task::Watch(process) => {
                    let adopted = self.note(name, &process);
                    if let Err(error) = adopted {
                        log::warn!("{name}: {error}");
                    }
                    self.watch(name, process, false)
                }
                Task::Decide => self.end_of(name),
                Task::Wait => Value::Null,
            };
            if end != Value::Null {
                self.ended(name, end);
            }
            if !self.waits_for_start(name) {
                return;
            }
            task = Task::Start;
        }
    }

    fn spawn(&self, name: &str) -> Result<Process, Problem> {
        // The file may have been changed by hand.
        let definition = self.store.load(name)?;
        let resources = definition.treatment.resources();
        self.prepare_lab(name, &definition)?;
        self.admit(name, &resources)?;
        self.admit_memory(name, definition.startup_bytes())?;
        let process = self.places.start(&self.program, name, &definition);
        let mut process = process.map_err(|error| Problem::host(format!("its process cannot be started: {error}")))?;
        if let Some(groups) = &self.groups {
            groups.place(name, &resources, process.id).inspect_err(|_| {
                process.discard();
                self.places.forget(name);
            })?;
        }
        self.change(name, |machine| {
            machine.definition = Ok(definition);
            Ok(())
        })?;
        self.note(name, &process)?;
        self.balance();
        self.mark(name, true);
        Ok(process)
    }

    /// Notes the process of a machine.
    fn note(&self, name: &str, process: &Process) -> Result<(), Problem> {
        let handle = process.handle().map_err(|error| Problem::host(error.to_string()))?;
        self.change(name, |machine| {
            machine.process = Some(Running { id: process.id, handle });
            let size = machine.definition.as_ref().ok().map(Definition::startup_bytes);
            machine.startup_bytes = machine.startup_bytes.or(size);
            machine.since = Some(Instant::now());
            Ok(())
        })?;
        Self::note_members(&mut self.machines(), name, process).map_err(|error| Problem::host(error.to_string()))
    }

    /// Follows a machine to the end of its process, and returns how it has ended.
    fn watch(self: &Arc<Self>, name: &str, mut process: Process, mut is_new: bool) -> Value {
        let members = self.machines().get(name).and_then(|machine| machine.members.clone());
        if let Some(members) = members {
            return self.watch_lab(name, process, &members, is_new);
        }
        let remote = self.socket(name);
        let begun = Instant::now();
        // Often at first: most machines are soon there.
        while !process.wait((begun.elapsed() / 8).clamp(RETRY, SLOW_RETRY)) {
            if self.meet(name, &remote, process.id) {
                self.follow(name, &remote, is_new);
                is_new = false;
            }
        }
        self.places.end(name)
    }

    /// Asks a machine for its state, and notes that it runs. Returns `false` if it does not answer, or if it is not that of the process.
    pub fn meet(&self, name: &str, remote: &Remote, process: u32) -> bool {
        let summary = match remote.get("/") {
            Ok(summary) => summary,
            Err(failure) => {
                if matches!(failure, Failure::Slow(_)) {
                    self.note_silence(name);
                }
                return false;
            }
        };
        // Another machine of the name, which the user has started, has another process.
        if summary["process"] != process {
            return false;
        }
        let _ = self.change(name, |machine| {
            let age = Duration::try_from_secs_f64(summary["seconds"].as_f64().unwrap_or_default());
            machine.since = age.ok().and_then(|age| Instant::now().checked_sub(age)).or(machine.since);
            machine.summary = summary;
            machine.answers = true;
            if machine.state == State::Starting {
                machine.state = State::Running;
            }
            Ok(())
        });
        true
    }

    fn ended(&self, name: &str, end: Value) {
        if let Some(groups) = &self.groups {
            groups.remove(name);
        }
        let is_over = self.change(name, |machine| {
            let is_wanted = machine.state == State::Stopping || is_by_host(&end);
            machine.ended(end);
            if machine.state == State::Stopped {
                self.places.forget(name);
            }
            Ok(machine.state == State::Stopped && !is_wanted)
        });
        if is_over == Ok(true) {
            self.mark(name, false);
        }
        self.save_meter(name);
        self.balance();
        self.place_again(name);
    }

    /// Waits for the time of the next start. Returns `false` if there is none; then the machine has no thread any more.
    fn waits_for_start(&self, name: &str) -> bool {
        loop {
            let next = self.change(name, |machine| {
                match machine.state {
                    State::Waiting(until) if until <= Instant::now() => {
                        machine.state = State::Starting;
                        // The first start of a machine is no restart.
                        machine.restarts += u64::from(machine.end != Value::Null);
                    }
                    State::Waiting(_) | State::Starting => {}
                    _ => machine.has_thread = false,
                }
                Ok(machine.state)
            });
            match next {
                Ok(State::Waiting(until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.wait(name, left, |machine| !matches!(machine.state, State::Waiting(_)));
                }
                Ok(State::Starting) => return true,
                _ => return false,
            }
        }
    }
}

/// The first task of the thread of a machine.
enum Task {
    /// To start it.
    Start,
    /// To watch a process that another service has started.
    Watch(Process),
    /// To decide what comes after an end that no service has seen.
    Decide,
    /// To wait for the time of its start.
    Wait,
}

fn failed(message: &str) -> Value {
    let message = format!("{message}{}", limit_remedy(message));
    json!({ "kind": "failed", "exit-code": viridian::machine::code::FAILED, "message": message })
}
