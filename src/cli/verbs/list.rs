//! `viridian list`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::table::table;
use super::{Done, Found, ServiceSocket, at_once, failed, find, print, print_json};
use crate::cli::client::{Failure, PROMPT, Remote};
use crate::cli::host::chosen;
use crate::cli::serve::add_usage;

/// Time for a machine to answer. One that hangs is shown as such.
const LIMIT: Duration = Duration::from_secs(2);
/// The state of a machine whose process does not answer.
const SILENT: &str = "not-answering";
/// The fields of a machine, whether it is one of a service or not. Those that are unknown are null.
const FIELDS: [&str; 26] = [
    "name",
    "lab",
    "machines",
    "state",
    "process",
    "seconds",
    "engine",
    "vps",
    "memory-bytes",
    "cpu-seconds",
    "resident-bytes",
    "heartbeat",
    "addresses",
    "guest-restarts",
    "policy-restarts",
    "restart",
    "autostart",
    "start-order",
    "start-delay",
    "host-stop",
    "cpu",
    "memory",
    "starts-in-seconds",
    "end",
    "problem",
    "service",
];

/// The options of `viridian list`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these machines, which need not run: names, several with commas, or patterns such as 'web*'
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Also the machines of the service that are stopped; --service alone means the same
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let needs_service = chosen().is_some() || arguments.all || arguments.service.is_given();
    let (mut code, mut found) = if chosen().is_some() { (0, Vec::new()) } else { running()? };
    let known = match arguments.service.service() {
        Ok(service) => {
            let limit = if needs_service { PROMPT } else { LIMIT };
            service.request("GET", "/machines", None, limit).map(|mut list| list["machines"].take())
        }
        Err(failure) => Err(failure),
    };
    let known = match known {
        Err(failure) if needs_service => return Err(failure),
        // Without a service, there are the machines of this user.
        other => other.unwrap_or_default(),
    };
    for machine in known.as_array().into_iter().flatten() {
        if merge(&mut found, machine) == Some(SILENT) {
            code = code.max(failed(machine["name"].as_str(), &Failure::Slow(PROMPT)));
        }
    }
    found.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
    if !arguments.names.is_empty() {
        let (missing, named) = named(&arguments.names, found)?;
        (code, found) = (code.max(missing), named);
    } else if !needs_service {
        found.retain(|machine| !matches!(machine["state"].as_str(), Some("stopped" | "broken")));
    }
    if arguments.json {
        print_json(&Value::Array(found))?;
        return Ok(code);
    }
    let rows = || found.iter().map(row);
    let has_ended = found.iter().any(|machine| !last(machine).is_empty());
    match has_ended {
        true => print(&table(HEADINGS, rows()))?,
        false => print(&table(HEADINGS.first_chunk::<8>().copied().unwrap_or_default(), rows().map(without_end)))?,
    }
    Ok(code)
}

/// Returns what the running machines of this user say of themselves, and the exit code for those that say nothing.
fn running() -> Result<(u8, Vec<Value>), Failure> {
    let machines = Remote::all()?;
    let summaries = at_once(&machines, |machine| machine.request("GET", "/", None, LIMIT));
    let (mut code, mut found) = (0, Vec::new());
    for (machine, summary) in machines.iter().zip(summaries) {
        // The name by which it is reached has a number if there are several of the name.
        let name = json!(machine.name);
        match summary {
            Ok(mut summary) => {
                summary["guest-restarts"] = summary["restarts"].take();
                found.push(listed(&name, summary));
            }
            Err(failure) if failure.is_end() => {}
            Err(failure @ Failure::Slow(_)) => {
                code = code.max(failed(Some(&machine.name), &failure));
                let process = machine.process().ok().map(|process| process.id);
                found.push(listed(&name, json!({ "state": SILENT, "process": process })));
            }
            Err(failure) => code = code.max(failed(Some(&machine.name), &failure)),
        }
    }
    Ok((code, found))
}

/// Returns a machine with all fields of the list.
fn listed(name: &Value, mut known: Value) -> Value {
    known["name"] = name.clone();
    if known.get("service").is_none() {
        known["service"] = json!(false);
    }
    if known.get("resident-bytes").is_none() {
        add_usage(&mut known);
    }
    let fields = FIELDS.map(|field| (field.to_owned(), known[field].take()));
    Value::Object(Map::from_iter(fields))
}

/// Adds what the service knows of one of its machines. The machine itself knows its state better. Returns `not-answering` if that is
/// news.
fn merge(found: &mut Vec<Value>, known: &Value) -> Option<&'static str> {
    let mut of_service = known.clone();
    of_service["service"] = json!(true);
    let is_silent = of_service["answers"] == false;
    if is_silent {
        of_service["state"] = json!(SILENT);
    }
    let of_service = listed(&known["name"], of_service);
    let Some(own) = found.iter_mut().find(|own| own["name"] == known["name"]) else {
        found.push(of_service);
        return is_silent.then_some(SILENT);
    };
    // A machine that a user has started by hand may have the name of one.
    if own["process"] == known["process"] {
        for field in FIELDS {
            if own[field].is_null() || field == "service" {
                own[field] = of_service[field].clone();
            }
        }
        if !own["lab"].is_null() {
            // The process is that of the lab.
            (own["cpu-seconds"], own["resident-bytes"]) = (Value::Null, Value::Null);
        }
    }
    None
}

/// Returns those with the names, and the exit code for those that there are not, which are reported.
fn named(words: &[String], all: Vec<Value>) -> Result<(u8, Vec<Value>), Failure> {
    let known: Vec<_> =
        all.into_iter().map(|machine| (machine["name"].as_str().unwrap_or_default().to_owned(), machine)).collect();
    let one = |word: &str| {
        let found = known.iter().find(|(name, _)| name == word).map(|(_, machine)| machine.clone());
        let names: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
        let names = if names.is_empty() { "there is none".into() } else { format!("there is {}", names.join(", ")) };
        found.ok_or_else(|| {
            Failure::Other(viridian::machine::code::USAGE, format!("there is no machine {word:?}; {names}"))
        })
    };
    let Found { found, missing, .. } = find(words, || Ok(known.clone()), one)?;
    let code = missing.iter().map(|failure| failed(None, failure)).max().unwrap_or_default();
    Ok((code, found.into_iter().map(|(_, machine)| machine).collect()))
}

const HEADINGS: [&str; 9] =
    ["name", "state", "process", "VPs", "memory", "time", "heartbeat", "addresses", "problem or last end"];

fn row(machine: &Value) -> [String; 9] {
    let text = |key: &str| machine[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| machine[key].as_u64().map_or("-".into(), |number| number.to_string());
    let memory = machine["memory-bytes"].as_u64().map_or("-".into(), |bytes| format!("{} MiB", bytes >> 20));
    let time = machine["seconds"].as_f64().map_or("-".into(), |seconds| format!("{seconds:.0} s"));
    let addresses = machine["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let addresses = addresses.collect::<Vec<_>>().join(" ");
    let state = text("state").replace('-', " ");
    [text("name"), state, number("process"), number("vps"), memory, time, text("heartbeat"), addresses, last(machine)]
}

fn without_end([name, state, process, vps, memory, time, heartbeat, addresses, _]: [String; 9]) -> [String; 8] {
    [name, state, process, vps, memory, time, heartbeat, addresses]
}

/// Returns why a machine that does not run cannot be used, or how it has ended.
fn last(machine: &Value) -> String {
    if !machine["process"].is_null() {
        return String::new();
    }
    let message = |key: &str| machine[key]["message"].as_str();
    let place = machine["problem"]["where"].as_str().map(|place| format!("{place}: ")).unwrap_or_default();
    match (message("problem"), message("end")) {
        (Some(problem), _) => format!("{place}{problem}"),
        (None, Some(end)) => end.to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_the_same_fields_whoever_knows_it() {
        let own = listed(&json!("web"), json!({ "state": "running", "process": 1, "guest-restarts": 2, "totals": {} }));
        let of_service = json!({ "name": "web", "state": "paused", "process": 1, "policy-restarts": 3, "end": null,
            "cpu-seconds": 1.5, "resident-bytes": 4096 });
        let mut alone = Vec::new();
        merge(&mut alone, &of_service);
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&alone[0]), keys(&own));
        assert_eq!((own["service"].clone(), alone[0]["service"].clone()), (json!(false), json!(true)));
        let mut both = vec![own.clone()];
        merge(&mut both, &of_service);
        let fields = ["state", "guest-restarts", "policy-restarts", "service"].map(|field| both[0][field].clone());
        assert_eq!((both.len(), fields), (1, [json!("running"), json!(2), json!(3), json!(true)]));
        // One of the name that a user has started by hand.
        let mut other = vec![own];
        merge(&mut other, &json!({ "name": "web", "state": "stopped", "process": null }));
        assert_eq!((other.len(), &other[0]["service"]), (1, &json!(false)));
    }

    #[test]
    fn a_machine_of_a_service_that_hangs_is_shown_as_such() {
        let state = |answers: Value| {
            let mut found = Vec::new();
            let known = json!({ "name": "web", "state": "running", "process": 1, "answers": answers });
            let news = merge(&mut found, &known);
            // Nobody is told twice.
            assert_eq!(merge(&mut found, &known), None);
            (news, found.remove(0)["state"].take())
        };
        let expected = [(None, json!("running")), (Some(SILENT), json!(SILENT)), (None, json!("running"))];
        assert_eq!([json!(true), json!(false), json!(null)].map(state), expected);
    }

    #[test]
    fn a_machine_without_a_process_shows_its_problem_or_its_last_end() {
        let problem = json!({ "message": "no such key", "where": "line 2" });
        let end = json!({ "message": "it has ended" });
        assert_eq!(last(&json!({ "problem": problem, "end": end })), "line 2: no such key");
        assert_eq!(last(&json!({ "end": end })), "it has ended");
        assert_eq!(last(&json!({ "process": 3, "end": end })), "");
    }
}
