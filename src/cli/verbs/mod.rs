//! The verbs that name running machines.
//!
//! A verb is a file here, with its `Arguments` and a function `run`, and a line in the table below.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use viridian::machine::code;

use super::client::{Failure, Remote};
use super::control::default_service;
use super::host::chosen;
use super::targets::{
    ALL, Found, Machines, Place, REFUSED, TIMEOUT, Targets, at_once, failed, find, labelled, place, print, print_bytes,
    print_endless, print_json, print_results,
};

mod access;
mod adapter;
mod click;
mod command;
mod console;
mod copy;
mod define;
mod definition;
mod disk;
mod events;
mod force;
mod freeze;
mod host_stop;
mod inspect;
mod jobs;
mod kill;
mod kvp;
mod list;
mod measure;
mod memory;
mod metrics;
mod names;
mod plug;
mod restart;
mod screenshot;
mod service;
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
    /// List the machines of this user that run, or also those of the service that are stopped
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
    Kill(kill);
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
    /// Print the definitions of machines of the service, as text
    Definition(definition);
    /// Remove a definition from the service
    Undefine(undefine);
    /// Start machines that the service has definitions of
    Start(start);
    /// Print facts about the service: its state directory, definitions that are broken, and files that are no definitions
    Service(service);
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
    /// Click with a guest's mouse, or drag
    Click(click);
}

/// The result of a verb: an exit code.
type Done = Result<u8, Failure>;

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
            None => default_service().map_err(Failure::NoDirectory)?,
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

/// Returns the machines of a service that words name: names, several with commas, and patterns. Reports names that do not
/// exist. The second value is `true` if one plain name was given, and the third is the exit code for what was reported.
fn of_service(service: &Remote, words: &[String]) -> Result<(Vec<String>, bool, u8), Failure> {
    named_of(service, words, |_| true)
}

/// Returns the same of those that have a definition: a pattern means labs, and not their machines.
fn defined_of(service: &Remote, words: &[String]) -> Result<(Vec<String>, bool, u8), Failure> {
    named_of(service, words, has_definition)
}

/// Returns `true` for a machine with a definition of its own, and for a lab.
fn has_definition(machine: &Value) -> bool {
    machine["lab"].is_null()
}

fn named_of(
    service: &Remote,
    words: &[String],
    is_meant: impl Fn(&Value) -> bool,
) -> Result<(Vec<String>, bool, u8), Failure> {
    let known = || Ok(machines_where(service, &is_meant)?.into_iter().map(|name| (name.clone(), name)).collect());
    // The service says what is no name.
    let Found { found, missing, is_one } = find(words, known, |name| Ok(name.to_owned()))?;
    let code = missing.iter().map(|failure| failed(None, failure)).max().unwrap_or_default();
    Ok((found.into_iter().map(|(_, name)| name).collect(), is_one, code))
}

/// Returns the names of those machines of a service for which something holds.
fn machines_where(service: &Remote, is_so: impl Fn(&Value) -> bool) -> Result<Vec<String>, Failure> {
    let list = service.get("/machines")?;
    let machines = list["machines"].as_array().into_iter().flatten();
    let machines = machines.filter(|machine| is_so(machine));
    Ok(machines.filter_map(|machine| machine["name"].as_str().map(str::to_owned)).collect())
}

/// Parses a time limit in seconds, which may be 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("`{text}` is not a time; write seconds, such as 30 or 0.5"))
}

/// Returns what replaces the answer that a machine has no such device by what to do about it.
fn advised(advice: &'static str) -> impl Fn(Failure) -> Failure {
    move |failure| match failure {
        Failure::Refused { kind, .. } if kind == "not-found" => Failure::Other(code::USAGE, advice.into()),
        other => other,
    }
}
