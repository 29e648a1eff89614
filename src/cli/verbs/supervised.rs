//! Machines of the service: it starts some again after their ends, unless it knows that a user wants the end.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::TIMEOUT;
use crate::cli::client::{Failure, PROMPT, Remote, encoded};
use crate::cli::serve::default_socket;

/// The service that has started a machine.
pub struct Supervised {
    service: Remote,
    name: String,
    path: String,
}

impl Supervised {
    /// Returns the service that has started the machine: the one that was chosen, or one that listens at the default address.
    pub fn of(machine: &Remote) -> Option<Self> {
        let here = || Some(Remote::at("service", default_socket().ok()?));
        let service = machine.its_service().or_else(here)?;
        let path = format!("/machines/{}", encoded(&machine.name));
        let known = service.request("GET", &path, None, PROMPT).ok()?;
        // A machine that a user has started by hand may have the name of one of the service.
        let process = machine.get("/").ok()?["process"].clone();
        (process.is_u64() && known["process"] == process).then(|| Self { service, name: machine.name.clone(), path })
    }

    /// Requests an operation on the machine from the service.
    pub fn ask(&self, operation: &str, body: Option<&Value>, limit: Duration) -> Result<Value, Failure> {
        self.service.request("POST", &format!("{}/{operation}", self.path), body, limit)
    }

    /// Stops the machine through the service, and waits. Returns its end, or `None` if it still runs.
    pub fn stop(&self, how: &Value, limit: Duration) -> Result<Option<Value>, Failure> {
        let last = self.service.get("/machines")?["last-event"].as_u64().unwrap_or_default();
        let mut events = self.service.events_after(last)?;
        self.ask("stop", Some(how), PROMPT)?;
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
                (Some("state"), Some("stopped")) => return Ok(Some(event["end"].clone())),
                (Some("state"), Some("starting" | "waiting")) => return Ok(None),
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
