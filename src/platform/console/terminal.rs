//! The user's terminal: raw while a guest has it, and put back however the process ends.
//!
//! Dropping the console puts it back, and a panic hook does before the panic's message is printed. Two
//! ends of a process pass by both, and whoever brings them about calls [`restore`] first: `std::process::exit`, and
//! a signal (see [`super::signals`]). Only after a SIGKILL is a terminal left raw; `stty sane` helps.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::io::Errno;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

/// A terminal that is raw now.
struct Raw {
    terminal: OwnedFd,
    device: u64,
    /// The settings to put back.
    settings: Termios,
    users: usize,
}

static RAW: Mutex<Vec<Raw>> = Mutex::new(Vec::new());

fn raw_terminals() -> MutexGuard<'static, Vec<Raw>> {
    RAW.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Raw {
    fn restore(self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.settings);
    }
}

/// Gives every terminal that is raw its settings back. May be called from any thread, any number of times.
pub fn restore() {
    raw_terminals().drain(..).for_each(Raw::restore);
}

/// Why a file is not made raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRaw {
    /// It is no terminal, or none that works.
    NotATerminal,
    /// The terminal is in somebody else's foreground: touching it would stop this process.
    InBackground,
}

impl From<Errno> for NotRaw {
    fn from(_: Errno) -> Self {
        Self::NotATerminal
    }
}

/// A terminal in raw mode, until this is dropped.
///
/// Raw means: each key goes to the guest at once, unchanged and without an echo; of the keys that signal, only Ctrl-C does.
/// Output is still processed, so that a line of the host's own starts where it should.
#[derive(Debug)]
pub(super) struct RawMode {
    device: u64,
}

impl RawMode {
    /// Makes a terminal raw. Several users share one terminal's raw mode.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self, NotRaw> {
        let settings = tcgetattr(terminal)?;
        if tcgetpgrp(terminal).is_ok_and(|foreground| foreground != rustix::process::getpgrp()) {
            return Err(NotRaw::InBackground);
        }
        let device = rustix::fs::fstat(terminal)?.st_rdev;
        restore_on_panic();
        let mut raw_terminals = raw_terminals();
        if let Some(raw) = raw_terminals.iter_mut().find(|raw| raw.device == device) {
            raw.users += 1;
            return Ok(Self { device });
        }
        let ours = rustix::io::fcntl_dupfd_cloexec(terminal, 3)?;
        tcsetattr(terminal, OptionalActions::Now, &raw(&settings))?;
        raw_terminals.push(Raw { terminal: ours, device, settings, users: 1 });
        Ok(Self { device })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let mut raw_terminals = raw_terminals();
        if let Some(place) = raw_terminals.iter().position(|raw| raw.device == self.device) {
            raw_terminals[place].users -= 1;
            if raw_terminals[place].users == 0 {
                raw_terminals.swap_remove(place).restore();
            }
        }
    }
}

fn raw(settings: &Termios) -> Termios {
    let mut raw = settings.clone();
    raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::ISTRIP;
    raw.input_modes -= InputModes::IXON | InputModes::BRKINT | InputModes::PARMRK | InputModes::INPCK;
    raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL | LocalModes::IEXTEN;
    // Ctrl-C must not throw away what the guest printed.
    raw.local_modes |= LocalModes::ISIG | LocalModes::NOFLSH;
    for off in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
        raw.special_codes[off] = 0;
    }
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

/// Has a panic on any thread restore the terminal before its message is printed.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            next(panic);
        }));
    });
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
pub(super) mod tests;
