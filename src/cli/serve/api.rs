//! The handlers of requests.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::access::{Caller, NewEntry};
use super::audit::Audit;
use super::connections::{Client, Connections, Follower};
use super::error::Problem;
use super::event_log::Next;
use super::exposition::MEDIA_TYPE;
use super::guard::Guard;
use super::http::{EventStream, Request};
use super::leases::Lease;
use super::metrics::Requests;
use super::operations;
use super::process::{tail, usage};
use super::supervisor::Supervisor;
use super::tickets::Tickets;

/// The time after which an idle connection is found to be dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Maximum length of the console output in a reply.
const CONSOLE: u64 = 64 << 10;

/// The service.
pub struct Service {
    /// The machines.
    pub supervisor: Arc<Supervisor>,
    /// The connections of each address.
    pub connections: Vec<Arc<Connections>>,
    /// The requests, counted.
    pub requests: Requests,
    /// What browsers show to open WebSockets.
    pub tickets: Tickets,
    /// Who may do what.
    pub guard: Guard,
    /// What was changed.
    pub audit: Audit,
    /// When it was started.
    pub begun: Instant,
}

/// A request that is answered.
pub struct Call<'a> {
    /// The service.
    pub service: &'a Service,
    /// The request.
    pub request: &'a Request,
    /// The connection, for answers that take their time.
    pub stream: &'a UnixStream,
    /// Its other end.
    pub client: &'a Client,
    /// Who the request comes from.
    pub caller: &'a Caller,
    /// The connections of its address.
    pub connections: &'a Connections,
    /// The machine, or the holder of a role, that the path names.
    pub name: &'a str,
}

/// A file of the page.
pub struct Asset {
    /// Its path under `/page`.
    pub path: &'static str,
    /// Its content.
    pub text: &'static str,
}

/// The answer.
pub enum Reply {
    /// A JSON body.
    Json(Value),
    /// A JSON body about something that is new.
    Created(Value),
    /// A text of this type.
    Text(&'static str, String),
    /// A file of the page.
    File(&'static Asset),
    /// The handler has sent it.
    Sent,
    /// The handler has passed the reply of a machine on, which had this status.
    Forwarded(u16),
}

/// The result of a handler.
pub type Answered = Result<Reply, Problem>;

/// Returns the status of an answer.
pub fn status(answer: &Answered) -> u16 {
    match answer {
        Ok(Reply::Created(_)) => 201,
        Ok(Reply::Forwarded(status)) => *status,
        Ok(_) => 200,
        Err(problem) => problem.status,
    }
}

impl Call<'_> {
    /// Takes a place for an answer that lasts. It ends when the client disconnects, or loses its right to it.
    ///
    /// # Errors
    /// Returns an error if there are too many, or if the right has just ended.
    pub fn follow(&self) -> Result<(Follower<'_>, Option<Lease<'_>>), Problem> {
        Ok((self.connections.follow()?, self.service.guard.hold(self.caller, self.stream)?))
    }

    fn supervisor(&self) -> &Arc<Supervisor> {
        &self.service.supervisor
    }

    /// Returns the body as JSON, with the place of a mistake. A missing body is an empty object.
    ///
    /// # Errors
    /// Returns an error if it is not what is expected.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.request.parsed().map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Problem::invalid(format!("the body: {error}")).with_place(place)
        })
    }

    /// Returns the definition in the body: as TOML, or in JSON.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn definition(&self) -> Result<String, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            definition: String,
        }
        if self.request.body.is_empty() {
            let remedy = "send the TOML of a definition; a comment is sufficient for the embedded guest";
            return Err(Problem::invalid("the body is empty").with_remedy(remedy));
        }
        if self.request.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
            return Ok(self.json::<Body>()?.definition);
        }
        let wrong = |_| Problem::invalid("the body is not UTF-8 text").with_remedy("send the TOML of a definition");
        Ok(std::str::from_utf8(&self.request.body).map_err(wrong)?.to_owned())
    }

    /// Returns what is known of the machine.
    fn view(&self) -> Result<Value, Problem> {
        let mut view = {
            let machines = self.supervisor().machines();
            let machine = machines.get(self.name).ok_or_else(|| Problem::no_machine(self.name))?;
            machine.to_json(self.name)
        };
        add_usage(&mut view);
        Ok(view)
    }
}

/// Adds what the process of a machine has used. The machines are not locked meanwhile.
pub fn add_usage(view: &mut Value) {
    // The process of a machine of a lab is that of others, too.
    let is_own = view.get("lab").is_none_or(Value::is_null);
    let usage = view["process"].as_u64().filter(|_| is_own).and_then(|id| usage(u32::try_from(id).ok()?));
    view["cpu-seconds"] = json!(usage.map(|usage| usage.cpu_seconds));
    view["resident-bytes"] = json!(usage.map(|usage| usage.resident_bytes));
}

/// Returns facts about the service.
pub fn service(call: &Call<'_>) -> Answered {
    let supervisor = call.supervisor();
    let unknown = supervisor.unknown.iter();
    let unknown: Vec<_> =
        unknown.map(|(path, reason)| json!({ "path": path.display().to_string(), "reason": reason })).collect();
    Ok(Reply::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "seconds": call.service.begun.elapsed().as_secs_f64(),
        "memory-budget-bytes": supervisor.budget.as_ref().map(|budget| budget.bytes),
        "memory-in-use-bytes": supervisor.memory_in_use(),
        "state-directory": supervisor.store.path().display().to_string(),
        "who": call.caller.who,
        "role": call.caller.role,
        "unknown-files": unknown,
    })))
}

/// Returns a token for the code of `--open`.
pub fn session(call: &Call<'_>) -> Answered {
    let token = call.service.guard.enter(call.client, call.request)?;
    Ok(Reply::Json(json!({ "token": token })))
}

/// Lists who may do what.
pub fn access(call: &Call<'_>) -> Answered {
    Ok(Reply::Json(call.service.guard.to_json()))
}

/// Gives a role to a name.
pub fn grant(call: &Call<'_>) -> Answered {
    let new = call.json::<NewEntry>()?;
    call.service.guard.add(&call.supervisor().store, call.name, &new).map(Reply::Created)
}

/// Takes the role of a name away.
pub fn revoke(call: &Call<'_>) -> Answered {
    call.service.guard.remove(&call.supervisor().store, call.name)?;
    Ok(Reply::Json(json!({})))
}

/// Begins to stop all machines, because the host shuts down.
pub fn host_stop(call: &Call<'_>) -> Answered {
    call.supervisor().stop_for_host();
    Ok(Reply::Json(json!({})))
}

/// Lists the machines.
pub fn list(call: &Call<'_>) -> Answered {
    let (mut all, last) = {
        let machines = call.supervisor().machines();
        let all: Vec<_> = machines.iter().map(|(name, machine)| machine.to_json(name)).collect();
        // Events are added while the machines are locked: what follows this one is not in the list yet.
        (all, call.supervisor().events.newest())
    };
    all.iter_mut().for_each(add_usage);
    Ok(Reply::Json(json!({ "machines": all, "last-event": last })))
}

/// Returns what is known of a machine, without asking it.
pub fn get(call: &Call<'_>) -> Answered {
    let mut machine = call.view()?;
    let process = machine["lab"].as_str().unwrap_or(call.name).to_owned();
    machine["messages"] = json!(call.supervisor().places.messages(&process));
    Ok(Reply::Json(machine))
}

/// Returns the text of a definition.
pub fn definition(call: &Call<'_>) -> Answered {
    let machines = call.supervisor().machines();
    let machine = machines.get(call.name).ok_or_else(|| Problem::no_machine(call.name))?;
    Supervisor::of_lab(call.name, machine)?;
    match &machine.definition {
        Ok(definition) => Ok(Reply::Text("application/toml", definition.text.clone())),
        Err(problem) => Err(Problem { status: 409, ..problem.clone() }),
    }
}

/// Creates or replaces a definition.
pub fn put(call: &Call<'_>) -> Answered {
    let is_new = call.supervisor().define(call.name, &call.definition()?)?;
    let view = call.view()?;
    Ok(if is_new { Reply::Created(view) } else { Reply::Json(view) })
}

/// Removes a definition.
pub fn delete(call: &Call<'_>) -> Answered {
    call.supervisor().remove(call.name)?;
    Ok(Reply::Json(json!({})))
}

/// Starts a machine.
pub fn start(call: &Call<'_>) -> Answered {
    operations::start(call.supervisor(), call.name)?;
    call.view().map(Reply::Json)
}

/// Begins to stop a machine.
pub fn stop(call: &Call<'_>) -> Answered {
    operations::stop(call.supervisor(), call.name, &call.caller.who, &call.json()?)?;
    call.view().map(Reply::Json)
}

/// Ends a machine at once.
pub fn kill(call: &Call<'_>) -> Answered {
    operations::kill(call.supervisor(), call.name)?;
    call.view().map(Reply::Json)
}

/// Stops the guest and its time.
pub fn pause(call: &Call<'_>) -> Answered {
    operations::ask(call.supervisor(), call.name, "/pause")?;
    call.view().map(Reply::Json)
}

/// Resumes the machine.
pub fn resume(call: &Call<'_>) -> Answered {
    operations::ask(call.supervisor(), call.name, "/resume")?;
    call.view().map(Reply::Json)
}

/// Resets the machine.
pub fn reset(call: &Call<'_>) -> Answered {
    operations::ask(call.supervisor(), call.name, "/reset")?;
    call.view().map(Reply::Json)
}

/// Sends a non-maskable interrupt to the processors.
pub fn nmi(call: &Call<'_>) -> Answered {
    operations::ask(call.supervisor(), call.name, "/nmi")?;
    call.view().map(Reply::Json)
}

/// Returns the tree of a machine and its devices.
pub fn inspect(call: &Call<'_>) -> Answered {
    operations::inspect(call.supervisor(), call.name).map(Reply::Json)
}

/// Returns the end of a guest's console.
pub fn console(call: &Call<'_>) -> Answered {
    let (own, runs) = {
        let machines = call.supervisor().machines();
        let machine = machines.get(call.name).ok_or_else(|| Problem::no_machine(call.name))?;
        let runs = machine.process.is_some();
        let definition = machine.definition.as_ref().ok();
        let own = definition.and_then(|own| if runs { own.console() } else { own.last_console() });
        (own.map(ToOwned::to_owned), runs)
    };
    let kept = || Some(call.supervisor().places.last_console(call.name)).filter(|path| !runs && path.exists());
    let Some(path) = own.or_else(kept) else {
        let remedy = match runs {
            true => "attach to it, or write console = \"file:PATH\" in the definition",
            false => "start the machine, or write console = \"file:PATH\" in the definition",
        };
        return Err(Problem::state(format!("the console of {} is not kept", call.name)).with_remedy(remedy));
    };
    let text = match tail(&path, CONSOLE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|error| Problem::host(format!("{}: {error}", path.display())))?,
    };
    Ok(Reply::Text("text/plain; charset=utf-8", text))
}

/// Returns the metrics.
pub fn metrics(call: &Call<'_>) -> Answered {
    let service = call.service;
    let processes: Vec<_> = {
        let machines = service.supervisor.machines();
        let own = machines.iter().filter(|(_, machine)| machine.lab.is_none());
        let processes = own.filter_map(|(name, machine)| Some((name, machine.process.as_ref()?.id)));
        processes.map(|(name, id)| (name.clone(), id)).collect()
    };
    let used = processes.into_iter().filter_map(|(name, id)| Some((name, usage(id)?))).collect();
    let open = service.connections.iter().map(|connections| connections.open()).sum();
    let text = super::metrics::text(&service.supervisor.machines(), &used, &service.requests, open);
    Ok(Reply::Text(MEDIA_TYPE, text))
}

/// Returns the metrics of a machine. It is asked itself, so one that hangs delays this request and not `/metrics`.
pub fn machine_metrics(call: &Call<'_>) -> Answered {
    let tree = operations::inspect(call.supervisor(), call.name)?;
    Ok(Reply::Text(MEDIA_TYPE, super::machine_metrics::text(call.name, &tree)))
}

/// Sends the events that are kept, and those that follow.
pub fn events(call: &Call<'_>) -> Answered {
    let _place = call.follow()?;
    let lost = |error: io::Error| Problem::host(error.to_string());
    let mut stream = EventStream::start(call.stream).map_err(lost)?;
    let events = &call.supervisor().events;
    let mut last = call.request.last_event();
    loop {
        let sent = match events.after(last.unwrap_or_default(), KEEP_ALIVE) {
            Next::Event(number, event) => {
                last = Some(number);
                stream.send(last, &event)
            }
            // A client that has seen none misses none.
            Next::Lost(number) => match last.replace(number) {
                None => Ok(()),
                Some(_) => stream.send(Some(number), &json!({ "event": "lost" })),
            },
            Next::Nothing => stream.keep_alive(),
            Next::Closed => return Ok(Reply::Sent),
        };
        if sent.is_err() {
            return Ok(Reply::Sent);
        }
    }
}
