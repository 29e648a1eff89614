//! `viridian stop`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use viridian::machine::code;

use super::force::Reason;
use super::supervised::{Stopped, Supervised};
use super::{Done, Targets, force, seconds};
use crate::cli::client::{Failure, PROMPT, Remote, Stream};
use crate::cli::say;

/// A machine was ended by force.
const FORCED: u8 = 4;

/// The last step.
const KILL: &str = "kill";
/// The steps of the service.
const SERVICE: &str = "service";

/// The options of `viridian stop`.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes:
  0    the guests have shut themselves down; with --no-wait, they have been asked to
  4    a machine was ended by force, as the last step, or its process was killed
  1    a machine refuses
  2    there is no such machine
  124  a machine has not ended in spite of all steps

A machine that does not answer is asked nothing more: its process is killed (SIGKILL), unless --no-force is given. A machine of the
service that waits for its next start is not started again.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Time for the guest to shut down after the shutdown service has asked it; 0 leaves this step out
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    shutdown: Duration,

    /// Time after the press of the power button; 0 leaves this step out
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    power_button: Duration,

    /// Do not end a machine by force
    #[arg(long)]
    no_force: bool,

    /// Hibernate: ask the shutdown service alone, and wait until the guest has written its memory to its disk and powered
    /// off; the machine needs the setting --hibernation, and time: see --shutdown
    #[arg(long, conflicts_with_all = ["power_button", "no_force"])]
    hibernate: bool,

    /// Do not wait: the service takes the steps, or, for a machine without a service, the guest is asked to shut down, or its power
    /// button is pressed, and nothing more
    #[arg(long)]
    no_wait: bool,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let machines = arguments.targets.with_coming()?;
    let (code, stopped) = machines.each(|machine| stop(machine, &arguments));
    let forced = stopped.iter().any(|(_, (how, _))| *how == "kill");
    if arguments.json {
        let value = |(name, (how, end))| json!({ "name": name, "stopped-by": how, "end": end });
        machines.print_json(stopped.into_iter().map(value).collect())?;
    }
    Ok(if code == 0 && forced { FORCED } else { code })
}

/// Ends a machine. Returns by which step, and how it ended.
fn stop(machine: &Remote, arguments: &Arguments) -> Result<(&'static str, Value), Failure> {
    let name = &machine.name;
    let service = Supervised::of(machine);
    if arguments.no_wait {
        return begin(machine, service.as_ref(), arguments);
    }
    if let Some(service) = service {
        return stop_by_service(name, &service, arguments);
    }
    let may_force = !arguments.no_force && !arguments.hibernate;
    let mut events = match machine.stream("GET", "/events", None, force::GRACE) {
        Err(Failure::Slow(_)) if may_force => return end_by_force(machine, Reason::Silent),
        other => other?,
    };
    let (hibernate, last) = (json!({ "kind": "hibernate" }), if may_force { force::FLUSH } else { Duration::ZERO });
    let steps = [
        ("shutdown-service", "/shutdown", None, arguments.shutdown, "asking the guest to shut down"),
        ("power-button", "/power-button", None, arguments.power_button, "pressing the power button"),
        (KILL, "/kill", None, last, "ending the machine by force"),
    ];
    let hibernation =
        [("shutdown-service", "/shutdown", Some(&hibernate), arguments.shutdown, "asking the guest to hibernate")];
    let steps = if arguments.hibernate { &hibernation[..] } else { &steps };
    for &(how, path, body, time, words) in steps.iter().filter(|step| !step.3.is_zero()) {
        let deadline = Instant::now() + time;
        say!("{name}: {words}");
        let is_last = how == KILL;
        match machine.request("POST", path, body, if is_last { force::GRACE } else { time }) {
            Ok(_) => {}
            Err(failure) if failure.is_end() => {}
            Err(Failure::Slow(_)) if is_last => return end_by_force(machine, Reason::Silent),
            // Without an answer there is no shutdown to wait for.
            Err(failure) => {
                say!("{name}: {failure}");
                continue;
            }
        }
        if let Some(end) = end_of(&mut events, Some(deadline))? {
            say!("{name}: {}", end["message"].as_str().unwrap_or("it has ended"));
            return Ok((how, end));
        }
        if is_last {
            return end_by_force(machine, Reason::Late);
        }
        say!("{name}: it has not ended within {} seconds", time.as_secs_f64());
    }
    Err(Failure::Other(super::TIMEOUT, "the machine still runs".into()))
}

/// Begins to stop a machine. Returns by which step; its end is not known yet.
fn begin(
    machine: &Remote,
    service: Option<&Supervised>,
    arguments: &Arguments,
) -> Result<(&'static str, Value), Failure> {
    if let Some(service) = service {
        service.ask("stop", Some(&body(arguments)), PROMPT)?;
        return Ok((SERVICE, Value::Null));
    }
    let hibernate = arguments.hibernate.then(|| json!({ "kind": "hibernate" }));
    let mut refused = Failure::Other(code::USAGE, "all steps that are possible without waiting are left out".into());
    if !arguments.shutdown.is_zero() {
        match machine.request("POST", "/shutdown", hibernate.as_ref(), arguments.shutdown) {
            Ok(_) => return Ok(("shutdown-service", Value::Null)),
            Err(failure) => refused = failure,
        }
    }
    if !arguments.power_button.is_zero() && !arguments.hibernate {
        match machine.post("/power-button", None) {
            Ok(_) => return Ok(("power-button", Value::Null)),
            Err(failure) => refused = failure,
        }
    }
    Err(refused)
}

/// Kills the process of a machine.
fn end_by_force(machine: &Remote, reason: Reason) -> Result<(&'static str, Value), Failure> {
    let end = force::end(machine, reason)?;
    say!("{}: {}", machine.name, end["message"].as_str().unwrap_or("it has ended"));
    Ok((KILL, end))
}

/// Returns the steps for the service.
fn body(arguments: &Arguments) -> Value {
    let mut body = json!({
        "shutdown-seconds": arguments.shutdown.as_secs_f64(),
        "power-button-seconds": arguments.power_button.as_secs_f64(),
        "force": !arguments.no_force,
    });
    if arguments.hibernate {
        // A service of an older version does not know this.
        body["hibernate"] = json!(true);
    }
    body
}

/// Requests the end of a machine from the service, which takes the same steps and does not start it again.
fn stop_by_service(name: &str, service: &Supervised, arguments: &Arguments) -> Result<(&'static str, Value), Failure> {
    let body = body(arguments);
    let mut time = arguments.shutdown.saturating_add(PROMPT);
    if arguments.hibernate {
        say!("{name}: asking the service to have it hibernate");
    } else {
        say!("{name}: asking the service to stop it");
        let last = if arguments.no_force { Duration::ZERO } else { force::FLUSH };
        time = time.saturating_add(arguments.power_button).saturating_add(last);
    }
    let Some(Stopped { end, has_waited }) = service.stop(&body, time)? else {
        return Err(Failure::Other(super::TIMEOUT, "the machine still runs".into()));
    };
    if has_waited {
        say!("{name}: it had ended, and is not started again");
        return Ok((SERVICE, end));
    }
    say!("{name}: {}", end["message"].as_str().unwrap_or("it has ended"));
    // A process that was killed has not reported its end.
    let is_forced = end["kind"] == "terminated" || end["kind"] == "lost";
    Ok((if is_forced { KILL } else { SERVICE }, end))
}

/// Waits for the end of the machine. Returns `None` at the deadline.
pub fn end_of(events: &mut Stream, deadline: Option<Instant>) -> Result<Option<Value>, Failure> {
    loop {
        match events.next(deadline) {
            Ok(Some(event)) if event["event"] == "ended" => return Ok(Some(event["end"].clone())),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Some(json!({ "kind": "unknown", "message": "its process has ended" }))),
            Err(Failure::Slow(_)) => return Ok(None),
            Err(failure) if failure.is_end() => {
                return Ok(Some(json!({ "kind": "unknown", "message": "its process has ended" })));
            }
            Err(failure) => return Err(failure),
        }
    }
}
