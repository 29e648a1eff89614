//! Integration services.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply, done};
use crate::vsp::services::protocol::Failure;
use crate::vsp::services::provider::{Asked, ServiceHandle};
use crate::vsp::services::shutdown::{Kind as ShutdownKind, Shutdown};
use crate::vsp::services::table::Kind;
use crate::vsp::services::{Answer, Request};

/// Time limit for the answer of a guest whose machine is paused. A running one has the limit of the service.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::NoContact(_) | Failure::NoVersion(_) | Failure::Busy | Failure::Cancelled => Self::state(message),
            Failure::Invalid(_) | Failure::Source(_) => Self::invalid(message),
            Failure::Guest(_) | Failure::NoAnswer(_) | Failure::Closed | Failure::BadReply(_) => Self::guest(message),
        }
    }
}

/// Returns a service of the machine.
pub fn service(exchange: &Exchange<'_>, kind: Kind) -> Result<ServiceHandle, Problem> {
    let name = kind.profile().name;
    let off =
        || Problem::state(format!("the service {name} is off; turn it on with: viridian services NAME {name}=on"));
    exchange.with(|machine| machine.services().get(kind))?.ok_or_else(off)
}

/// Makes a request of a service, and waits for its outcome.
pub fn ask(exchange: &Exchange<'_>, kind: Kind, request: Request) -> Result<Answer, Problem> {
    wait(&service(exchange, kind)?.ask(request)?)
}

/// Waits for the outcome of a request.
pub fn wait(asked: &Asked) -> Result<Answer, Problem> {
    let slow = || Problem::guest("the guest has not answered; is the machine paused?");
    Ok(asked.wait(PATIENCE).ok_or_else(slow)??)
}

/// The body of a shutdown.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ShutdownBody {
    kind: ShutdownKind,
    force: bool,
    text: String,
    limit_seconds: Option<u32>,
}

impl Default for ShutdownBody {
    fn default() -> Self {
        Self { kind: ShutdownKind::PowerOff, force: false, text: String::new(), limit_seconds: None }
    }
}

/// Asks the guest to shut down. The answer comes before the guest acts.
pub fn shutdown(exchange: &Exchange<'_>) -> Answered {
    let ShutdownBody { kind, force, text, limit_seconds } = exchange.request.json()?;
    let limit = limit_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let restarts = kind == ShutdownKind::Restart;
    exchange.with(|machine| machine.restart_at_reset(restarts))?;
    let request = Request::Shutdown(Shutdown { force, text, limit, ..Shutdown::new(kind) });
    if let Err(problem) = ask(exchange, Kind::Shutdown, request) {
        exchange.with(|machine| machine.restart_at_reset(false))?;
        return Err(problem);
    }
    done()
}

/// Returns the service with this name.
fn kind(name: &str) -> Result<Kind, Problem> {
    let names = Kind::ALL.map(|kind| kind.profile().name);
    let unknown = || Problem::not_found(format!("there is no service {name:?}; there are {}", names.join(", ")));
    Kind::ALL.into_iter().find(|kind| kind.profile().name == name).ok_or_else(unknown)
}

/// Returns all services and their status, as far as they are on.
pub fn list(exchange: &Exchange<'_>) -> Answered {
    let handles = exchange.with(|machine| Kind::ALL.map(|kind| (kind, machine.services().get(kind))))?;
    let describe = |(kind, handle): (Kind, Option<ServiceHandle>)| {
        let status = handle.as_ref().map(ServiceHandle::status);
        json!({
            "name": kind.profile().name,
            "title": kind.profile().title,
            "enabled": handle.is_some(),
            "status": status,
        })
    };
    Ok(Reply::Json(Value::Array(handles.into_iter().map(describe).collect())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchBody {
    enabled: bool,
}

/// Turns a service on or off.
pub fn switch(exchange: &Exchange<'_>) -> Answered {
    let kind = kind(exchange.name(0))?;
    let SwitchBody { enabled } = exchange.request.json()?;
    if enabled {
        let result = exchange.with(|machine| machine.services().enable_as_configured(kind).map(drop))?;
        result.map_err(|error| Problem::host(error.to_string()))?;
    } else {
        exchange.with(|machine| machine.services().disable(kind))?;
    }
    done()
}
