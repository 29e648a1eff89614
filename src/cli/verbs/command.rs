//! `viridian command`.

use serde_json::Value;

use super::{Done, print_json};
use crate::cli::client::{Remote, encoded};

/// The options of `viridian command`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine
    name: String,

    /// The device, as viridian inspect names it
    device: String,

    /// The command; the answer to an unknown one lists those of the device
    command: String,

    /// Its arguments: JSON, or a plain word
    #[arg(value_name = "ARGUMENTS")]
    arguments: Option<String>,
}

pub fn run(Arguments { name, device, command, arguments }: Arguments) -> Done {
    let word = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    let arguments = arguments.map(word);
    let path = format!("/devices/{}/{}", encoded(&device), encoded(&command));
    let reply = Remote::named(&name)?.post(&path, arguments.as_ref())?;
    print_json(&reply["result"])?;
    Ok(0)
}
