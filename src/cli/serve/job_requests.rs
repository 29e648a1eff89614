//! The handlers of requests for jobs.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::access::Role;
use super::api::{Answered, Call, Reply};
use super::error::Problem;
use super::http::EventStream;
use super::job_work as work;
use super::jobs::STOP;
use super::operations;

/// The time after which an idle connection is found to be dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Start,
    Stop,
    Copy,
    Memory,
    Attach,
}

/// The body of a request to begin a job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewJob {
    kind: Kind,
    machine: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl NewJob {
    fn arguments<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let wrong = |error: serde_json::Error| Problem::invalid(error.to_string()).with_place("arguments");
        serde_json::from_value(Value::Object(self.arguments.clone())).map_err(wrong)
    }
}

/// Lists the jobs.
pub fn list(call: &Call<'_>) -> Answered {
    Ok(Reply::Json(json!({ "jobs": call.service.supervisor.jobs.list() })))
}

/// Begins a job.
pub fn begin(call: &Call<'_>) -> Answered {
    let new: NewJob = call.json()?;
    let (supervisor, who) = (&call.service.supervisor, call.caller.who.as_str());
    let id = match new.kind {
        Kind::Start if new.arguments.is_empty() => operations::begin_start(supervisor, &new.machine, who)?,
        Kind::Start => return Err(Problem::invalid("a start has no arguments").with_place("arguments")),
        Kind::Stop => {
            let begun = operations::stop(supervisor, &new.machine, who, &new.arguments()?)?;
            let running = || supervisor.jobs.running(STOP, &new.machine);
            begun.or_else(running).ok_or_else(|| Problem::state(format!("{} has stopped", new.machine)))?
        }
        Kind::Copy | Kind::Attach if call.caller.role < Role::Administer => {
            // They name files of this host.
            return Err(Problem::forbidden(call.caller, Role::Administer));
        }
        Kind::Copy => work::copy(supervisor, &new.machine, who, new.arguments()?)?,
        Kind::Attach => work::attach(supervisor, &new.machine, who, new.arguments()?)?,
        Kind::Memory => work::memory(supervisor, &new.machine, who, &new.arguments()?)?,
    };
    supervisor.jobs.get(id).map(Reply::Created)
}

/// Returns the number in the path.
fn number(call: &Call<'_>) -> Result<u64, Problem> {
    let name = call.name;
    name.parse().map_err(|_| Problem::not_found(format!("there is no job {name:?}; jobs have numbers")))
}

/// Returns a job.
pub fn get(call: &Call<'_>) -> Answered {
    call.service.supervisor.jobs.get(number(call)?).map(Reply::Json)
}

/// Requests the end of a job.
pub fn cancel(call: &Call<'_>) -> Answered {
    let (id, jobs) = (number(call)?, &call.service.supervisor.jobs);
    jobs.cancel(id)?;
    call.service.supervisor.wake();
    jobs.get(id).map(Reply::Json)
}

/// Sends a job each time that it has changed, until its end. A client that reads slowly gets the last change alone.
pub fn follow(call: &Call<'_>) -> Answered {
    let (id, jobs) = (number(call)?, &call.service.supervisor.jobs);
    jobs.get(id)?;
    let _place = call.follow()?;
    let lost = |error: io::Error| Problem::host(error.to_string());
    let mut stream = EventStream::start(call.stream).map_err(lost)?;
    let mut version = None;
    // A job that is forgotten meanwhile has ended long ago.
    while let Ok(seen) = jobs.after(id, version, KEEP_ALIVE) {
        let (sent, is_over) = match seen {
            Some(seen) => {
                version = Some(seen.version);
                (stream.send(None, &seen.job), seen.is_over)
            }
            None => (stream.keep_alive(), false),
        };
        if sent.is_err() || is_over {
            break;
        }
    }
    Ok(Reply::Sent)
}
