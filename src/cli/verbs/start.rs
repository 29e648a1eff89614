//! `viridian start`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Done, REFUSED, ServiceSocket, at_once, defined_of, failed, has_definition, machines_where, print_results};
use crate::cli::client::{Failure, PROMPT, Remote, encoded};
use crate::cli::say;

/// The service answers when the machine runs, or a little later.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of `viridian start`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of machines that the service has definitions of, several with commas, or patterns such as 'web*'
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All machines of the service that do not run
    #[arg(long, conflicts_with = "names")]
    all: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let service = arguments.service.service()?;
    let (names, is_one, mut code) = if arguments.all {
        let is_idle = |machine: &Value| has_definition(machine) && machine["process"].is_null();
        (machines_where(&service, is_idle)?, false, 0)
    } else {
        defined_of(&service, &arguments.names)?
    };
    let results = at_once(&names, |name| start(&service, name));
    let mut started = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(machine) => started.push(machine),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if arguments.json {
        print_results(is_one, started)?;
    }
    Ok(code)
}

/// Starts a machine, and returns it when it runs.
fn start(service: &Remote, name: &str) -> Result<Value, Failure> {
    let path = format!("/machines/{}", encoded(name));
    let machine = service.request("POST", &format!("{path}/start"), None, PATIENCE)?;
    if machine["state"] != "starting" {
        return Ok(machine);
    }
    say!("{name} is still starting; it goes on if you end this command");
    let job = service.post("/jobs", Some(&json!({ "kind": "start", "machine": name })))?;
    let mut events = service.stream("GET", &format!("/jobs/{}/events", job["job"]), None, PROMPT)?;
    let mut last = Value::Null;
    while let Some(event) = events.next(None)? {
        last = event;
    }
    match last["state"].as_str() {
        Some("done") => service.get(&path),
        Some("running") => Err(Failure::Other(REFUSED, "the service has ended".into())),
        _ => Err(Failure::of(&json!({ "error": last["problem"] }))),
    }
}
