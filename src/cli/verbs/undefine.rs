//! `viridian undefine`.

use serde_json::{Value, json};

use super::{Done, ServiceSocket, defined_of, failed, has_definition, machines_where, print_results};
use crate::cli::client::{PROMPT, encoded};

/// The options of `viridian undefine`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of machines that are stopped, several with commas, or patterns such as 'web*'
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All machines of the service that are stopped
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
        // Those that wait for their next start have no process, either.
        let is_stopped = |machine: &Value| {
            has_definition(machine) && matches!(machine["state"].as_str(), Some("stopped" | "broken"))
        };
        (machines_where(&service, is_stopped)?, false, 0)
    } else {
        defined_of(&service, &arguments.names)?
    };
    let mut removed = Vec::new();
    for name in &names {
        match service.request("DELETE", &format!("/machines/{}", encoded(name)), None, PROMPT) {
            Ok(_) => removed.push(json!({ "name": name })),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if arguments.json {
        print_results(is_one, removed)?;
    }
    Ok(code)
}
