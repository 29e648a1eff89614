//! `viridian up`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;
use viridian::machine::builder::Builder;
use viridian::machine::end::code;
use viridian::machine::lab::{Lab, Partition};
use viridian::machine::{End, Machine, Prepared};
use viridian::partition::footprint::forget_start_up;
use viridian::platform::console::ConsoleConfig;
use viridian::platform::console::signals::EndSignals;
use viridian::printable::Marked;

use super::run::DISK_SIZES;

/// What `viridian up` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// A TOML file with a [[partition]] for each machine: its settings as `run --config` reads them, a name, and with
    /// after = ["NAME"] who is to run before it
    #[arg(value_name = "FILE")]
    lab: PathBuf,
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
}

/// Runs all machines of a lab to their ends.
pub fn up(arguments: Arguments) -> anyhow::Result<u8> {
    let lab = match Lab::load(&arguments.lab) {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("viridian: {error}");
            return Ok(code::USAGE);
        }
    };
    if lab.partitions.iter().any(|partition| partition.config.console == ConsoleConfig::Stdio) {
        super::closed::expect_open()?;
    }
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let ready = match prepare(lab, &arguments.lab) {
        Ok(ready) => ready,
        Err(code) => return Ok(code),
    };
    let mut outcomes = Vec::new();
    let running = start(ready, &mut outcomes);
    forget_start_up();
    wait(running, &signals, &mut outcomes)?;
    print_table(&outcomes);
    Ok(outcomes.iter().map(|outcome| outcome.end.exit_code()).find(|code| *code != 0).unwrap_or(0))
}

/// Has all machines ready to run. If one cannot be, says so and gives the exit code: then none has run.
fn prepare(lab: Lab, file: &Path) -> Result<Vec<Ready>, u8> {
    let prepare = |Partition { config, .. }| {
        let name = config.name.clone();
        match Builder::from(config).label_console().prepare() {
            Ok(machine) => Ok(Ready { name, machine }),
            Err(error) => {
                let words = error.to_string();
                eprintln!("viridian: {}: {name}: {}; nothing was started", file.display(), Marked(&words));
                Err(error.exit_code())
            }
        }
    };
    lab.partitions.into_iter().map(prepare).collect()
}

/// Starts all machines, one after the other. One that fails ends those that run.
fn start(ready: Vec<Ready>, outcomes: &mut Vec<Outcome>) -> Vec<Running> {
    let mut running = Vec::new();
    for Ready { name, machine } in ready {
        let since = Instant::now();
        match machine.start() {
            Ok(machine) => running.push(Running { name, machine, since }),
            Err(error) => {
                outcomes.push(Outcome { name, end: End::Failed(error), time: since.elapsed() });
                stop(&running, SIGINT);
                break;
            }
        }
    }
    running
}

/// Waits for all machines; a signal ends those that still run.
fn wait(mut running: Vec<Running>, signals: &EndSignals, outcomes: &mut Vec<Outcome>) -> anyhow::Result<()> {
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
        outcomes.extend(ended.into_iter().map(|(Running { name, machine, since }, _)| Outcome {
            name,
            time: since.elapsed(),
            end: machine.wait(),
        }));
    }
    Ok(())
}

fn stop(running: &[Running], signal: i32) {
    for run in running {
        run.machine.stop(if signal == SIGINT { End::Interrupted } else { End::Terminated });
    }
}

/// Says on standard error how each ended, in the order in which they did.
fn print_table(outcomes: &[Outcome]) {
    const HEADING: &str = "partition";
    let width = outcomes.iter().map(|outcome| outcome.name.chars().count()).fold(HEADING.len(), usize::max);
    eprintln!("viridian: {HEADING:width$}        time  end");
    for Outcome { name, end, time } in outcomes {
        eprintln!("viridian: {name:width$}  {:>8.2} s  {end}", time.as_secs_f64());
    }
}
