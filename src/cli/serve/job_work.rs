//! The work of jobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use viridian::config::Size;

use super::error::Problem;
use super::job_worker::{cancelled, start};
use super::operations::problem;
use super::supervisor::Supervisor;
use crate::cli::client::{Failure, PROMPT};

/// Time for the answer to a copy to begin.
const COPY: Duration = Duration::from_secs(60);
/// Time for a disk or an adapter to be attached: the host may have to wake a disk, or to wait for another host.
const ATTACH: Duration = Duration::from_secs(3600);
/// Interval at which the guest's memory is looked at while it changes.
const LOOK: Duration = Duration::from_millis(250);
/// Longest time limit.
const LONGEST: f64 = 86_400.0;

/// A file that is copied into the guest, as the machine itself takes it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Copy {
    source: PathBuf,
    target: String,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    make_path: bool,
}

/// A device that is attached to the machine until its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// As after `--disk`.
    Disk(String),
    /// As after `--net`.
    Adapter(String),
}

/// A size that the guest's memory is brought to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    size: Size,
    #[serde(default = "ten_minutes")]
    limit_seconds: f64,
}

fn ten_minutes() -> f64 {
    600.0
}

/// Copies a file into the guest.
///
/// # Errors
/// Returns an error if the job cannot begin.
pub fn copy(supervisor: &Arc<Supervisor>, machine: &str, who: &str, copy: Copy) -> Result<u64, Problem> {
    let wrong = |text: &str| Err(Problem::invalid(text).with_place("arguments"));
    if !copy.source.is_absolute() {
        return wrong("the path of the source must be absolute");
    }
    if copy.target.is_empty() {
        return wrong("the target is empty");
    }
    supervisor.remote(machine)?;
    start(supervisor, "copy", machine, who, move |worker| {
        worker.step(&format!("copying {} to {}", copy.source.display(), copy.target));
        let mut events = worker.remote().stream("POST", "/copy", Some(&json!(copy)), COPY).map_err(problem)?;
        while let Some(event) = events.next(None).map_err(problem)? {
            match event["event"].as_str() {
                Some("progress") => {
                    let number = |key: &str| event[key].as_u64().unwrap_or_default();
                    worker.progress(number("copied-bytes"), number("total-bytes"));
                }
                Some("copied") => {
                    let bytes = event["bytes"].as_u64().unwrap_or_default();
                    worker.progress(bytes, bytes);
                    return Ok(json!({ "bytes": bytes }));
                }
                _ => return Err(problem(Failure::of(&event))),
            }
        }
        Err(if worker.is_cancelled() { cancelled() } else { Problem::state("the machine has ended") })
    })
}

/// Attaches a disk or an adapter.
///
/// # Errors
/// Returns an error if the job cannot begin.
pub fn attach(supervisor: &Arc<Supervisor>, machine: &str, who: &str, attach: Attach) -> Result<u64, Problem> {
    supervisor.remote(machine)?;
    start(supervisor, "attach", machine, who, move |worker| {
        let (resource, what) = match &attach {
            Attach::Disk(what) => ("/disks", what),
            Attach::Adapter(what) => ("/adapters", what),
        };
        worker.step(&format!("attaching {what}"));
        // The machine undoes what nobody waits for.
        let done = worker.remote().request("POST", resource, Some(&json!({ "what": what, "folder": "/" })), ATTACH);
        done.map_err(|failure| if worker.is_cancelled() { cancelled() } else { problem(failure) })
    })
}

/// Brings the guest's memory to a size.
///
/// # Errors
/// Returns an error if the job cannot begin: the machine does not run, or does not take the size.
pub fn memory(supervisor: &Arc<Supervisor>, machine: &str, who: &str, memory: &Memory) -> Result<u64, Problem> {
    let limit = Duration::try_from_secs_f64(memory.limit_seconds).ok().filter(|_| memory.limit_seconds <= LONGEST);
    let limit = limit.ok_or_else(|| {
        Problem::invalid(format!("limit-seconds: {} is not a time of up to {LONGEST} seconds", memory.limit_seconds))
    })?;
    let remote = supervisor.remote(machine)?;
    let set = remote.post("/devices/memory/set", Some(&json!(memory.size.0))).map_err(problem)?;
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
    let (target, begin) = (number(&set["result"], "target-bytes"), number(&set["result"], "assigned-bytes"));
    start(supervisor, "memory", machine, who, move |worker| {
        worker.step(&format!("bringing the guest's memory to {}", Size(target)));
        let begun = Instant::now();
        loop {
            let tree = worker.remote().get("/inspect").map_err(problem)?;
            let memory = &tree["devices"]["memory"];
            let assigned = number(memory, "assigned-bytes");
            if number(memory, "target-bytes") != target {
                return Err(Problem::state("another request has given the memory another target"));
            }
            worker.progress(assigned.abs_diff(begin).min(target.abs_diff(begin)), target.abs_diff(begin));
            if assigned == target {
                return Ok(json!({ "assigned-bytes": assigned }));
            }
            if begun.elapsed() >= limit {
                let text = format!("the guest has {} after {} seconds", Size(assigned), limit.as_secs_f64());
                return Err(
                    Problem::guest(text).with_remedy("it goes on towards its target; look at its memory again later")
                );
            }
            if !worker.pause(LOOK) {
                // The guest keeps what it has.
                let here = json!(assigned);
                let remote = worker.supervisor.socket(&worker.machine);
                let _ = remote.request("POST", "/devices/memory/set", Some(&here), PROMPT);
                return Err(cancelled());
            }
        }
    })
}
