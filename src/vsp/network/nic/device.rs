//! An adapter as a device of its machine.

use std::sync::Arc;

use serde_json::json;

use super::Nic;
use crate::device::{CommandError, CommandHelp, Device, Floor, Identity, Value};

/// An adapter with its number.
///
/// While the machine is paused, the backend receives as long as it has room, and frames beyond that are dropped: the threads
/// of the channels, which stop at the gate, are the ones that take them.
pub(crate) struct NicDevice {
    pub number: u8,
    pub nic: Arc<Nic>,
}

const COMMANDS: &[CommandHelp] = &[CommandHelp {
    name: "link",
    help: "Plugs the cable in or out: takes \"up\" or \"down\", returns the former state.",
}];

impl Device for NicDevice {
    fn identity(&self) -> Identity {
        Identity::new(format!("net{}", self.number), "adapter", Floor::Provider)
    }

    fn reset(&self) {
        self.nic.restart();
    }

    fn inspect(&self) -> Value {
        let (address, mtu) = {
            let device = self.nic.device();
            (device.adapter().settings().address, device.adapter().mtu())
        };
        json!({
            "address": address.to_string(),
            "mtu-bytes": mtu,
            "link": link(self.nic.is_link_up()),
            "nvsp": self.nic.nvsp_version().map(|version| version.to_string()),
            "open-channels": self.nic.open_channels(),
            "frames": self.nic.counters(),
        })
    }

    fn commands(&self) -> &'static [CommandHelp] {
        COMMANDS
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let up = match (name, arguments.as_str()) {
            ("link", Some("up")) => true,
            ("link", Some("down")) => false,
            ("link", _) => return Err(CommandError::Arguments("link takes \"up\" or \"down\"".into())),
            _ => return Err(CommandError::unknown(name, COMMANDS)),
        };
        let former = link(self.nic.is_link_up());
        self.nic.set_link(up);
        Ok(json!(former))
    }
}

fn link(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
