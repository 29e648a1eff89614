//! `viridian undefine`.

use serde_json::{Value, json};

use super::{Done, ServiceSocket, failed, print_json};
use crate::cli::client::{PROMPT, encoded};

/// The options of `viridian undefine`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of machines that are stopped
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
    let (mut code, mut removed) = (0, Vec::new());
    for name in &arguments.names {
        match service.request("DELETE", &format!("/machines/{}", encoded(name)), None, PROMPT) {
            Ok(_) => removed.push(json!({ "name": name })),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if arguments.json {
        let all = if arguments.names.len() == 1 { removed.pop().unwrap_or_default() } else { Value::Array(removed) };
        print_json(&all)?;
    }
    Ok(code)
}
