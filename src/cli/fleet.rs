//! Runs the machines of `run` and `up` to their ends.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use viridian::config::{Config, ConsoleConfig};
use viridian::control::Control;
use viridian::fleet::{Event, Events, Fleet, Outcome};
use viridian::machine::End;
use viridian::process::EndSignals;
use viridian::process::{forget_start_up, limit_is_reached};

use super::control::Sockets;
use super::notify::notify;
use super::preparing::unless_signalled;
use super::report::{Report, Target, exits_in_words};
use super::say;

/// A finished run.
pub struct Run {
    /// The ends of the machines, in the order in which they ended.
    pub outcomes: Vec<Outcome>,
    /// `true` if all machines were prepared. Otherwise, `outcomes` has the machine that could not be, or all after a signal, and
    /// none has run.
    pub prepared: bool,
    /// The report, without its last line.
    pub report: Report,
}

/// Runs the machines, and ends them at a signal. If the report cannot be written, prints the reason and returns `None`.
pub fn run(fleet: &Fleet, report: &Target, control: &Sockets) -> anyhow::Result<Option<Run>> {
    if fleet.configs().any(|config| config.console == ConsoleConfig::Stdio) {
        super::closed::expect_open()?;
    }
    let report = match report.open(fleet.configs()) {
        Ok(report) => report,
        Err(error) if limit_is_reached(&error) => anyhow::bail!(error),
        Err(error) => {
            say!("{error}");
            return Ok(None);
        }
    };
    let signals = EndSignals::catch().context("cannot listen for signals")?;
    let preparing = fleet.clone();
    let prepared = match unless_signalled(&signals, move || preparing.prepare(), || {})? {
        Ok(Ok(prepared)) => prepared,
        result => {
            let outcomes: Vec<_> = match result {
                Ok(result) => result.err().into_iter().map(Outcome::from).collect(),
                Err(signal) => {
                    let never = |config: &Config| Outcome::never_started(&config.name, End::by_signal(signal));
                    fleet.configs().map(never).collect()
                }
            };
            outcomes.iter().for_each(|outcome| report.event(&outcome.clone().into()));
            return Ok(Some(Run { outcomes, prepared: false, report }));
        }
    };
    let fleet = prepared.start().context("cannot watch the machines")?;
    let control = control.open(&fleet)?;
    notify("READY=1");
    let mut start_up = StartUp::now();
    let mut events = fleet.events().context("cannot watch the machines")?;
    let mut signalled = |signal| {
        notify("STOPPING=1");
        fleet.stop(|| End::by_signal(signal));
    };
    while let Some(event) = next(&mut events, &signals, control.as_ref(), &mut start_up, &mut signalled)? {
        if let Event::Ended { outcome: Outcome { partition, exits: Some(exits), .. }, .. } = &event {
            log::info!("{partition}: {}", exits_in_words(exits));
        }
        report.event(&event);
    }
    // The sockets are removed while the last thread ends.
    drop(control);
    Ok(Some(Run { outcomes: fleet.wait(), prepared: true, report }))
}

/// The memory that only start-up used. It is released after the machines have run for a while, and once more when most guests
/// have started, too. A short run does not release it, because releasing pages and loading some of them again would take longer
/// than the rest of the run.
struct StartUp {
    /// The start of the machines.
    since: Instant,
    /// The times after it when memory is still to be released.
    releases: std::slice::Iter<'static, Duration>,
}

impl StartUp {
    const RELEASES: &[Duration] = &[Duration::from_millis(100), Duration::from_secs(1)];

    fn now() -> Self {
        Self { since: Instant::now(), releases: Self::RELEASES.iter() }
    }

    /// Returns the time until memory is to be released next.
    fn remaining(&self) -> Option<Timespec> {
        let next = self.releases.as_slice().first()?;
        Timespec::try_from(next.saturating_sub(self.since.elapsed())).ok()
    }

    fn forget(&mut self) {
        if self.releases.next().is_some() {
            forget_start_up();
        }
    }
}

/// Waits for the next event of the machines. Returns `None` after their ends.
fn next(
    events: &mut Events,
    signals: &EndSignals,
    control: Option<&Control>,
    start_up: &mut StartUp,
    mut signalled: impl FnMut(i32),
) -> anyhow::Result<Option<Event>> {
    loop {
        if let Some(event) = events.wait(Duration::ZERO) {
            return Ok(Some(event));
        }
        if events.is_over() {
            return Ok(None);
        }
        let mut fds = vec![PollFd::new(events, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        fds.extend(control.map(|control| PollFd::new(control, PollFlags::IN)));
        match poll(&mut fds, start_up.remaining().as_ref()) {
            Ok(0) => start_up.forget(),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the machines"),
        }
        if !fds[1].revents().is_empty() {
            signalled(signals.wait().context("cannot listen for signals")?);
        }
        if let Some(control) = control {
            control.serve();
        }
    }
}
