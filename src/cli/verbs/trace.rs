//! `viridian trace`.

use serde_json::Value;
use viridian::process::Marked;

use super::{Done, Targets};
use crate::cli::client::{PROMPT, encoded};

/// The options of `viridian trace`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  viridian trace web
  viridian trace web --kinds vmbus,storage --filter 'channel 3'
  viridian trace web --kinds hypercall --filter PostMessage
  viridian trace web --kinds all --json | jq -r .line

The trace begins with what happens now. A reader that is too slow loses the oldest lines, and a line says how many. For a
trace from the start, use viridian run --trace.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// Kinds of events: vmbus, storage, network, hypercall, msr, synic, or all
    #[arg(long, value_name = "KIND,...", default_value = "vmbus")]
    kinds: String,

    /// Only lines with this text, such as 'channel 3', in upper or lower case; repeat for lines with all of several texts
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,

    /// Print JSON: one object a line; for several machines, with the field machine
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { targets, kinds, filter, json }: Arguments) -> Done {
    let machines = targets.machines()?;
    let mut path = format!("/trace/{}", encoded(&kinds));
    if !filter.is_empty() {
        path = format!("{path}/{}", encoded(&filter.join(";")));
    }
    let (code, _) = machines.each(|machine| {
        let mut events = machine.stream("GET", &path, None, PROMPT)?;
        while let Some(event) = events.next(None)? {
            machines.print_event(&machine.name, event, (!json).then_some(&line))?;
        }
        Ok(())
    });
    Ok(code)
}

fn line(event: &Value) -> String {
    if event["event"] == "dropped" {
        return format!("({} lines were dropped, because they were not read in time)\n", event["count"]);
    }
    let time = event["time"].as_f64().unwrap_or_default();
    format!("[{time:13.7}] {}\n", Marked(event["line"].as_str().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_its_time_and_what_was_dropped_is_counted() {
        let event = json!({ "event": "trace", "time": 1.5, "kind": "vmbus", "line": "guest: UNLOAD" });
        assert_eq!(line(&event), "[    1.5000000] guest: UNLOAD\n");
        assert!(line(&json!({ "event": "dropped", "count": 3 })).starts_with("(3 lines were dropped"));
    }
}
