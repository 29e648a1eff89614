//! Disks and network adapters that come and go.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use crate::config::text;
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply, done};
use crate::vsp::network::config::NetworkOptions;
use crate::vsp::storage::{AttachDiskError, DiskConfig, Place};
use crate::wire::size::Size;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// The value of `--disk` or `--net` on the command line.
    what: String,
    /// The folder to which paths are relative.
    folder: PathBuf,
}

/// Attaches a disk.
pub fn attach_disk(exchange: &Exchange<'_>) -> Answered {
    let Body { what, folder } = exchange.request.json()?;
    let mut disk: DiskConfig = text::parse(&what).map_err(|error| Problem::invalid(format!("{what}: {error}")))?;
    disk.rebase(&folder);
    let problem = |error: AttachDiskError| {
        let make = if error.is_hosts() { Problem::host } else { Problem::state };
        make(error.to_string())
    };
    exchange.with(|machine| machine.disks().free_place(&disk))?.map_err(problem)?;
    // An image may take long to be opened. Meanwhile, the machine can end, and others can use its disks.
    let open = disk.open().map_err(|error| problem(error.into()))?;
    if exchange.is_abandoned() {
        // A client that has given up does not expect the disk.
        return Ok(Reply::Sent);
    }
    let place = exchange.with(|machine| machine.disks().insert(open))?.map_err(problem)?;
    let Place { controller, lun } = place;
    let device = format!("disk{controller}.{lun}");
    Ok(Reply::Json(json!({ "device": device, "controller": controller, "lun": lun })))
}

/// Returns the place in the name of a disk.
fn place(name: &str) -> Option<Place> {
    let (controller, lun) = name.strip_prefix("disk")?.split_once('.')?;
    Some(Place { controller: controller.parse().ok()?, lun: lun.parse().ok()? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeBody {
    size: Size,
}

/// Enlarges a disk.
pub fn resize_disk(exchange: &Exchange<'_>) -> Answered {
    let SizeBody { size } = exchange.request.json()?;
    let name = exchange.name(0);
    let grow = match place(name) {
        Some(place) => exchange.with(|machine| machine.disks().grow(place))?,
        None => None,
    };
    let Some(grow) = grow else { return Err(unknown(exchange, "disk", name)?) };
    grow(size.0).map_err(|error| {
        let make = if error.kind() == ErrorKind::InvalidInput { Problem::state } else { Problem::host };
        make(format!("{name}: {error}"))
    })?;
    done()
}

/// Detaches a disk.
pub fn detach_disk(exchange: &Exchange<'_>) -> Answered {
    let name = exchange.name(0);
    let is_detached = match place(name) {
        Some(place) => exchange.with(|machine| machine.disks().detach(place))?,
        None => false,
    };
    if is_detached { done() } else { Err(unknown(exchange, "disk", name)?) }
}

/// Attaches an adapter.
pub fn attach_adapter(exchange: &Exchange<'_>) -> Answered {
    let Body { what, folder } = exchange.request.json()?;
    let mut options: NetworkOptions =
        text::parse(&what).map_err(|error| Problem::invalid(format!("{what}: {error}")))?;
    options.rebase(&folder);
    let number = exchange.with(|machine| machine.nics().attach(&options))?.map_err(|error| {
        let make = if error.is_hosts() { Problem::host } else { Problem::state };
        make(error.to_string())
    })?;
    if exchange.is_abandoned() {
        exchange.with(|machine| machine.nics().detach(number))?;
        return Ok(Reply::Sent);
    }
    Ok(Reply::Json(json!({ "device": format!("net{number}"), "number": number })))
}

/// Detaches an adapter.
pub fn detach_adapter(exchange: &Exchange<'_>) -> Answered {
    let number = adapter_number(exchange)?;
    let is_detached = exchange.with(|machine| machine.nics().detach(number))?;
    if is_detached { done() } else { Err(unknown(exchange, "adapter", exchange.name(0))?) }
}

/// Returns the number of the adapter that the path names.
pub fn adapter_number(exchange: &Exchange<'_>) -> Result<u8, Problem> {
    let name = exchange.name(0);
    let exists = exchange.with(|machine| machine.device_names("adapter"))?.iter().any(|known| known == name);
    let number = name.strip_prefix("net").filter(|_| exists).and_then(|number| number.parse().ok());
    number.map_or_else(|| Err(unknown(exchange, "adapter", name)?), Ok)
}

/// Returns the error about a device that does not exist.
fn unknown(exchange: &Exchange<'_>, kind: &str, name: &str) -> Result<Problem, Problem> {
    let names = exchange.with(|machine| machine.device_names(kind))?;
    let known = if names.is_empty() { "none".into() } else { names.join(", ") };
    Ok(Problem::not_found(format!("there is no {kind} {name:?}; there is {known}")))
}
