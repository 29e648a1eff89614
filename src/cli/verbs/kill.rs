//! `viridian kill`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::force::Reason;
use super::stop::end_of;
use super::supervised::Supervised;
use super::{Done, Targets, force};
use crate::cli::client::{Failure, Remote};

/// Time for the service to end a machine: its disks are flushed.
const SERVICE: Duration = Duration::from_secs(60);

/// The options of `viridian kill`.
#[derive(clap::Args)]
#[command(after_help = "\
A machine that does not answer within 5 seconds is ended by SIGKILL of its process, and so is one that has not ended after 30
seconds. A machine of the service that waits for its next start is not started again.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { targets, json }: Arguments) -> Done {
    let machines = targets.with_coming()?;
    let (code, done) = machines.each(kill);
    if json {
        machines.print_json(done.into_iter().map(|(name, ())| json!({ "name": name })).collect())?;
    }
    Ok(code)
}

fn kill(machine: &Remote) -> Result<(), Failure> {
    // Ask the service, which would otherwise start the machine again.
    if let Some(service) = Supervised::of(machine) {
        return service.ask("kill", None, SERVICE).map(drop);
    }
    // The stream ends with the machine.
    let mut events = match machine.stream("GET", "/events", None, force::GRACE) {
        Err(Failure::Slow(_)) => return force::end(machine, Reason::Silent).map(drop),
        other => other?,
    };
    match machine.request("POST", "/kill", None, force::GRACE) {
        Err(Failure::Slow(_)) => return force::end(machine, Reason::Silent).map(drop),
        Err(failure) if !failure.is_end() => return Err(failure),
        _ => {}
    }
    match end_of(&mut events, Some(Instant::now() + force::FLUSH))? {
        Some(_) => Ok(()),
        None => force::end(machine, Reason::Late).map(drop),
    }
}
