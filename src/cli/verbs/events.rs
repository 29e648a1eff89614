//! `viridian events`.

use serde_json::Value;
use viridian::process::Marked;

use super::{Done, Machines, ServiceSocket, labelled, print_endless};
use crate::cli::client::{Failure, Remote};

/// The options of `viridian events`.
#[derive(clap::Args)]
#[command(after_help = "\
Without a NAME, the events of the service are printed, beginning with those that it keeps: starts and ends of all its machines,
definitions, jobs.")]
pub struct Arguments {
    /// Names of machines, as viridian list prints them, several with commas, patterns such as 'web*', or paths of control sockets
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// All running machines of this user
    #[arg(long, conflicts_with = "names")]
    all: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: one object a line; for several machines, with the field machine
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { names, all, service, json }: Arguments) -> Done {
    if names.is_empty() && !all {
        return of_service(&service.service()?, json);
    }
    let machines = if all { Machines::all()? } else { Machines::named(&names)? };
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

/// Prints the events of the service to its end.
fn of_service(service: &Remote, json: bool) -> Done {
    let mut events = service.events()?;
    while let Some(event) = events.next(None)? {
        let text = if json { format!("{event}\n") } else { words_of_service(&event) };
        print_endless(&text)?;
    }
    Err(Failure::Other(super::REFUSED, "the service has ended".into()))
}

/// Returns an event of the service in words, with the name of the machine before it.
fn words_of_service(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = match event["event"].as_str() {
        Some("state") => match event["end"]["message"].as_str() {
            Some(end) => format!("{}: {end}", text(&event["state"])),
            None => text(&event["state"]),
        },
        Some(kind @ ("defined" | "removed" | "adopted")) => kind.into(),
        Some("job") => format!("job {}: {} {}", event["job"], text(&event["kind"]), text(&event["state"])),
        Some("certificate") => format!("the files of --tls were read again: {}", text(&event["fingerprint"])),
        Some("lost") => "some events were lost".into(),
        _ => return with_name(event, &in_words(event)),
    };
    with_name(event, &format!("{}\n", Marked(&words)))
}

fn with_name(event: &Value, words: &str) -> String {
    match event["machine"].as_str() {
        Some(name) => labelled(name, words),
        None => words.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_the_service_are_lines_with_the_name_of_the_machine() {
        for (event, expected) in [
            (json!({ "event": "state", "machine": "web", "state": "running", "end": null }), "web: running\n"),
            (
                json!({ "event": "state", "machine": "web", "state": "stopped", "end": { "message": "powered off" } }),
                "web: stopped: powered off\n",
            ),
            (json!({ "event": "defined", "machine": "a" }), "a: defined\n"),
            (
                json!({ "event": "job", "job": 7, "kind": "copy", "machine": "a", "state": "done" }),
                "a: job 7: copy done\n",
            ),
            (json!({ "event": "device", "machine": "a", "device": "kvp", "what": "ready" }), "a: kvp: ready\n"),
            (json!({ "event": "lost" }), "some events were lost\n"),
        ] {
            assert_eq!(words_of_service(&event), expected);
        }
    }
}
