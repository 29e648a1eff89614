//! `viridian up`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;
use viridian::console::ConsoleConfig;
use viridian::console::signals::EndSignals;
use viridian::fleet::{Lab, Partition};
use viridian::host::footprint::forget_start_up;
use viridian::machine::builder::Builder;
use viridian::machine::end::code;
use viridian::machine::{End, Exits, Machine, MachineError, Prepared};
use viridian::wire::printable::Marked;

use super::report::{self, Report, exits_in_words};
use super::run::DISK_SIZES;
use super::say;

/// What `viridian up` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// A TOML file with a [[partition]] for each machine: its settings as `run --config` reads them, a name, and with
    /// after = ["NAME"] who is to run before it
    #[arg(value_name = "FILE")]
    lab: PathBuf,

    #[command(flatten)]
    report: report::Target,
}

/// A machine that is ready to run.
struct Ready {
    name: String,
    machine: Prepared,
}

/// A machine that runs.
struct Running {
    name: String,
    machine: Machine,
    since: Instant,
}

/// How a machine's run went.
struct Outcome {
    name: String,
    end: End,
    time: Duration,
    exits: Option<Exits>,
}

/// Runs all machines of a lab to their ends.
pub fn up(arguments: Arguments, quiet: bool) -> anyhow::Result<u8> {
    let lab = match Lab::load(&arguments.lab) {
        Ok(lab) => lab,
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
    if lab.partitions.iter().any(|partition| partition.config.console == ConsoleConfig::Stdio) {
        super::closed::expect_open()?;
    }
    let consoles = lab.partitions.iter().map(|partition| &partition.config.console);
    let report = match arguments.report.open(consoles) {
        Ok(report) => report,
        Err(error) => {
            say!("{error}");
            return Ok(code::USAGE);
        }
    };
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let ready = match prepare(lab) {
        Ok(ready) => ready,
        Err(failure) => {
            let (name, error) = *failure;
            let code = error.exit_code();
            let words = error.to_string();
            say!("{}: {name}: {}; nothing was started", arguments.lab.display(), Marked(&words));
            report.ended(&name, &End::Failed(error), Duration::ZERO, None);
            report.done(code);
            return Ok(code);
        }
    };
    let mut outcomes = Outcomes { report: &report, list: Vec::new() };
    let running = start(ready, &mut outcomes);
    forget_start_up();
    wait(running, &signals, &mut outcomes)?;
    let outcomes = outcomes.list;
    let code = outcomes.iter().map(|outcome| outcome.end.exit_code()).find(|code| *code != 0).unwrap_or(0);
    if !quiet || code != 0 {
        print_table(&outcomes);
    }
    report.done(code);
    Ok(code)
}

/// How the runs went, in the order of their ends.
struct Outcomes<'a> {
    report: &'a Report,
    list: Vec<Outcome>,
}

impl Outcomes<'_> {
    fn push(&mut self, outcome: Outcome) {
        let Outcome { name, end, time, exits } = &outcome;
        exits.inspect(|exits| log::info!("{name}: {}", exits_in_words(exits)));
        self.report.ended(name, end, *time, *exits);
        self.list.push(outcome);
    }
}

/// Has all machines ready to run. If one cannot be, returns its name and why: then none has run.
fn prepare(lab: Lab) -> Result<Vec<Ready>, Box<(String, MachineError)>> {
    let prepare = |Partition { config, .. }| {
        let name = config.name.clone();
        match Builder::from(config).label_console().prepare() {
            Ok(machine) => Ok(Ready { name, machine }),
            Err(error) => Err(Box::new((name, error))),
        }
    };
    lab.partitions.into_iter().map(prepare).collect()
}

/// Starts all machines, one after the other. One that fails ends those that run.
fn start(ready: Vec<Ready>, outcomes: &mut Outcomes<'_>) -> Vec<Running> {
    let mut running = Vec::new();
    for Ready { name, machine } in ready {
        let since = Instant::now();
        match machine.start() {
            Ok(machine) => {
                outcomes.report.started(&name, &machine);
                running.push(Running { name, machine, since });
            }
            Err(error) => {
                let end = End::Failed(error);
                outcomes.push(Outcome { name, end, time: since.elapsed(), exits: None });
                stop(&running, SIGINT);
                break;
            }
        }
    }
    running
}

/// Waits for all machines; a signal ends those that still run.
fn wait(mut running: Vec<Running>, signals: &EndSignals, outcomes: &mut Outcomes<'_>) -> anyhow::Result<()> {
    while !running.is_empty() {
        let ends = running.iter().map(|run| PollFd::from_borrowed_fd(run.machine.ended(), PollFlags::IN));
        let mut fds: Vec<_> = [PollFd::new(signals, PollFlags::IN)].into_iter().chain(ends).collect();
        let has_disks = running.iter().any(|run| !run.machine.disks().is_empty());
        match poll(&mut fds, has_disks.then_some(&DISK_SIZES)) {
            Ok(0) => running.iter().for_each(|run| run.machine.disks().check_sizes_aside()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for the machines"),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
        if ready.next() == Some(true) {
            stop(&running, signals.wait().context("cannot listen for signals")?);
        }
        let (ended, others) = running.into_iter().zip(ready).partition::<Vec<_>, _>(|(_, ended)| *ended);
        running = others.into_iter().map(|(run, _)| run).collect();
        for (Running { name, machine, since }, _) in ended {
            let (time, exits) = (since.elapsed(), Some(machine.exits()));
            outcomes.push(Outcome { name, time, end: machine.wait(), exits });
        }
    }
    Ok(())
}

fn stop(running: &[Running], signal: i32) {
    for run in running {
        run.machine.stop(End::by_signal(signal));
    }
}

/// Says on standard error how each ended, in the order in which they did.
fn print_table(outcomes: &[Outcome]) {
    const HEADING: &str = "partition";
    let width = outcomes.iter().map(|outcome| outcome.name.chars().count()).fold(HEADING.len(), usize::max);
    say!("{HEADING:width$}        time  end");
    for Outcome { name, end, time, .. } in outcomes {
        say!("{name:width$}  {:>8.2} s  {end}", time.as_secs_f64());
    }
}
