//! The keyboard as a device of its machine.

use serde::Deserialize;
use serde_json::json;

use super::keys::Key;
use super::protocol::{KeyError, Keyboard};
use crate::device::{CommandError, CommandHelp, Device, Floor, Identity, Value};
use crate::vsp::pipe::provider::Handle;

/// The keyboard. While the machine is paused, keystrokes wait.
pub struct KeyboardDevice(pub Handle<Keyboard>);

const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        name: "type",
        help: "Types a text in the layout of the machine, at most 100 characters a second. Returns at once; at most 1024 characters wait.",
    },
    CommandHelp { name: "press", help: "Presses and releases keys by name, such as \"enter\" or \"ctrl+alt+delete\"." },
    CommandHelp {
        name: "key",
        help: "Presses or releases one key: {\"code\": N, \"down\": true} with a scan code of set 1 (plus 128 if E0 precedes it), or \
               {\"keysym\": N, \"down\": true} with an X11 keysym of the machine's layout.",
    },
];

/// The arguments of `key`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneKey {
    code: Option<u32>,
    keysym: Option<u32>,
    down: bool,
}

impl OneKey {
    /// Presses or releases the key. Returns `None` if there is none.
    fn apply(&self, keyboard: &mut Keyboard) -> Option<Result<(), KeyError>> {
        match (self.code, self.keysym) {
            (Some(code), None) => Key::from_code(code).map(|key| keyboard.press(key, self.down)),
            (None, Some(keysym)) => {
                keyboard.layout().of_keysym(keysym).map(|stroke| keyboard.press_stroke(stroke, self.down))
            }
            _ => None,
        }
    }
}

impl Device for KeyboardDevice {
    fn identity(&self) -> Identity {
        Identity::new("keyboard", "keyboard", Floor::Provider)
    }

    fn inspect(&self) -> Value {
        json!({ "layout": self.0.read(Keyboard::layout).name(), "status": self.0.read(Keyboard::facts) })
    }

    fn commands(&self) -> &'static [CommandHelp] {
        COMMANDS
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let wrong = |what: &str| CommandError::Arguments(format!("{name} takes {what}"));
        let done = match (name, arguments.as_str()) {
            ("type", Some(text)) => self.0.change(|keyboard| {
                let strokes = keyboard.strokes(text)?;
                keyboard.type_strokes(&strokes)
            }),
            ("press", Some(keys)) => self.0.change(|keyboard| keyboard.press_named(keys)),
            ("type" | "press", None) => return Err(wrong("a string")),
            ("key", _) => {
                let key = OneKey::deserialize(arguments).map_err(|error| CommandError::Arguments(error.to_string()))?;
                let applied = self.0.change(|keyboard| key.apply(keyboard));
                applied.ok_or_else(|| wrong("one of code and keysym, of a key that exists"))?
            }
            _ => return Err(CommandError::unknown(name, COMMANDS)),
        };
        done.map(|()| Value::Null).map_err(|error| CommandError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::vsp::pipe::provider::Protocol;
    use crate::vsp::pipe::testing::{drain, drain_all, request};

    crate::device::contract::device_contract! {
        the_keyboard_keeps_the_contract: Arc::new(KeyboardDevice(Handle::new(Keyboard::default())));
    }

    #[test]
    fn keys_can_be_pressed_by_commands() {
        let device = KeyboardDevice(Handle::new(Keyboard::default()));
        let command = |name: &str, arguments: Value| device.command(name, &arguments);
        let error = command("type", json!("a")).unwrap_err().to_string();
        assert!(error.starts_with("the guest does not use the keyboard"), "{error}");
        device.0.change(|keyboard| {
            keyboard.opened();
            keyboard.receive(&request(1, 1 << 16)).unwrap();
            drain(keyboard, Duration::ZERO);
        });
        command("press", json!("ctrl+c")).unwrap();
        command("key", json!({ "code": 0xcb, "down": true })).unwrap();
        command("key", json!({ "keysym": 0x41, "down": true })).unwrap();
        assert_eq!(device.0.change(|keyboard| drain_all(keyboard).len()), 4 + 1 + 3);
        command("type", json!("Hi\n")).unwrap();
        assert_eq!(device.inspect()["status"]["waiting"], 4 + 2 + 2);
        for (name, arguments) in [
            ("type", json!(1)),
            ("press", json!(null)),
            ("key", json!({ "code": 1 })),
            ("key", json!({ "down": true })),
            ("key", json!({ "code": 0, "down": true })),
            ("key", json!({ "code": 1, "keysym": 1, "down": true })),
            ("key", json!({ "keysym": 0xdead, "down": true })),
        ] {
            let refused = command(name, arguments.clone());
            assert!(matches!(refused, Err(CommandError::Arguments(_))), "{name} {arguments}: {refused:?}");
        }
        assert!(command("type", json!("ß")).is_err() && command("press", json!("ctrl+")).is_err());
        assert!(command("type", json!("a".repeat(1025))).is_err());
    }
}
