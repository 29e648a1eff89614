//! `viridian command`.

use serde_json::{Value, json};

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

    /// Print an object with the machine, the device and the result, instead of the result alone
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { name, device, command, arguments, json }: Arguments) -> Done {
    let word = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    let arguments = arguments.map(word);
    let path = format!("/devices/{}/{}", encoded(&device), encoded(&command));
    let machine = Remote::named(&name)?;
    let result = machine.post(&path, arguments.as_ref())?["result"].take();
    print_json(&if json { json!({ "name": machine.name, "device": device, "result": result }) } else { result })?;
    Ok(0)
}
