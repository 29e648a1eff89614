//! `viridian wait`.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stop::end_of;
use super::{Done, Targets, print, print_json, seconds};
use crate::cli::client::{Failure, PROMPT, Remote};

/// The event to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The guest has reported an address other than those of its loopback and links
    Address,
    /// The guest answers the heartbeat
    Heartbeat,
    /// The machine has ended
    End,
    /// The guest has printed this on its console
    Text(String),
}

fn what(text: &str) -> Result<What, String> {
    match (text, text.strip_prefix("text=")) {
        ("address", _) => Ok(What::Address),
        ("heartbeat", _) => Ok(What::Heartbeat),
        ("end", _) => Ok(What::End),
        (_, Some(text)) if !text.is_empty() => Ok(What::Text(text.into())),
        _ => Err("it is address, heartbeat, end, or text=TEXT".into()),
    }
}

/// The options of `viridian wait`.
#[derive(clap::Args)]
#[command(after_help = "\
Prints the address, the heartbeat, the text, or how the machine has ended. The exit code is 124 if the time is over, and 1 if
the machine ends before it has an address or a heartbeat, or prints the text. A text counts that is in the last 64 KiB which
the guest has printed before.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// The event to wait for: address, heartbeat, end, or text=TEXT, a text on the guest's console
    #[arg(long = "for", value_name = "WHAT", value_parser = what)]
    what: What,

    /// Time limit; without it, there is none
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let deadline = arguments.timeout.and_then(|time| Instant::now().checked_add(time));
    let (code, found) = arguments.targets.each(|machine| wait(machine, &arguments.what, deadline))?;
    if arguments.json {
        print_json(&arguments.targets.json(found.into_iter().map(|(_, value)| value).collect()))?;
    } else {
        let is_one = found.len() == 1;
        for (name, value) in &found {
            let words = match &arguments.what {
                What::Address => &value["addresses"][0],
                What::Heartbeat => &value["heartbeat"],
                What::End => &value["end"]["message"],
                What::Text(_) => &value["text"],
            };
            let words = viridian::process::Marked(words.as_str().unwrap_or_default()).to_string();
            print(&if is_one { format!("{words}\n") } else { format!("{name}  {words}\n") })?;
        }
    }
    Ok(code)
}

fn wait(machine: &Remote, what: &What, deadline: Option<Instant>) -> Result<Value, Failure> {
    let begun = Instant::now();
    let mut events = machine.events()?;
    if let What::Text(text) = what {
        drop(events);
        return wait_for_text(machine, text, deadline);
    }
    if *what == What::End {
        let slow = || Failure::Slow(begun.elapsed());
        let end = end_of(&mut events, deadline)?.ok_or_else(slow)?;
        return Ok(json!({ "name": machine.name, "end": end }));
    }
    // Events say when to look; those that were sent before are of the past.
    loop {
        let mut summary = machine.get("/")?;
        summary["name"] = json!(machine.name);
        let addresses: Vec<_> = summary["addresses"].as_array().into_iter().flatten().cloned().collect();
        let addresses: Vec<_> = addresses.into_iter().filter(is_reachable).collect();
        let is_there = match what {
            What::Address => !addresses.is_empty(),
            _ => summary["heartbeat"].as_str().is_some_and(|health| health.starts_with("Ok")),
        };
        if is_there {
            summary["addresses"] = json!(addresses);
            return Ok(summary);
        }
        match events.next(deadline)? {
            Some(event) if event["event"] != "ended" => {}
            _ => return Err(Failure::Other(super::REFUSED, "the machine has ended".into())),
        }
    }
}

/// Waits until the guest has printed a text.
fn wait_for_text(machine: &Remote, text: &str, deadline: Option<Instant>) -> Result<Value, Failure> {
    let begun = Instant::now();
    let (mut seen, mut stream) = machine.stream("GET", "/console", None, PROMPT)?.raw();
    let mut buffer = [0; 16 << 10];
    while !seen.windows(text.len()).any(|window| window == text.as_bytes()) {
        seen.drain(..seen.len().saturating_sub(text.len()));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Failure::Slow(begun.elapsed()));
        }
        stream.set_read_timeout(left).map_err(Failure::Lost)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Failure::Other(super::REFUSED, "the machine has ended without this text".into())),
            Ok(count) => seen.extend(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(Failure::Lost(error)),
        }
    }
    Ok(json!({ "name": machine.name, "text": text }))
}

/// Returns `true` for an address that others can use.
fn is_reachable(address: &Value) -> bool {
    match address.as_str().map(str::parse) {
        Some(Ok(std::net::IpAddr::V4(address))) => !address.is_loopback() && !address.is_link_local(),
        Some(Ok(std::net::IpAddr::V6(address))) => !address.is_loopback() && !address.is_unicast_link_local(),
        _ => false,
    }
}
