//! `viridian wait`.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use viridian::config::split_entries;

use super::stop::end_of;
use super::{Done, Targets, advised, seconds};
use crate::cli::client::{Failure, PROMPT, Remote};

/// Time between two looks for a machine that does not run yet.
const GLANCE: Duration = Duration::from_millis(50);

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
    /// The guest shows this on its screen
    ScreenText(String),
    /// The guest shows this picture on its screen
    Picture(Wanted),
}

/// A picture that is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    file: PathBuf,
    tolerance: u8,
    difference: Option<PathBuf>,
}

const KINDS: &str =
    "it is address, heartbeat, end, text=TEXT, screen-text=TEXT, or picture=FILE[,tolerance=N][,difference=FILE]";

fn what(text: &str) -> Result<What, String> {
    let value = text.split_once('=').filter(|(_, value)| !value.is_empty());
    match (text, value) {
        ("address", _) => Ok(What::Address),
        ("heartbeat", _) => Ok(What::Heartbeat),
        ("end", _) => Ok(What::End),
        (_, Some(("text", text))) => Ok(What::Text(text.into())),
        (_, Some(("screen-text", text))) => Ok(What::ScreenText(text.into())),
        (_, Some(("picture", options))) => wanted(options).map(What::Picture),
        _ => Err(KINDS.into()),
    }
}

fn wanted(options: &str) -> Result<Wanted, String> {
    let options = split_entries(options);
    let mut options = options.iter().map(String::as_str);
    let mut wanted = Wanted { file: absolute(options.next().unwrap_or_default())?, ..Wanted::default() };
    for option in options {
        match option.split_once('=') {
            Some(("tolerance", number)) => {
                let wrong = |_| format!("tolerance is the largest difference of a colour, 0 to 255, not `{number}`");
                wanted.tolerance = number.parse().map_err(wrong)?;
            }
            Some(("difference", file)) => wanted.difference = Some(absolute(file)?),
            _ => return Err(KINDS.into()),
        }
    }
    Ok(wanted)
}

/// Returns the path as the machine's process, which may have another working directory, finds it.
fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("`{path}`: {error}"))
}

/// The options of `viridian wait`.
#[derive(clap::Args)]
#[command(after_help = "\
Prints the address, the heartbeat, the text, or how the machine has ended. The exit code is 124 if the time is over, and 1 if
the machine ends before it has an address or a heartbeat, or prints or shows what is waited for. The last 64 KiB that the guest
has printed before count, too. A text on the screen is read if it is in a font of the guest's Linux. Each colour of each pixel
of a picture may differ by at most the tolerance; if the picture does not come, FILE shows the difference.

A machine that does not run yet is waited for, too: until the timeout, or for 10 seconds without --timeout. The exception is --for
end, for which a machine that does not run has ended.")]
pub struct Arguments {
    #[command(flatten)]
    targets: Targets,

    /// The event to wait for: address, heartbeat, end, text=TEXT on the guest's console, screen-text=TEXT or
    /// picture=FILE[,tolerance=N][,difference=FILE] on its screen
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
    let begun = Instant::now();
    let deadline = arguments.timeout.and_then(|time| Instant::now().checked_add(time));
    if arguments.what != What::End {
        let patience = arguments.timeout.unwrap_or(PROMPT);
        arguments.targets.plain_names().for_each(|name| wait_for_name(name, patience, begun));
    }
    let machines = arguments.targets.machines()?;
    let late = |failure| match arguments.timeout {
        Some(limit) => arguments.what.late(failure, limit),
        None => failure,
    };
    let (code, found) = machines.each(|machine| wait(machine, &arguments.what, deadline).map_err(late));
    if arguments.json {
        machines.print_json(found.into_iter().map(|(_, value)| value).collect())?;
    } else {
        for (name, value) in &found {
            let words = match &arguments.what {
                What::Address => &value["addresses"][0],
                What::Heartbeat => &value["heartbeat"],
                What::End => &value["end"]["message"],
                What::Text(_) | What::ScreenText(_) => &value["text"],
                What::Picture(_) => &value["picture"],
            };
            let words = viridian::process::Marked(words.as_str().unwrap_or_default()).to_string();
            machines.print(name, &format!("{words}\n"))?;
        }
    }
    Ok(code)
}

impl What {
    /// Returns what is told when a time limit is over.
    fn late(&self, failure: Failure, limit: Duration) -> Failure {
        let missing = match self {
            _ if !matches!(failure, Failure::Slow(_)) => return failure,
            Self::Address => "the guest has told no address",
            Self::Heartbeat => "there was no heartbeat",
            Self::End => "the machine has not ended",
            Self::Text(_) => "the guest has not printed the text",
            // The screen says how far it was.
            Self::ScreenText(_) | Self::Picture(_) => return failure,
        };
        Failure::Other(super::TIMEOUT, format!("{missing} within {} s", limit.as_secs_f64()))
    }
}

/// Waits until there is a machine of this name, which may just be starting.
fn wait_for_name(name: &str, patience: Duration, begun: Instant) {
    let is_missing = || matches!(Remote::named(name), Err(Failure::NoMachine(..)));
    let is_lab = || Remote::of_lab(name).is_some_and(|machines| !machines.is_empty());
    while is_missing() && !is_lab() && begun.elapsed() < patience {
        thread::sleep(GLANCE);
    }
}

fn wait(machine: &Remote, what: &What, deadline: Option<Instant>) -> Result<Value, Failure> {
    let begun = Instant::now();
    if let Some(seen) = match what {
        What::ScreenText(text) => Some(json!({ "text": text })),
        What::Picture(Wanted { file, tolerance, difference }) => {
            Some(json!({ "picture": file, "tolerance": tolerance, "difference": difference }))
        }
        _ => None,
    } {
        return wait_for_screen(machine, seen, deadline);
    }
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

/// Waits until the guest's screen shows what the body of the request says.
fn wait_for_screen(machine: &Remote, mut body: Value, deadline: Option<Instant>) -> Result<Value, Failure> {
    let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    body["limit-seconds"] = json!(limit.map(|limit| limit.as_secs_f64()));
    let patience = limit.map_or(Duration::MAX, |limit| limit.saturating_add(PROMPT));
    let reply = machine.request("POST", "/screen/wait", Some(&body), patience).map_err(|failure| match failure {
        Failure::Lost(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Failure::Other(super::REFUSED, "the machine has ended".into())
        }
        other => advised("the machine has no screen; run it with --display on")(other),
    })?;
    if reply["seen"] != true {
        return Err(Failure::Other(super::TIMEOUT, reply["message"].as_str().unwrap_or("the time is over").into()));
    }
    body["name"] = json!(machine.name);
    Ok(body)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_read_as_the_help_says() {
        assert_eq!(what("text=a=b").unwrap(), What::Text("a=b".into()));
        assert_eq!(what("screen-text=login: ").unwrap(), What::ScreenText("login: ".into()));
        let picture = Wanted { file: "/a.png".into(), tolerance: 8, difference: Some("/b.png".into()) };
        assert_eq!(what("picture=/a.png,tolerance=8,difference=/b.png").unwrap(), What::Picture(picture));
        let commas = Wanted { file: "/a,b.png".into(), tolerance: 8, ..Wanted::default() };
        assert_eq!(what("picture=/a,,b.png,tolerance=8").unwrap(), What::Picture(commas));
        let What::Picture(Wanted { file, .. }) = what("picture=a.png").unwrap() else { panic!() };
        assert!(file.is_absolute(), "the machine's process may have another working directory");
        for wrong in ["", "text=", "screen-text=", "picture=", "picture=a,b", "adress"] {
            assert_eq!(what(wrong).unwrap_err(), KINDS);
        }
        assert!(what("picture=a,tolerance=256").unwrap_err().contains("0 to 255"));
    }
}
