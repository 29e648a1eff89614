//! `viridian events`.

use serde_json::Value;

use super::{Done, print};
use crate::cli::client::Remote;

/// The options of `viridian events`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine
    name: String,

    /// Print JSON: one object a line
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { name, json }: Arguments) -> Done {
    let mut events = Remote::named(&name)?.events()?;
    while let Some(event) = events.next(None)? {
        print(&if json { format!("{event}\n") } else { in_words(&event) + "\n" })?;
        if event["event"] == "ended" {
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
    viridian::process::Marked(&words).to_string()
}
