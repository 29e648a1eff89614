//! Machines of the service: it starts some again after their ends, unless it knows that a user wants the end.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::TIMEOUT;
use crate::cli::client::{Failure, PROMPT, Remote, encoded};

/// The service that has started a machine, or will do so.
pub struct Supervised {
    service: Remote,
    name: String,
    path: String,
}

/// The way in which a machine of the service was stopped.
pub struct Stopped {
    /// Its last end.
    pub end: Value,
    /// It had ended before, and was about to be started again.
    pub has_waited: bool,
}

impl Supervised {
    /// Returns the service that has started the machine, or will do so: the one that was chosen, or one that listens at the default
    /// address. The machine itself is not asked: it may hang.
    pub fn of(machine: &Remote) -> Option<Self> {
        let service = Remote::usual_service().ok()?;
        let path = format!("/machines/{}", encoded(&machine.name));
        let known = service.get(&path).ok()?;
        let is_its = match machine.process() {
            _ if machine.its_service().is_some() => true,
            // A machine that a user has started by hand may have the name of one of the service.
            Ok(process) => known["process"] == process.id,
            Err(_) => !matches!(known["state"].as_str(), Some("stopped" | "broken")),
        };
        is_its.then(|| Self { service, name: machine.name.clone(), path })
    }

    /// Requests an operation on the machine from the service.
    pub fn ask(&self, operation: &str, body: Option<&Value>, limit: Duration) -> Result<Value, Failure> {
        self.service.request("POST", &format!("{}/{operation}", self.path), body, limit)
    }

    /// Stops the machine through the service, and waits. Returns `None` if it still runs.
    pub fn stop(&self, how: &Value, limit: Duration) -> Result<Option<Stopped>, Failure> {
        let before = self.service.get(&self.path)?;
        let last = self.service.get("/machines")?["last-event"].as_u64().unwrap_or_default();
        let mut events = self.service.events_after(last)?;
        let asked = self.ask("stop", Some(how), PROMPT)?;
        if asked["state"] == "stopped" {
            return Ok(Some(Stopped { end: asked["end"].clone(), has_waited: before["process"].is_null() }));
        }
        // Before the stop begins, the machine may still have been started.
        let mut is_stopping = before["state"] == "stopping";
        let deadline = Instant::now().checked_add(limit);
        loop {
            let event = match events.next(deadline) {
                Ok(Some(event)) => event,
                Err(Failure::Slow(_)) => return Ok(None),
                Ok(None) => return Err(Failure::Lost(std::io::ErrorKind::UnexpectedEof.into())),
                Err(failure) => return Err(failure),
            };
            if event["machine"] != *self.name {
                continue;
            }
            match (event["event"].as_str(), event["state"].as_str()) {
                (Some("state"), Some("stopped")) => {
                    return Ok(Some(Stopped { end: event["end"].clone(), has_waited: false }));
                }
                (Some("state"), Some("stopping")) => is_stopping = true,
                (Some("state"), Some("starting" | "waiting")) if is_stopping => return Ok(None),
                // The machine goes on before the reason is known.
                (Some("job"), Some("failed" | "cancelled")) if event["kind"] == "stop" => {
                    let reason = event["problem"]["message"].as_str().unwrap_or("the request was cancelled");
                    return Err(Failure::Other(TIMEOUT, format!("the machine still runs: {reason}")));
                }
                _ => {}
            }
        }
    }
}
