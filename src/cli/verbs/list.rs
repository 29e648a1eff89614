//! `viridian list`.

use serde_json::{Value, json};

use super::table::table;
use super::{Done, ServiceSocket, at_once, failed, print, print_json};
use crate::cli::client::{Failure, Remote};
use crate::cli::host::chosen;

/// The options of `viridian list`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Also the machines of the service that are stopped; --service alone means the same
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let (code, found) = match chosen() {
        // Its service knows them all, also those that are stopped.
        Some(_) => {
            (0, arguments.service.service()?.get("/machines")?["machines"].as_array().cloned().unwrap_or_default())
        }
        None if arguments.all || arguments.service.is_given() => {
            let (code, mut found) = running()?;
            let known = arguments.service.service()?.get("/machines")?["machines"].take();
            let stopped = known.as_array().into_iter().flatten().filter(|machine| machine["process"].is_null());
            // A machine that a user has started by hand may have the name of one.
            let stopped = stopped.filter(|machine| found.iter().all(|running| running["name"] != machine["name"]));
            let mut stopped: Vec<_> = stopped.cloned().collect();
            found.append(&mut stopped);
            found.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
            (code, found)
        }
        None => running()?,
    };
    if arguments.json {
        print_json(&Value::Array(found))?;
    } else {
        print(&table(HEADINGS, found.iter().map(row)))?;
    }
    Ok(code)
}

/// Returns what the running machines of this user say of themselves, and the exit code for those that say nothing.
fn running() -> Result<(u8, Vec<Value>), Failure> {
    let machines = Remote::all()?;
    let summaries = at_once(&machines, |machine| {
        let mut summary = machine.get("/")?;
        // The name by which it is reached has a number if there are several of the name.
        summary["name"] = json!(machine.name);
        Ok(summary)
    });
    let (mut code, mut found) = (0, Vec::new());
    for (machine, summary) in machines.iter().zip(summaries) {
        match summary {
            Ok(summary) => found.push(summary),
            Err(failure) if failure.is_end() => {}
            Err(failure @ Failure::Slow(_)) => {
                code = code.max(failed(Some(&machine.name), &failure));
                found.push(json!({ "name": machine.name, "state": "unreachable" }));
            }
            Err(failure) => code = code.max(failed(Some(&machine.name), &failure)),
        }
    }
    Ok((code, found))
}

const HEADINGS: [&str; 8] = ["name", "state", "process", "VPs", "memory", "time", "heartbeat", "addresses"];

fn row(machine: &Value) -> [String; 8] {
    let text = |key: &str| machine[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| machine[key].as_u64().map_or("-".into(), |number| number.to_string());
    let memory = machine["memory-bytes"].as_u64().map_or("-".into(), |bytes| format!("{} MiB", bytes >> 20));
    let time = machine["seconds"].as_f64().map_or("-".into(), |seconds| format!("{seconds:.0} s"));
    let addresses = machine["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let addresses = addresses.collect::<Vec<_>>().join(" ");
    [text("name"), text("state"), number("process"), number("vps"), memory, time, text("heartbeat"), addresses]
}
