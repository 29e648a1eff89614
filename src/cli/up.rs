//! `viridian up`.

use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;
use viridian::machine::builder::Builder;
use viridian::machine::end::code;
use viridian::machine::lab::{Lab, Partition};
use viridian::machine::{End, Machine};
use viridian::platform::console::signals::EndSignals;
use viridian::platform::console::{Capture, ConsoleConfig};

/// What `viridian up` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// A TOML file with a [[partition]] for each machine: its settings as `run --config` reads them, a name, and with
    /// after = ["NAME"] who is to run before it
    #[arg(value_name = "FILE")]
    lab: PathBuf,
}

/// How a machine's run went.
struct Outcome {
    name: String,
    end: End,
    time: Duration,
}

/// A machine that runs.
struct Running {
    name: String,
    machine: Machine,
    since: Instant,
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
    super::closed::expect_open()?;
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let outcomes = thread::scope(|scope| {
        let mut running = Vec::new();
        let mut outcomes = Vec::new();
        for Partition { config, .. } in lab.partitions {
            let (name, since) = (config.name.clone(), Instant::now());
            let captured = config.console == ConsoleConfig::Stdio;
            let builder = Builder::from(config);
            match if captured { builder.capture_console() } else { builder }.start() {
                Ok(machine) => {
                    if let Some(console) = machine.console().cloned() {
                        let ended = machine.ended().try_clone_to_owned().context("a descriptor for a console")?;
                        let name = name.clone();
                        scope.spawn(move || print_lines(&name, &console, || is_readable(&ended)));
                    }
                    running.push(Running { name, machine, since });
                }
                Err(error) => {
                    outcomes.push(Outcome { name, end: End::Failed(error), time: since.elapsed() });
                    stop(&running, SIGINT);
                    break;
                }
            }
        }
        wait(running, &signals, &mut outcomes)?;
        anyhow::Ok(outcomes)
    })?;
    print_table(&outcomes);
    Ok(outcomes.iter().map(|outcome| outcome.end.exit_code()).find(|code| *code != 0).unwrap_or(0))
}

/// Waits for all machines; a signal ends those that still run.
fn wait(mut running: Vec<Running>, signals: &EndSignals, outcomes: &mut Vec<Outcome>) -> anyhow::Result<()> {
    while !running.is_empty() {
        let ends = running.iter().map(|run| PollFd::from_borrowed_fd(run.machine.ended(), PollFlags::IN));
        let mut fds: Vec<_> = [PollFd::new(signals, PollFlags::IN)].into_iter().chain(ends).collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for the machines"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            stop(&running, signals.wait().context("cannot listen for signals")?);
        }
        // From the end, so that what is left keeps its place.
        for index in (0..running.len()).rev().filter(|index| ready[index + 1]) {
            let Running { name, machine, since } = running.remove(index);
            outcomes.push(Outcome { name, time: since.elapsed(), end: machine.wait() });
        }
    }
    Ok(())
}

fn stop(running: &[Running], signal: i32) {
    for run in running {
        run.machine.stop(if signal == SIGINT { End::Interrupted } else { End::Terminated });
    }
}

fn is_readable(fd: &std::os::fd::OwnedFd) -> bool {
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// Prints each line of a console with the partition's name before it, until the machine is gone.
fn print_lines(name: &str, console: &Capture, is_over: impl Fn() -> bool) {
    /// A line that stays without its end is not held back for longer.
    const PATIENCE: Duration = Duration::from_millis(200);
    loop {
        let over = is_over();
        let text = match console.wait_for("\n", if over { Duration::ZERO } else { PATIENCE }) {
            Ok(line) => line,
            Err(_) => console.take(),
        };
        if !text.is_empty() && write_line(name, &text).is_err() {
            return;
        }
        if over && text.is_empty() {
            return;
        }
    }
}

fn write_line(name: &str, text: &[u8]) -> std::io::Result<()> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let line = [name.as_bytes(), b": ", text, b"\n"].concat();
    let mut output = std::io::stdout().lock();
    output.write_all(&line).and_then(|()| output.flush())
}

/// Says on standard error how each ended, in the order in which they did.
fn print_table(outcomes: &[Outcome]) {
    let width = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0);
    for Outcome { name, end, time } in outcomes {
        eprintln!("viridian: {name:width$}  {:>8.2} s  {end}", time.as_secs_f64());
    }
}
