//! Freezing the guest's file systems.
//!
//! They stay frozen until the client closes its connection or sends something. So they are thawed even if the client is killed.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::services::{service, wait};
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::control::http::EventStream;
use crate::vsp::services::protocol::Failure;
use crate::vsp::services::provider::ServiceHandle;
use crate::vsp::services::table::Kind;
use crate::vsp::services::vss::{FREEZE_PATIENCE, Freeze};
use crate::vsp::services::{Answer, Request};

/// The time after which a client that has gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Maximum time for which the file systems stay frozen.
const MAX_LIMIT: u64 = 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    limit_seconds: u64,
}

impl Default for Body {
    fn default() -> Self {
        Self { limit_seconds: 600 }
    }
}

/// Freezes the file systems, and thaws them when the client closes its side of the connection, or at the limit.
pub fn freeze(exchange: &Exchange<'_>) -> Answered {
    let Body { limit_seconds } = exchange.request.json()?;
    if !(1..=MAX_LIMIT).contains(&limit_seconds) {
        return Err(Problem::invalid(format!("limit-seconds is 1 to {MAX_LIMIT}")));
    }
    let vss = service(exchange, Kind::Vss)?;
    let freeze = Freeze { patience: FREEZE_PATIENCE, limit: Duration::from_secs(limit_seconds) };
    let asked = vss.ask(Request::Freeze(freeze))?;
    // From here on, the file systems may be frozen.
    let guard = Thaw(Some(vss));
    let Ok(mut stream) = EventStream::start(exchange.stream) else { return Ok(Reply::Sent) };
    let outcome = loop {
        match asked.wait(KEEP_ALIVE) {
            Some(outcome) => break outcome,
            None if stream.keep_alive().is_err() => return Ok(Reply::Sent),
            None => {}
        }
    };
    // A client that does not take the last words has gone.
    let _ = match outcome {
        Ok(Answer::Frozen) => {
            if stream.send(None, &json!({ "event": "frozen" })).is_ok() {
                wait_for_client(exchange, &mut stream);
            }
            match guard.thaw() {
                Ok(()) => stream.send(None, &json!({ "event": "thawed" })),
                Err(problem) => stream.fail(&problem),
            }
        }
        Ok(other) => stream.fail(&Problem::host(format!("the service gives another answer: {other:?}"))),
        Err(failure) => stream.fail(&failure.into()),
    };
    Ok(Reply::Sent)
}

/// Waits until the client closes its side of the connection, or is gone.
fn wait_for_client(exchange: &Exchange<'_>, stream: &mut EventStream<'_>) {
    let mut client = exchange.stream;
    if client.set_read_timeout(Some(KEEP_ALIVE)).is_err() {
        return;
    }
    loop {
        match client.read(&mut [0; 64]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let is_over = exchange.machine.with(|_| ()).is_none();
                if is_over || stream.keep_alive().is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// A guard that thaws the file systems when it is dropped.
struct Thaw(Option<ServiceHandle>);

impl Thaw {
    /// Thaws, and waits for the guest to confirm it.
    fn thaw(mut self) -> Result<(), Problem> {
        let Some(vss) = self.0.take() else { return Ok(()) };
        match vss.ask(Request::Thaw).map_err(Problem::from).and_then(|asked| wait(&asked)) {
            Ok(_) => Ok(()),
            Err(problem) if problem.kind == "invalid" => Err(Problem::guest(
                "the file systems were thawed before: the time limit has passed, or the guest did it",
            )),
            Err(problem) => Err(problem),
        }
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        if let Some(vss) = self.0.take() {
            // If the freeze is not finished, dropping its request has cancelled it, and the service thaws by itself.
            let outcome = vss
                .ask(Request::Thaw)
                .and_then(|asked| asked.wait(Duration::from_secs(60)).unwrap_or(Err(Failure::Busy)));
            if let Err(failure) = outcome {
                log::debug!("a thaw that nobody waits for: {failure}");
            }
        }
    }
}
