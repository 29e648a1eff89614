//! A console as a device of its machine.

use serde_json::json;

use super::ConsoleConfig;
use crate::device::{Device, Floor, Identity, Value};

/// The destination of a console.
///
/// A pause needs nothing of it: the VPs, which print, stand still, and what is typed waits at the serial port.
pub(crate) struct ConsoleDevice {
    /// The destination of the output; `None` for a console that is captured.
    pub destination: Option<ConsoleConfig>,
    /// The path of the other end of a pseudo-terminal.
    pub pty: Option<std::path::PathBuf>,
}

impl Device for ConsoleDevice {
    fn identity(&self) -> Identity {
        Identity::new("console", "console", Floor::Host)
    }

    fn inspect(&self) -> Value {
        let destination = self.destination.as_ref().map_or_else(|| "captured".to_owned(), ToString::to_string);
        json!({ "destination": destination, "pty": self.pty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::contract::device_contract;
    use std::sync::Arc;

    device_contract! {
        a_console_keeps_the_contract: Arc::new(ConsoleDevice { destination: Some(ConsoleConfig::Stdio), pty: None });
        a_captured_console_keeps_the_contract: Arc::new(ConsoleDevice { destination: None, pty: None });
    }

    #[test]
    fn inspecting_a_console_shows_where_it_goes() {
        let device = ConsoleDevice { destination: Some(ConsoleConfig::File("/tmp/out".into())), pty: None };
        assert_eq!(device.inspect(), json!({ "destination": "file:/tmp/out", "pty": null }));
    }
}
