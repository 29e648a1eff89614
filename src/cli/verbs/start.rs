//! `viridian start`.

use std::time::Duration;

use serde_json::Value;

use super::{Done, ServiceSocket, at_once, failed, print_json};
use crate::cli::client::encoded;

/// The service answers when the machine runs, or a little later.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of `viridian start`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of machines that the service has definitions of
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let service = arguments.service.service()?;
    let results = at_once(&arguments.names, |name| {
        service.request("POST", &format!("/machines/{}/start", encoded(name)), None, PATIENCE)
    });
    let (mut code, mut started) = (0, Vec::new());
    for (name, result) in arguments.names.iter().zip(results) {
        match result {
            Ok(machine) => started.push(machine),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if arguments.json {
        let all = if arguments.names.len() == 1 { started.pop().unwrap_or_default() } else { Value::Array(started) };
        print_json(&all)?;
    }
    Ok(code)
}
