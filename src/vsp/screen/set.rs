//! The devices behind a machine's screen.

use std::sync::Arc;
use std::time::Duration;

use super::config::DisplayOptions;
use crate::device::{Devices, Registration};
use crate::vmbus::bus::VmBus;
use crate::vmbus::connection::OfferError;
use crate::vsp::keyboard::device::KeyboardDevice;
use crate::vsp::keyboard::protocol::{Facts as KeyboardFacts, KeyError, Keyboard, strokes};
use crate::vsp::mouse::device::MouseDevice;
use crate::vsp::mouse::protocol::{Facts as MouseFacts, Mouse, MouseError};
use crate::vsp::pipe::provider::Handle;

/// Time limit for the guest to read what is typed, without any progress.
const PATIENCE: Duration = Duration::from_secs(30);

/// The keyboard and the mouse of a machine.
pub struct Screen {
    input: Option<Input>,
}

struct Input {
    keyboard: Handle<Keyboard>,
    mouse: Handle<Mouse>,
    _joined: Vec<Registration>,
}

/// The reason why something cannot be done with a screen, its keyboard or its mouse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScreenError {
    /// The machine has no keyboard and no mouse.
    #[error("the machine has no keyboard and no mouse; give it --display none,input=on")]
    NoInput,
    /// The keyboard does not take the key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The mouse does not take the report.
    #[error(transparent)]
    Mouse(#[from] MouseError),
}

impl Screen {
    /// Offers the devices that the settings ask for, which join `devices`.
    ///
    /// # Errors
    /// Returns an error if one cannot be offered.
    pub(crate) fn new(bus: &VmBus, options: &DisplayOptions, devices: &Devices) -> Result<Self, OfferError> {
        if !options.has_input() {
            return Ok(Self { input: None });
        }
        let (keyboard, mouse) = (Handle::new(Keyboard::default()), Handle::new(Mouse::default()));
        let joined = vec![
            devices.add(Arc::new(KeyboardDevice(keyboard.clone())))?,
            devices.add(Arc::new(MouseDevice(mouse.clone())))?,
        ];
        bus.offer_provider(Box::new(keyboard.vsp()))?;
        bus.offer_provider(Box::new(mouse.vsp()))?;
        Ok(Self { input: Some(Input { keyboard, mouse, _joined: joined }) })
    }

    fn input(&self) -> Result<&Input, ScreenError> {
        self.input.as_ref().ok_or(ScreenError::NoInput)
    }

    /// Types a text on a US keyboard, and returns when the guest was sent all of it.
    ///
    /// # Errors
    /// Returns an error, and types nothing, if the layout lacks a character. Returns an error if the guest has no driver for the
    /// keyboard, or does not read it.
    pub fn type_text(&self, text: &str) -> Result<(), ScreenError> {
        let Input { keyboard, .. } = self.input()?;
        for stroke in strokes(text)? {
            let typed = keyboard.change_until(PATIENCE, |keyboard| match keyboard.type_stroke(stroke) {
                Ok(false) => None,
                Ok(true) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            });
            typed.unwrap_or(Err(KeyError::Full))?;
        }
        keyboard.change_until(PATIENCE, |keyboard| keyboard.is_done().then_some(())).ok_or(KeyError::Full)?;
        Ok(())
    }

    /// Presses keys, given by name, one after the other, and releases them in reverse: `ctrl+alt+delete`.
    ///
    /// # Errors
    /// Returns an error if there is no such key, or as [`type_text`](Self::type_text).
    pub fn press(&self, keys: &str) -> Result<(), ScreenError> {
        let Input { keyboard, .. } = self.input()?;
        Ok(keyboard.change(|keyboard| keyboard.press_named(keys))?)
    }

    /// Reports where the pointer is, from 0 to 32767 in both directions, which buttons are down (bit 0: left, 1: right, 2: middle, 3:
    /// back, 4: forward), and how far the wheel was turned away from the user.
    ///
    /// # Errors
    /// Returns an error if the guest has no driver for the mouse, or does not read it.
    pub fn point(&self, x: u16, y: u16, buttons: u8, wheel: i8) -> Result<(), ScreenError> {
        Ok(self.input()?.mouse.change(|mouse| mouse.report(x, y, buttons, wheel))?)
    }

    /// Returns the status of keyboard and mouse, for the package's own tests.
    #[doc(hidden)]
    pub fn facts(&self) -> Option<(KeyboardFacts, MouseFacts)> {
        let Input { keyboard, mouse, .. } = self.input.as_ref()?;
        Some((keyboard.read(Keyboard::facts), mouse.read(Mouse::facts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let screen = Screen { input: None };
        let error = screen.type_text("a").unwrap_err().to_string();
        assert_eq!(error, "the machine has no keyboard and no mouse; give it --display none,input=on");
        let mouse = Handle::new(Mouse::default());
        let screen =
            Screen { input: Some(Input { keyboard: Handle::new(Keyboard::default()), mouse, _joined: Vec::new() }) };
        assert_eq!(screen.type_text("aä").unwrap_err().to_string(), "no key of the US layout types `\\u{e4}`");
        assert_eq!(screen.type_text("a"), Err(ScreenError::Key(KeyError::NotReady)));
        assert_eq!(screen.press("ctrl+c"), Err(ScreenError::Key(KeyError::NotReady)));
        assert_eq!(screen.press("ctl+c"), Err(ScreenError::Key(KeyError::NoKey("ctl".into()))));
        assert_eq!(screen.point(0, 0, 0, 0), Err(ScreenError::Mouse(MouseError::NotReady)));
    }
}
