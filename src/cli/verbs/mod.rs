//! The verbs that name running machines.
//!
//! A verb is a file here, with its `Arguments` and a function `run`, and a line in the table below.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use viridian::machine::code;
use viridian::process::Marked;

use super::client::{Failure, Remote};
use super::host::chosen;
use super::say;
use super::serve::default_socket;

mod access;
mod adapter;
mod command;
mod console;
mod copy;
mod define;
mod disk;
mod events;
mod freeze;
mod host_stop;
mod inspect;
mod jobs;
mod kvp;
mod list;
mod measure;
mod memory;
mod metrics;
mod names;
mod plug;
mod restart;
mod screenshot;
mod services;
mod start;
mod state;
mod stop;
mod supervised;
mod table;
mod trace;
mod typing;
mod undefine;
mod wait;

/// A machine, or its guest, refuses what a verb asks for.
pub const REFUSED: u8 = 1;
/// A time limit has passed.
pub const TIMEOUT: u8 = 124;

/// The table of verbs: the command's name comes from the variant.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $variant:ident($($module:ident)::+);)*) => {
        /// A verb.
        #[derive(clap::Subcommand)]
        pub enum Verb {
            $($(#[$attribute])* $variant($($module)::+::Arguments),)*
        }

        /// Carries out a verb, and returns the exit code.
        pub fn run(verb: Verb) -> u8 {
            let result = match verb {
                $(Verb::$variant(arguments) => $($module)::+::run(arguments),)*
            };
            result.unwrap_or_else(|failure| failed(None, &failure))
        }
    };
}

verbs! {
    /// List the running machines of this user, or also those of the service that are stopped
    List(list);
    /// Print the state of running machines: devices, services, addresses, counters
    Inspect(inspect);
    /// Shut guests down: by the shutdown service, then by the power button, then by force
    Stop(stop);
    /// Stop guests and their time, until they are resumed
    Pause(state::pause);
    /// Resume paused guests
    Resume(state::resume);
    /// End machines at once, without asking their guests
    Kill(state::kill);
    /// Restart guests by the shutdown service, or else reset them
    Restart(restart);
    /// Reset machines at once: their guests start again
    Reset(state::reset);
    /// Send a non-maskable interrupt (NMI) to all processors of machines: guests print where they are, or write a dump
    Nmi(state::nmi);
    /// Watch the console of a running machine, and type at it
    Console(console);
    /// Wait for a guest's address or heartbeat, for what it prints or shows, or for the end of a machine
    Wait(wait);
    /// Print the events of machines as they happen
    Events(events);
    /// Print decoded VMBus messages, packets of disks and adapters, and more, of a running machine as they come
    Trace(trace);
    /// List the integration services of a machine, or turn some on or off
    Services(services);
    /// Read and change items of the key-value pair exchange
    Kvp(kvp);
    /// Freeze a guest's file systems while a command of this host runs, for a consistent copy of its disks
    Freeze(freeze);
    /// Copy a file into a guest
    Copy(copy);
    /// List, attach and detach disks of a running machine
    Disk(disk);
    /// List, attach and detach network adapters of a running machine, and plug cables in and out
    Adapter(adapter);
    /// Send a command to a device of a machine
    Command(command);
    /// Print the size of a guest's memory, or change it
    Memory(memory);
    /// Write a picture of a guest's screen to a PNG file
    Screenshot(screenshot);
    /// Give the service (viridian serve) the definition of a machine: its settings file
    Define(define);
    /// Remove a definition from the service
    Undefine(undefine);
    /// Start machines that the service has definitions of
    Start(start);
    /// Print the metrics of the service's machines, as Prometheus reads them
    Metrics(metrics);
    /// Print what machines of the service have used since a reset: processors, memory, disks and network
    Measure(measure);
    /// List the jobs of the service, such as stops and copies, wait for them, or cancel them
    Jobs(jobs);
    /// Decide who may use the service from other hosts: tokens and certificates with roles
    Access(access);
    /// Stop all machines of the service before the host shuts down, each as its definition says
    HostStop(host_stop);
    /// Print the names of machines, for the completion of shells
    #[command(hide = true)]
    Names(names);
    /// Type a text on a guest's keyboard
    Type(typing);
}

/// The result of a verb: an exit code.
type Done = Result<u8, Failure>;

/// The machines of a verb that takes several.
#[derive(clap::Args)]
struct Targets {
    /// Names of machines, as viridian list prints them, or paths of control sockets
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All running machines of this user
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl Targets {
    fn machines(&self) -> Result<Vec<Remote>, Failure> {
        if self.all { Remote::all() } else { self.names.iter().map(|name| Remote::named(name)).collect() }
    }

    /// Calls a function for each machine, at the same time. Reports failures, and returns the exit code and the results of the
    /// others with their names.
    fn each<T: Send>(
        &self,
        work: impl Fn(&Remote) -> Result<T, Failure> + Sync,
    ) -> Result<(u8, Vec<(String, T)>), Failure> {
        let machines = self.machines()?;
        let results = at_once(&machines, work);
        let (mut code, mut values) = (0, Vec::new());
        for (machine, result) in machines.iter().zip(results) {
            match result {
                Ok(value) => values.push((machine.name.clone(), value)),
                Err(failure) => code = code.max(failed(Some(&machine.name), &failure)),
            }
        }
        Ok((code, values))
    }

    /// Returns `true` if one machine was named.
    fn is_one(&self) -> bool {
        !self.all && self.names.len() == 1
    }

    /// Returns the JSON of the results: that of the only machine that was named, or a list.
    fn json(&self, mut values: Vec<Value>) -> Value {
        if self.is_one() { values.pop().unwrap_or_default() } else { Value::Array(values) }
    }
}

/// The option that names the service.
#[derive(clap::Args)]
struct ServiceSocket {
    /// The Unix socket of the service [default: the one at which viridian serve listens by default]
    #[arg(long, value_name = "PATH", global = true)]
    service: Option<PathBuf>,
}

impl ServiceSocket {
    /// Returns `true` if the option is given.
    fn is_given(&self) -> bool {
        self.service.is_some()
    }

    /// Returns the service. Its requests are made as those of a machine.
    fn service(&self) -> Result<Remote, Failure> {
        if let Some(host) = chosen() {
            let wrong = "--service is a socket of this host, and --host names another one; leave one of them out";
            return match &self.service {
                None => Ok(Remote::service(host)),
                Some(_) => Err(Failure::Other(code::USAGE, wrong.into())),
            };
        }
        let path = match &self.service {
            Some(path) => path.clone(),
            None => default_socket().map_err(Failure::NoDirectory)?,
        };
        match UnixStream::connect(&path) {
            Ok(_) => Ok(Remote::at("service", path)),
            Err(error) => {
                let message = format!("there is no service at {}: {error}; start viridian serve", path.display());
                Err(Failure::Other(code::USAGE, message))
            }
        }
    }
}

/// Calls a function for each machine, at the same time.
fn at_once<M: Sync, T: Send>(
    machines: &[M],
    work: impl Fn(&M) -> Result<T, Failure> + Sync,
) -> Vec<Result<T, Failure>> {
    if let [machine] = machines {
        return vec![work(machine)];
    }
    std::thread::scope(|scope| {
        let started: Vec<_> = machines.iter().map(|machine| scope.spawn(|| work(machine))).collect();
        let panicked = |_| Err(Failure::Other(code::FAILED, "this program's own code panicked".into()));
        started.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

/// Prints why a verb failed, and returns the exit code.
fn failed(name: Option<&str>, failure: &Failure) -> u8 {
    match name {
        Some(name) => say!("{}", Marked(&format!("{name}: {failure}"))),
        None => say!("{}", Marked(&failure.to_string())),
    }
    match failure {
        Failure::NoMachine(..) => code::USAGE,
        Failure::Refused { kind, .. } if kind == "invalid" || kind == "not-found" => code::USAGE,
        Failure::Refused { .. } => REFUSED,
        Failure::Slow(_) => TIMEOUT,
        Failure::NoDirectory(_) | Failure::Lost(_) => code::FAILED,
        Failure::Other(code, _) => *code,
    }
}

/// Prints a text on standard output.
fn print(text: &str) -> Result<(), Failure> {
    super::print(text).map_err(|error| Failure::Other(code::FAILED, format!("{error:#}")))
}

/// Prints JSON.
fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Prints what a verb has done, if JSON is wanted.
fn done(json: bool, what: &Value) -> Done {
    if json {
        print_json(what)?;
    }
    Ok(0)
}

/// Parses a time limit in seconds, which may be 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("`{text}` is not a time; write seconds, such as 30 or 0.5"))
}
