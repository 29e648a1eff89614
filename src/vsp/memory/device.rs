//! Dynamic memory as a device of its machine.

use serde_json::{Value, json};

use super::provider::MemoryHandle;
use super::size;
use crate::device::{CommandError, CommandHelp, Device, Floor, Identity};
use crate::memory::PAGE_SIZE;
use crate::wire::size::Size;

/// Dynamic memory. While the machine is paused, requests wait, and no page moves.
pub(super) struct MemoryDevice(pub MemoryHandle);

const COMMANDS: &[CommandHelp] =
    &[CommandHelp { name: "set", help: "Sets the size that the guest is brought to, such as \"1G\", or bytes." }];

impl Device for MemoryDevice {
    fn identity(&self) -> Identity {
        Identity::new("memory", "memory", Floor::Provider)
    }

    fn reset(&self) {
        self.0.reset();
    }

    fn inspect(&self) -> Value {
        json!(self.0.status())
    }

    fn commands(&self) -> &'static [CommandHelp] {
        COMMANDS
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        if name != "set" {
            return Err(CommandError::unknown(name, COMMANDS));
        }
        let wanted: Size = serde_json::from_value(arguments.clone())
            .map_err(|error| CommandError::Arguments(format!("memory set: {error}")))?;
        let limits = self.0.limits();
        let (min, max) = (size(limits.min), size(limits.max));
        if !wanted.0.is_multiple_of(PAGE_SIZE) {
            return Err(CommandError::Arguments(format!("{wanted} is not a multiple of 4096 bytes")));
        }
        if wanted < min || wanted > max {
            return Err(CommandError::Arguments(format!("{wanted} is outside of the machine's {min} to {max}")));
        }
        let target = size(self.0.set_target(wanted.0 / PAGE_SIZE));
        Ok(json!({ "target-bytes": target.0, "assigned-bytes": self.0.status().assigned_bytes }))
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
