//! The screen as a device of its machine.

use std::path::Path;

use serde_json::json;

use super::lookout::NO_FONT;
use super::protocol::Video;
use crate::device::{CommandError, CommandHelp, Device, Floor, Identity, Value};
use crate::vsp::pipe::provider::Handle;

/// The screen.
pub struct VideoDevice(pub Handle<Video>);

/// There is no picture.
const NOTHING: &str = "the guest shows nothing on its screen: it has no driver for it, or has not loaded it yet";

const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        name: "screenshot",
        help: "Writes what the screen shows to a PNG file: takes the path, returns width and height.",
    },
    CommandHelp {
        name: "text",
        help: "Returns the lines of text on the screen, if they are in a font of the guest's kernel.",
    },
];

impl Device for VideoDevice {
    fn identity(&self) -> Identity {
        Identity::new("screen", "screen", Floor::Provider)
    }

    fn inspect(&self) -> Value {
        json!({ "status": self.0.read(Video::facts) })
    }

    fn commands(&self) -> &'static [CommandHelp] {
        COMMANDS
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        let path = match (name, arguments.as_str()) {
            ("screenshot", Some(path)) => Some(path),
            ("screenshot", None) => return Err(CommandError::Arguments("screenshot takes a path".into())),
            ("text", _) => None,
            _ => return Err(CommandError::unknown(name, COMMANDS)),
        };
        let view = self.0.read(Video::view).ok_or_else(|| CommandError::Failed(NOTHING.into()))?;
        let picture = view.picture();
        let Some(path) = path else {
            let text = view.text(&picture).ok_or_else(|| CommandError::Failed(NO_FONT.into()))?;
            return Ok(json!(text.lines()));
        };
        let saved = picture.save(Path::new(path));
        saved.map_err(|error| CommandError::Failed(format!("cannot write {path}: {error}")))?;
        let (width, height) = picture.size();
        Ok(json!([width, height]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    crate::device::contract::device_contract! {
        the_screen_keeps_the_contract: Arc::new(VideoDevice(Handle::new(Video::new(1024, 768))));
    }

    #[test]
    fn a_screenshot_needs_a_picture_and_a_path() {
        let device = VideoDevice(Handle::new(Video::new(1024, 768)));
        let error = device.command("screenshot", &json!("/nowhere/file.png")).unwrap_err();
        assert_eq!(error, CommandError::Failed(NOTHING.into()));
        assert_eq!(device.command("text", &json!(null)).unwrap_err(), error);
        assert!(matches!(device.command("screenshot", &json!(7)), Err(CommandError::Arguments(_))));
    }
}
