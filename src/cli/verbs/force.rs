//! The end of a machine whose process does not answer: a signal that no process can hold up.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};

use super::{REFUSED, TIMEOUT};
use crate::cli::client::{Failure, Remote};
use crate::cli::say;

/// Time for a machine to answer a request for its end, before its process is killed.
pub const GRACE: Duration = Duration::from_secs(5);
/// Time for a process that was killed to end. The host may wait for a disk first.
const LIMIT: Duration = Duration::from_secs(10);

/// Time for a machine that has accepted its end: its disks are flushed.
pub const FLUSH: Duration = Duration::from_secs(30);

/// The reason why a process is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It does not answer.
    Silent,
    /// It answers, but the machine has not ended.
    Late,
}

/// Kills the process of a machine, and returns the end of the machine. If the process does not answer, its other machines, such as
/// those of `viridian up`, end with it.
///
/// # Errors
/// Returns an error if the process cannot be killed from here, or does not end, or if it answers and has other machines.
pub fn end(machine: &Remote, reason: Reason) -> Result<Value, Failure> {
    let process = match machine.process() {
        Ok(process) => process,
        // It is reached by a service, which knows the process.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Err(Failure::Slow(GRACE)),
        Err(error) => match Failure::Lost(error) {
            failure if failure.is_end() => return Ok(lost("its process has ended")),
            failure => return Err(failure),
        },
    };
    let id = process.id;
    let is_there = |other: &Remote| other.name != machine.name && other.process().is_ok_and(|other| other.id == id);
    let others: Vec<_> = Remote::all()?.into_iter().filter(is_there).map(|other| other.name).collect();
    let others = others.join(", ");
    let why = match reason {
        Reason::Silent => format!("its process {id} does not answer"),
        Reason::Late => format!("it has not ended within {} seconds", FLUSH.as_secs()),
    };
    let failed = |code: u8, what: String| Err(Failure::Other(code, format!("{why}, {what}")));
    match (reason, others.is_empty()) {
        (_, true) => say!("{}: {why}, and is killed", machine.name),
        (Reason::Silent, false) => say!("{}: {why}, and is killed with its other machines {others}", machine.name),
        (Reason::Late, false) => return failed(TIMEOUT, format!("and its process {id} has other machines: {others}")),
    }
    if let Err(error) = process.kill() {
        return failed(REFUSED, format!("and cannot be killed: {error}"));
    }
    if !process.ends_within(LIMIT) {
        return failed(TIMEOUT, "and was killed, but goes on: it waits for the host, perhaps for a disk".into());
    }
    Ok(lost(&format!("{why}, and was killed")))
}

fn lost(message: &str) -> Value {
    json!({ "kind": "lost", "exit-code": null, "message": message })
}
