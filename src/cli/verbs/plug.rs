//! The common part of `viridian disk` and `viridian adapter`.

use std::time::Duration;

use serde_json::{Value, json};
use viridian::machine::code;

use super::{Done, Machines};
use crate::cli::client::{Failure, PROMPT, Remote, encoded};

/// Time for a device to be attached: the host may have to wake a disk, or to wait for another host. A user who does not want to wait
/// ends this command, and the machine undoes the change.
const ATTACH: Duration = Duration::from_secs(3600);

/// Prints the devices of a kind, whose plural is a field of the JSON for several machines.
pub fn list(
    machines: &Machines,
    (kind, plural): (&str, &str),
    as_json: bool,
    words: impl Fn(&Value) -> String,
) -> Done {
    let (code, trees) = machines.each(|machine| machine.get("/inspect"));
    let mut all = Vec::new();
    for (name, tree) in &trees {
        let devices = tree["devices"].as_object().into_iter().flatten().filter(|(_, device)| device["kind"] == kind);
        if as_json {
            let devices = Value::Object(devices.map(|(name, device)| (name.clone(), device.clone())).collect());
            all.push(if machines.is_one() { devices } else { json!({ "name": name, plural: devices }) });
        } else {
            let line = |(name, device)| format!("{name}  {}\n", viridian::process::Marked(&words(device)));
            machines.print(name, &devices.map(line).collect::<String>())?;
        }
    }
    if as_json {
        machines.print_json(all)?;
    }
    Ok(code)
}

/// Attaches a device to each machine. `what` is as on the command line of `run`.
pub fn attach(machines: &Machines, resource: &str, what: &str, as_json: bool) -> Done {
    let (code, attached) = machines.each(|machine| {
        let folder = match machine.its_service() {
            None => std::env::current_dir().map_err(|error| Failure::Other(code::FAILED, error.to_string()))?,
            // Paths are those of the other host, where this program is in no directory.
            Some(_) => "/".into(),
        };
        let mut reply = machine.request("POST", resource, Some(&json!({ "what": what, "folder": folder })), ATTACH)?;
        reply["name"] = json!(machine.name);
        Ok(reply)
    });
    if as_json {
        machines.print_json(attached.into_iter().map(|(_, reply)| reply).collect())?;
    } else {
        for (name, reply) in &attached {
            machines.print(name, &format!("{}\n", reply["device"].as_str().unwrap_or_default()))?;
        }
    }
    Ok(code)
}

/// Detaches a device of each machine.
pub fn detach(machines: &Machines, resource: &str, device: &str, as_json: bool) -> Done {
    let path = format!("{resource}/{}", encoded(device));
    change(machines, device, as_json, |machine| machine.request("DELETE", &path, None, PROMPT))
}

/// Changes a device of each machine by a request.
pub fn change(
    machines: &Machines,
    device: &str,
    as_json: bool,
    request: impl Fn(&Remote) -> Result<Value, Failure> + Sync,
) -> Done {
    let (code, changed) = machines.each(request);
    if as_json {
        let value = |(name, _)| json!({ "name": name, "device": device });
        machines.print_json(changed.into_iter().map(value).collect())?;
    }
    Ok(code)
}
