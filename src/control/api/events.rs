//! The events of a machine.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::control::http::EventStream;
use crate::machine::{DeviceEvent, Event, Failure};

/// The time after which an idle connection is found to be dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends all events from the machine's start on, and those that follow, until its end.
pub fn follow(exchange: &Exchange<'_>) -> Answered {
    let mut events = exchange.with(|machine| machine.events())?;
    if let Some(last) = exchange.request.last_event() {
        events.skip_to(last.saturating_add(1));
    }
    let lost = |error: io::Error| Problem::host(error.to_string());
    let mut stream = EventStream::start(exchange.stream).map_err(lost)?;
    let _ = send_all(exchange, &mut events, &mut stream);
    Ok(Reply::Sent)
}

fn send_all(
    exchange: &Exchange<'_>,
    events: &mut crate::machine::Events,
    stream: &mut EventStream<'_>,
) -> io::Result<()> {
    loop {
        match events.wait(KEEP_ALIVE) {
            Some(event) => stream.send(Some(events.number()), &to_json(&event))?,
            None if events.is_over() => break,
            None => stream.keep_alive()?,
        }
    }
    if let Some(outcome) = exchange.machine.outcome()? {
        stream.send(None, &json!({ "event": "ended", "end": &*outcome.end, "seconds": outcome.time.as_secs_f64() }))?;
    }
    Ok(())
}

fn to_json(event: &Event) -> Value {
    match event {
        Event::Restarted => json!({ "event": "restarted" }),
        Event::Failed(failure) => {
            let kind = if let Failure::Panicked { .. } = failure { "panicked" } else { "channel" };
            json!({ "event": "failed", "kind": kind, "message": failure.to_string() })
        }
        Event::Device(DeviceEvent { device, what, details }) => {
            json!({ "event": "device", "device": device, "what": what, "details": details })
        }
    }
}
