//! `viridian restart`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Done, Targets, seconds};
use crate::cli::client::{Failure, Remote};
use crate::cli::say;

/// The options of `viridian restart`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Time for the guest to restart after the shutdown service has asked it; then the machine is reset
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    shutdown: Duration,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let machines = arguments.targets.machines()?;
    let (code, restarted) = machines.each(|machine| restart(machine, arguments.shutdown));
    if arguments.json {
        let value = |(name, how)| json!({ "name": name, "restarted-by": how });
        machines.print_json(restarted.into_iter().map(value).collect())?;
    }
    Ok(code)
}

/// Restarts a guest. Returns by which step.
fn restart(machine: &Remote, time: Duration) -> Result<&'static str, Failure> {
    let name = &machine.name;
    let restarts = || Ok(machine.get("/")?["restarts"].as_u64());
    let before = restarts()?;
    let mut events = machine.events()?;
    if !time.is_zero() {
        let deadline = Instant::now() + time;
        say!("{name}: asking the guest to restart");
        match machine.request("POST", "/shutdown", Some(&json!({ "kind": "restart" })), time) {
            Err(failure) if failure.is_end() => return Err(failure),
            Err(failure) => say!("{name}: {failure}"),
            Ok(_) => loop {
                if restarts()? != before {
                    return Ok("shutdown-service");
                }
                match events.next(Some(deadline)) {
                    Ok(Some(event)) if event["event"] != "ended" => {}
                    Ok(_) => return Err(Failure::Other(super::REFUSED, "the machine has ended instead".into())),
                    Err(Failure::Slow(_)) => {
                        say!("{name}: it has not restarted within {} seconds", time.as_secs_f64());
                        break;
                    }
                    Err(failure) => return Err(failure),
                }
            },
        }
    }
    say!("{name}: resetting the machine");
    machine.post("/reset", None)?;
    Ok("reset")
}
