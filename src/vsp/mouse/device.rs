//! The mouse as a device of its machine.

use serde::Deserialize;
use serde_json::json;

use super::gesture::Gesture;
use super::protocol::{Mouse, MouseError, coordinate};
use crate::device::{CommandError, CommandHelp, Device, Floor, Identity, Value};
use crate::vsp::pipe::provider::Handle;
use crate::vsp::video::protocol::Video;

/// The mouse. While the machine is paused, what it does waits.
pub struct MouseDevice {
    /// The mouse.
    pub mouse: Handle<Mouse>,
    /// The screen, whose size counts where a command names none.
    pub video: Option<Handle<Video>>,
}

const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        name: "point",
        help: "Moves the pointer to a pixel: {\"x\": N, \"y\": N, \"of\": [WIDTH, HEIGHT]}; \"of\" is the size of the machine's screen \
               by default. \"buttons\" are those that are down (1: left, 2: right, 4: middle, 8: back, 16: forward), \"wheel\" the \
               notches away from the user.",
    },
    CommandHelp {
        name: "click",
        help: "Clicks at a pixel: {\"x\": N, \"y\": N}, with \"of\" and \"buttons\" (1) as for point.",
    },
    CommandHelp {
        name: "drag",
        help: "Moves from one pixel to another one with a button that is down: {\"from\": [X, Y], \"to\": [X, Y]}, with \"of\" and \
               \"buttons\" (1) as for point.",
    },
];

/// The arguments of `point`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    x: u32,
    y: u32,
    of: Option<[u32; 2]>,
    #[serde(default)]
    buttons: u8,
    #[serde(default)]
    wheel: i8,
}

const fn left() -> u8 {
    1
}

/// The arguments of `click`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Click {
    x: u32,
    y: u32,
    of: Option<[u32; 2]>,
    #[serde(default = "left")]
    buttons: u8,
}

/// The arguments of `drag`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drag {
    from: (u32, u32),
    to: (u32, u32),
    of: Option<[u32; 2]>,
    #[serde(default = "left")]
    buttons: u8,
}

fn parsed<T: serde::de::DeserializeOwned>(arguments: &Value) -> Result<T, CommandError> {
    T::deserialize(arguments).map_err(|error| CommandError::Arguments(error.to_string()))
}

impl MouseDevice {
    /// Returns the size of the screen: the one that is given, or else that of the machine's screen.
    fn size(&self, of: Option<[u32; 2]>) -> Result<(u32, u32), CommandError> {
        let shown = || self.video.as_ref()?.read(|video| video.facts().mode).map(|mode| (mode.width, mode.height));
        let unknown = || {
            CommandError::Arguments("the machine's screen shows nothing; name its size: \"of\": [WIDTH, HEIGHT]".into())
        };
        of.map(|[width, height]| (width, height)).or_else(shown).ok_or_else(unknown)
    }

    fn gesture(&self, gesture: &Gesture, of: Option<[u32; 2]>) -> Result<Result<(), MouseError>, CommandError> {
        let size = self.size(of)?;
        Ok(self.mouse.change(|mouse| gesture.make(mouse, size)))
    }
}

impl Device for MouseDevice {
    fn identity(&self) -> Identity {
        Identity::new("mouse", "mouse", Floor::Provider)
    }

    fn inspect(&self) -> Value {
        json!({ "status": self.mouse.read(Mouse::facts) })
    }

    fn commands(&self) -> &'static [CommandHelp] {
        COMMANDS
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let done = match name {
            "point" => {
                let Point { x, y, of, buttons, wheel } = parsed(arguments)?;
                let (width, height) = self.size(of)?;
                let (x, y) = (coordinate(x, width), coordinate(y, height));
                self.mouse.change(|mouse| mouse.report(x, y, buttons, wheel))
            }
            "click" => {
                let Click { x, y, of, buttons } = parsed(arguments)?;
                self.gesture(&Gesture::click((x, y), buttons), of)?
            }
            "drag" => {
                let Drag { from, to, of, buttons } = parsed(arguments)?;
                self.gesture(&Gesture::drag(from, to, buttons), of)?
            }
            _ => return Err(CommandError::unknown(name, COMMANDS)),
        };
        done.map(|()| Value::Null).map_err(|error| CommandError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn device() -> MouseDevice {
        MouseDevice { mouse: Handle::new(Mouse::default()), video: None }
    }

    crate::device::contract::device_contract! {
        the_mouse_keeps_the_contract: Arc::new(device());
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let device = device();
        let point = json!({ "x": 1, "y": 2, "of": [800, 600] });
        assert!(matches!(device.command("point", &point), Err(CommandError::Failed(_))), "there is no driver");
        let drag = json!({ "from": [1, 2], "to": [3, 4], "of": [800, 600] });
        assert!(matches!(device.command("click", &point), Err(CommandError::Failed(_))), "there is no driver");
        assert!(matches!(device.command("drag", &drag), Err(CommandError::Failed(_))), "there is no driver");
        for wrong in [
            json!({}),
            json!({ "x": 1, "y": -2, "of": [800, 600] }),
            json!({ "x": 1, "y": 2, "of": [800] }),
            json!({ "x": 1, "y": 2 }),
            json!({ "from": [1], "to": [2, 3], "of": [800, 600] }),
        ] {
            for name in ["point", "click", "drag"] {
                assert!(matches!(device.command(name, &wrong), Err(CommandError::Arguments(_))), "{name} {wrong}");
            }
        }
    }
}
