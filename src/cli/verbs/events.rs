//! `viridian events`.

use serde_json::Value;
use viridian::process::Marked;

use super::{Done, Machines, Targets};
use crate::cli::client::{Failure, Remote};

/// The options of `viridian events`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Print JSON: one object a line; for several machines, with the field machine
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { targets, json }: Arguments) -> Done {
    let machines = targets.machines()?;
    let (code, ends) = machines.each(|machine| follow(machine, json, &machines));
    Ok(ends.into_iter().map(|(_, code)| code).fold(code, u8::max))
}

/// Prints the events of a machine to its end, with its name if it is one of several.
fn follow(machine: &Remote, json: bool, machines: &Machines) -> Result<u8, Failure> {
    let mut events = machine.events()?;
    while let Some(event) = events.next(None)? {
        let is_end = event["event"] == "ended";
        machines.print_event(&machine.name, event, (!json).then_some(&in_words))?;
        if is_end {
            return Ok(0);
        }
    }
    Ok(super::REFUSED)
}

fn in_words(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = match event["event"].as_str() {
        Some("device") => format!("{}: {}", text(&event["device"]), text(&event["what"])),
        Some("failed") => text(&event["message"]),
        Some("restarted") => "the guest starts again".into(),
        Some("ended") => text(&event["end"]["message"]),
        _ => event.to_string(),
    };
    format!("{}\n", Marked(&words))
}
