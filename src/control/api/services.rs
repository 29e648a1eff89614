//! Integration services.

use std::time::Duration;

use serde::Deserialize;

use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, done};
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
    ask(exchange, Kind::Shutdown, Request::Shutdown(Shutdown { force, text, limit, ..Shutdown::new(kind) }))?;
    done()
}
