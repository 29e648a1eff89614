//! The mouse as a device of its machine.

use serde::Deserialize;
use serde_json::json;

use super::protocol::{Mouse, coordinate};
use crate::device::{CommandError, CommandHelp, Device, Floor, Identity, Value};
use crate::vsp::pipe::provider::Handle;

/// The mouse. While the machine is paused, what it does waits.
pub struct MouseDevice(pub Handle<Mouse>);

const COMMANDS: &[CommandHelp] = &[CommandHelp {
    name: "point",
    help: "Moves the pointer to a pixel of a screen: {\"x\": N, \"y\": N, \"of\": [WIDTH, HEIGHT]}. \"buttons\" are those that are \
           down (1: left, 2: right, 4: middle, 8: back, 16: forward), \"wheel\" the notches away from the user.",
}];

/// The arguments of `point`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    x: u32,
    y: u32,
    of: [u32; 2],
    #[serde(default)]
    buttons: u8,
    #[serde(default)]
    wheel: i8,
}

impl Device for MouseDevice {
    fn identity(&self) -> Identity {
        Identity::new("mouse", "mouse", Floor::Provider)
    }

    fn inspect(&self) -> Value {
        json!({ "status": self.0.read(Mouse::facts) })
    }

    fn commands(&self) -> &'static [CommandHelp] {
        COMMANDS
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        if name != "point" {
            return Err(CommandError::unknown(name, COMMANDS));
        }
        let Point { x, y, of: [width, height], buttons, wheel } =
            Point::deserialize(arguments).map_err(|error| CommandError::Arguments(error.to_string()))?;
        let (x, y) = (coordinate(x, width), coordinate(y, height));
        let done = self.0.change(|mouse| mouse.report(x, y, buttons, wheel));
        done.map(|()| Value::Null).map_err(|error| CommandError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    crate::device::contract::device_contract! {
        the_mouse_keeps_the_contract: Arc::new(MouseDevice(Handle::new(Mouse::default())));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let device = MouseDevice(Handle::new(Mouse::default()));
        let point = json!({ "x": 1, "y": 2, "of": [800, 600] });
        assert!(matches!(device.command("point", &point), Err(CommandError::Failed(_))), "there is no driver");
        for wrong in [json!({}), json!({ "x": 1, "y": -2, "of": [800, 600] }), json!({ "x": 1, "y": 2, "of": [800] })] {
            assert!(matches!(device.command("point", &wrong), Err(CommandError::Arguments(_))), "{wrong}");
        }
    }
}
