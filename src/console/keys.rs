//! The key combinations of Viridian on a terminal: Ctrl-A and another key.

/// Printed on Ctrl-A h.
pub(super) const HELP: &str = "\r\n\
    Ctrl-A h       print this help\r\n\
    Ctrl-A x       end the machine\r\n\
    Ctrl-A c       send Ctrl-C to the guest (Ctrl-C itself ends Viridian)\r\n\
    Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

const CTRL_A: u8 = 0x01;
const CTRL_C: u8 = 0x03;

/// A command of the user to Viridian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Help,
}

/// Remembers whether the last key was Ctrl-A.
#[derive(Default)]
pub(super) struct Keys {
    escaped: bool,
}

impl Keys {
    /// Removes Viridian's keys from `bytes`, in place. Returns the length of what remains for the guest, and the last
    /// command.
    ///
    /// An unknown key after Ctrl-A is dropped together with it.
    pub fn filter(&mut self, bytes: &mut [u8]) -> (usize, Option<Command>) {
        let (mut kept, mut command) = (0, None);
        for index in 0..bytes.len() {
            let key = bytes[index];
            let passed = match (std::mem::take(&mut self.escaped), key) {
                (false, CTRL_A) => {
                    self.escaped = true;
                    None
                }
                (false, key) => Some(key),
                (true, CTRL_A) => Some(CTRL_A),
                (true, b'c' | b'C') => Some(CTRL_C),
                (true, b'x' | b'X') => {
                    command = Some(Command::Quit);
                    None
                }
                (true, b'h' | b'H' | b'?') => {
                    command = command.or(Some(Command::Help));
                    None
                }
                (true, _) => None,
            };
            if let Some(key) = passed {
                bytes[kept] = key;
                kept += 1;
            }
        }
        (kept, command)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
