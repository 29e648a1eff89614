//! The machine as a whole: its state, and what changes it.

use serde_json::json;

use super::totals::{counters, totals};
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply, done};
use crate::machine::{AccessError, End, PauseError};

/// The version of the protocol. It changes if something of it is removed or gets another meaning.
const PROTOCOL: u32 = 1;

/// Returns the facts about the machine that fit into a line of a list.
pub fn summary(exchange: &Exchange<'_>) -> Answered {
    let tree = exchange.with(|machine| machine.inspect())?;
    let devices = &tree["devices"];
    Ok(Reply::Json(json!({
        "protocol": PROTOCOL,
        "name": tree["name"],
        "process": std::process::id(),
        "state": tree["state"],
        "engine": tree["engine"],
        "vps": tree["vps"],
        "restarts": tree["restarts"],
        "memory-bytes": tree["memory-bytes"],
        "memory-assigned-bytes": devices["memory"]["assigned-bytes"],
        "totals": totals(&tree),
        "counters": counters(&tree),
        "seconds": exchange.machine.age().as_secs_f64(),
        "heartbeat": devices["heartbeat"]["status"]["health"],
        "addresses": devices["kvp"]["status"]["addresses"].as_array().cloned().unwrap_or_default(),
    })))
}

/// Returns everything there is to know about the machine and its devices.
pub fn inspect(exchange: &Exchange<'_>) -> Answered {
    let mut tree = exchange.with(|machine| machine.inspect())?;
    tree["process"] = json!(std::process::id());
    tree["seconds"] = json!(exchange.machine.age().as_secs_f64());
    Ok(Reply::Json(tree))
}

/// Stops the guest and its time.
pub fn pause(exchange: &Exchange<'_>) -> Answered {
    exchange.with(|machine| machine.pause())?.map_err(|error| match error {
        PauseError::Ended => Problem::gone(),
        error => Problem::state(error.to_string()),
    })?;
    done()
}

/// Resumes the machines.
pub fn resume(exchange: &Exchange<'_>) -> Answered {
    exchange.with(|machine| machine.resume())?;
    done()
}

/// Ends the machine at once.
pub fn kill(exchange: &Exchange<'_>) -> Answered {
    exchange.with(|machine| machine.stop(End::Terminated))?;
    done()
}

/// Resets the machine, whatever its guest does.
pub fn reset(exchange: &Exchange<'_>) -> Answered {
    exchange.with(|machine| machine.reset())?;
    done()
}

/// Sends a non-maskable interrupt to the processors.
pub fn nmi(exchange: &Exchange<'_>) -> Answered {
    exchange.with(|machine| machine.send_nmi())?.map_err(access)?;
    done()
}

/// Presses the power button.
pub fn power_button(exchange: &Exchange<'_>) -> Answered {
    exchange.with(|machine| machine.press_power_button())?.map_err(access)?;
    done()
}

fn access(error: AccessError) -> Problem {
    match error {
        AccessError::NoGuest => Problem::state(error.to_string()),
        error => Problem::host(error.to_string()),
    }
}

/// Sends a command to a device.
pub fn command(exchange: &Exchange<'_>) -> Answered {
    let arguments = exchange.request.value()?;
    let (device, command) = (exchange.name(0), exchange.name(1));
    Ok(Reply::Json(json!({ "result": exchange.with(|machine| machine.command(device, command, &arguments))?? })))
}
