//! Keys and buttons of a viewer.

use std::collections::BTreeSet;

use crate::vsp::keyboard::keys::Key;
use crate::vsp::keyboard::protocol::{KeyError, Keyboard};
use crate::vsp::mouse::protocol::{Mouse, coordinate};
use crate::vsp::pipe::provider::Handle;

/// The guest's devices, for one viewer.
pub struct Input {
    devices: Option<(Handle<Keyboard>, Handle<Mouse>)>,
    /// The viewer's number.
    number: u64,
    pressed: BTreeSet<Key>,
    /// As RFB has them.
    buttons: u8,
    /// The last coordinates of the pointer, as the mouse has them.
    at: (u16, u16),
}

impl Input {
    /// Creates the state of a viewer. Without devices, nothing happens.
    pub fn new(devices: Option<(Handle<Keyboard>, Handle<Mouse>)>, number: u64) -> Self {
        Self { devices, number, pressed: BTreeSet::new(), buttons: 0, at: (0, 0) }
    }

    /// Returns the viewer's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Presses or releases the key that types a keysym in the layout of the machine. A guest that does not use its keyboard gets
    /// nothing.
    pub fn keysym(&mut self, keysym: u32, down: bool) {
        let Some((keyboard, _)) = &self.devices else { return };
        let Some(stroke) = keyboard.read(Keyboard::layout).of_keysym(keysym) else { return };
        let _ = keyboard.change(|keyboard| keyboard.press_stroke(stroke, down));
        self.note(stroke.key, down);
    }

    /// Presses or releases a key by its code, or by its keysym if there is no such key.
    pub fn key(&mut self, code: u32, keysym: u32, down: bool) {
        let Some(key) = Key::from_code(code) else { return self.keysym(keysym, down) };
        if let Some((keyboard, _)) = &self.devices {
            let _ = keyboard.change(|keyboard| keyboard.press(key, down));
            self.note(key, down);
        }
    }

    /// Types a text in the layout of the machine, until the viewer leaves.
    ///
    /// # Errors
    /// Returns an error, and types nothing, if the layout lacks a character, or another text of a viewer is still being typed.
    pub fn paste(&self, text: &str) -> Result<(), KeyError> {
        let Some((keyboard, _)) = &self.devices else { return Ok(()) };
        keyboard.change(|keyboard| {
            let strokes = keyboard.strokes(text)?;
            keyboard.paste(self.number, &strokes)
        })
    }

    /// Moves the pointer on a screen of that size. `buttons` is as RFB has it.
    pub fn point(&mut self, (x, y): (u16, u16), size: (u32, u32), buttons: u8) {
        let pressed = buttons & !self.buttons;
        self.buttons = buttons;
        self.at = (coordinate(x.into(), size.0), coordinate(y.into(), size.1));
        // Buttons 4 to 7 are turns of the wheels: up, down, left, right.
        let is_pressed = |button: u8| i8::from(pressed >> (button - 1) & 1 != 0);
        self.report((is_pressed(4) - is_pressed(5), is_pressed(7) - is_pressed(6)));
    }

    fn report(&self, turns: (i8, i8)) {
        let Some((_, mouse)) = &self.devices else { return };
        // RFB has the middle button before the right one. Its eighth button is "back".
        let buttons = self.buttons & 1 | self.buttons >> 1 & 2 | self.buttons << 1 & 4 | self.buttons >> 4 & 8;
        let _ = mouse.change(|mouse| mouse.turn(self.at.0, self.at.1, buttons, turns));
    }

    fn note(&mut self, key: Key, down: bool) {
        if down {
            self.pressed.insert(key);
        } else {
            self.pressed.remove(&key);
        }
    }
}

impl Drop for Input {
    /// Releases the keys and the buttons that the viewer holds.
    fn drop(&mut self) {
        if let Some((keyboard, _)) = &self.devices {
            keyboard.update(|keyboard| keyboard.forget(self.number));
            self.pressed.iter().for_each(|key| drop(keyboard.change(|keyboard| keyboard.press(*key, false))));
        }
        if self.buttons != 0 {
            self.buttons = 0;
            self.report((0, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zerocopy::IntoBytes;

    use super::*;
    use crate::vsp::keyboard::wire::{Keystroke, VERSION};
    use crate::vsp::mouse::protocol::Facts;
    use crate::vsp::pipe::provider::Protocol;
    use crate::vsp::pipe::testing::{drain, drain_all, request};

    fn devices() -> (Handle<Keyboard>, Handle<Mouse>) {
        let (keyboard, mouse) = (Handle::new(Keyboard::default()), Handle::new(Mouse::default()));
        keyboard.change(|keyboard| {
            keyboard.opened();
            keyboard.receive(&request(1, VERSION)).unwrap();
            drain(keyboard, Duration::ZERO);
        });
        (keyboard, mouse)
    }

    fn sent(keyboard: &Handle<Keyboard>) -> Vec<Vec<u8>> {
        keyboard.change(drain_all)
    }

    #[test]
    fn a_viewer_that_is_gone_holds_no_keys() {
        let (keyboard, mouse) = devices();
        let mut input = Input::new(Some((keyboard.clone(), mouse)), 1);
        input.keysym(0xffe3, true);
        input.key(0xcb, 0, true);
        input.key(0, 0x61, true);
        input.key(0xcb, 0, false);
        input.keysym(0xdead_beef, true);
        assert_eq!(sent(&keyboard).len(), 4);
        drop(input);
        let up = |code| Keystroke::new(code, Keystroke::BREAK).as_bytes().to_vec();
        assert_eq!(sent(&keyboard), [up(0x1d), up(0x1e)]);
    }

    #[test]
    fn a_text_is_typed_until_its_viewer_leaves() {
        let (keyboard, mouse) = devices();
        let input = Input::new(Some((keyboard.clone(), mouse.clone())), 1);
        assert_eq!(input.paste("a\u{e4}"), Err(KeyError::Character { character: '\u{e4}', layout: "us" }));
        input.paste("aB\n").unwrap();
        let other = Input::new(Some((keyboard.clone(), mouse)), 2);
        assert_eq!(other.paste("c"), Err(KeyError::Full), "one at a time");
        drop(other);
        assert_eq!(keyboard.change(|keyboard| drain(keyboard, Duration::ZERO)).len(), 2, "a");
        drop(input);
        assert!(sent(&keyboard).is_empty());
    }

    #[test]
    fn input_without_a_driver_is_dropped() {
        let (keyboard, mouse) = (Handle::new(Keyboard::default()), Handle::new(Mouse::default()));
        for devices in [None, Some((keyboard.clone(), mouse.clone()))] {
            let mut input = Input::new(devices, 1);
            let _ = input.paste("a");
            input.keysym(0x61, true);
            input.point((1, 2), (640, 480), 1);
        }
        assert_eq!(sent(&keyboard), Vec::<Vec<u8>>::new());
        let Facts { waiting, .. } = mouse.read(Mouse::facts);
        assert_eq!(waiting, 0);
    }
}
