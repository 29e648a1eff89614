//! `viridian host-stop`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Done, ServiceSocket, TIMEOUT, print_json};
use crate::cli::client::{Failure, PROMPT, Remote};
use crate::cli::say;

/// Time for all machines: the steps of a stop take 120 seconds, and disks are flushed.
const LIMIT: Duration = Duration::from_secs(150);
/// Time between two looks at the list.
const PAUSE: Duration = Duration::from_millis(200);

/// The options of `viridian host-stop`.
#[derive(clap::Args)]
#[command(after_help = "\
Machines whose definition has autostart = \"if-running\" start again with the service after the next start of the host.

Exit codes:
  0    no machine runs
  2    there is no service
  124  some machines still run after 150 seconds")]
pub struct Arguments {
    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: the names of the machines that were stopped
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let service = arguments.service.service()?;
    let before = running(&service)?;
    service.request("POST", "/service/host-stop", None, PROMPT)?;
    let begun = Instant::now();
    let left = loop {
        let left = running(&service)?;
        if left.is_empty() || begun.elapsed() > LIMIT {
            break left;
        }
        thread::sleep(PAUSE);
    };
    let stopped: Vec<_> = before.into_iter().filter(|name| !left.contains(name)).collect();
    if arguments.json {
        print_json(&json!(stopped))?;
    }
    if left.is_empty() {
        return Ok(0);
    }
    say!("still running: {}", left.join(", "));
    Ok(TIMEOUT)
}

/// Returns the names of the machines that have a process.
fn running(service: &Remote) -> Result<Vec<String>, Failure> {
    let list = service.get("/machines")?;
    let machines = list["machines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let running = machines.iter().filter(|machine| machine["process"] != Value::Null);
    Ok(running.filter_map(|machine| machine["name"].as_str().map(str::to_owned)).collect())
}
