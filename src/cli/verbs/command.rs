//! `viridian command`.

use serde_json::{Value, json};

use super::{Done, Place};
use crate::cli::client::encoded;

/// The options of `viridian command`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

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

pub fn run(Arguments { place, device, command, arguments, json }: Arguments) -> Done {
    let word = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    let arguments = arguments.map(word);
    let path = format!("/devices/{}/{}", encoded(&device), encoded(&command));
    let machines = place.machines()?;
    let (code, results) = machines.each(|machine| Ok(machine.post(&path, arguments.as_ref())?["result"].take()));
    if json {
        let value = |(name, result)| json!({ "name": name, "device": device, "result": result });
        machines.print_json(results.into_iter().map(value).collect())?;
    } else {
        results.iter().try_for_each(|(name, result)| machines.print(name, &format!("{result:#}\n")))?;
    }
    Ok(code)
}
