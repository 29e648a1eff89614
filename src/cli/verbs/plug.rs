//! The common part of `viridian disk` and `viridian adapter`.

use std::time::Duration;

use serde_json::{Value, json};
use viridian::machine::code;

use super::{Done, done, print, print_json};
use crate::cli::client::{Failure, PROMPT, Remote, encoded};

/// Time for a device to be attached: the host may have to wake a disk, or to wait for another host. A user who does not want to wait
/// ends this command, and the machine undoes the change.
const ATTACH: Duration = Duration::from_secs(3600);

/// Prints the devices of a kind.
pub fn list(machine: &Remote, kind: &str, as_json: bool, words: impl Fn(&Value) -> String) -> Done {
    let tree = machine.get("/inspect")?;
    let devices = tree["devices"].as_object().into_iter().flatten().filter(|(_, device)| device["kind"] == kind);
    if as_json {
        print_json(&Value::Object(devices.map(|(name, device)| (name.clone(), device.clone())).collect()))?;
    } else {
        for (name, device) in devices {
            print(&format!("{name}  {}\n", viridian::process::Marked(&words(device))))?;
        }
    }
    Ok(0)
}

/// Attaches a device. `what` is as on the command line of `run`.
pub fn attach(machine: &Remote, resource: &str, what: &str, as_json: bool) -> Done {
    let folder = match machine.its_service() {
        None => std::env::current_dir().map_err(|error| Failure::Other(code::FAILED, error.to_string()))?,
        // Paths are those of the other host, where this program is in no directory.
        Some(_) => "/".into(),
    };
    let reply = machine.request("POST", resource, Some(&json!({ "what": what, "folder": folder })), ATTACH)?;
    if as_json {
        print_json(&reply)?;
    } else {
        print(&format!("{}\n", reply["device"].as_str().unwrap_or_default()))?;
    }
    Ok(0)
}

/// Detaches a device.
pub fn detach(machine: &Remote, resource: &str, device: &str, as_json: bool) -> Done {
    machine.request("DELETE", &format!("{resource}/{}", encoded(device)), None, PROMPT)?;
    changed(machine, device, as_json)
}

/// Ends a command that has changed a device.
pub fn changed(machine: &Remote, device: &str, as_json: bool) -> Done {
    done(as_json, &json!({ "name": machine.name, "device": device }))
}
