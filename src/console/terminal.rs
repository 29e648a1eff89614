//! Raw mode of the user's terminal. The terminal is restored when the process ends, unless SIGKILL ends it.
//!
//! Dropping [`RawMode`] restores the terminal, and so does a panic hook, before the panic's message is printed.
//! `std::process::exit` and signals (see [`super::signals`]) bypass both, so [`restore`] must be called before. After a SIGKILL,
//! `stty sane` restores the terminal.
//!
//! A terminal is restored only if it still has the settings that raw mode gave it, because a shell or another machine may
//! have changed them since.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::lock::{Mutex, MutexGuard};
use rustix::io::Errno;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use signal_hook::consts::SIGTTOU;
use vmm_sys_util::signal::{block_signal, unblock_signal};

/// A terminal in raw mode.
struct Raw {
    terminal: OwnedFd,
    device: u64,
    /// The settings before raw mode.
    settings: Termios,
    /// The settings in raw mode.
    raw: Termios,
    /// Number of [`RawMode`]s.
    users: usize,
    /// Identifies the entry for its [`RawMode`]s.
    id: u64,
}

static RAW: Mutex<Vec<Raw>> = Mutex::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

fn raw_terminals() -> MutexGuard<'static, Vec<Raw>> {
    RAW.lock()
}

impl Raw {
    fn restore(self) {
        if !tcgetattr(&self.terminal).is_ok_and(|now| is_same(&now, &self.raw)) {
            return;
        }
        // Otherwise the kernel would stop this process if it is in the background.
        let blocked = block_signal(SIGTTOU).is_ok();
        // If the terminal is gone, there is nothing to do.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.settings);
        if blocked {
            let _ = unblock_signal(SIGTTOU);
        }
    }
}

/// Returns `true` if the settings that raw mode changes are equal.
fn is_same(one: &Termios, other: &Termios) -> bool {
    let parts = |settings: &Termios| {
        let keys = [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP, SpecialCodeIndex::VMIN, SpecialCodeIndex::VTIME];
        let local = settings.local_modes - LocalModes::PENDIN - LocalModes::FLUSHO;
        (settings.input_modes, settings.output_modes, local, keys.map(|key| settings.special_codes[key]))
    };
    parts(one) == parts(other)
}

/// Returns `true` unless this is the process's controlling terminal and another process group is in its foreground.
pub(super) fn is_in_foreground(terminal: BorrowedFd<'_>) -> bool {
    !tcgetpgrp(terminal).is_ok_and(|foreground| foreground != rustix::process::getpgrp())
}

/// Restores every raw terminal. May be called from any thread, any number of times.
pub fn restore() {
    raw_terminals().drain(..).for_each(Raw::restore);
}

/// The reason why a file cannot be made raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRaw {
    /// It is not a working terminal.
    NotATerminal,
    /// Another process group is in the terminal's foreground: changing it would stop this process.
    InBackground,
}

impl From<Errno> for NotRaw {
    fn from(_: Errno) -> Self {
        Self::NotATerminal
    }
}

/// The effect of Ctrl-C on a terminal in raw mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It sends SIGINT, as usual. Output is still processed, so that the host's own lines start in the first column.
    Signal,
    /// It is a key as any other. Output is unchanged.
    Key,
}

/// A terminal in raw mode, until this is dropped.
///
/// In raw mode, each key is passed to the guest at once, unchanged and without an echo. Of the keys that cause signals, only
/// Ctrl-C still may: see [`Interrupt`].
#[derive(Debug)]
pub(super) struct RawMode {
    id: u64,
}

impl RawMode {
    /// Makes a terminal raw. Several users can share one terminal's raw mode.
    pub fn enter(terminal: BorrowedFd<'_>, interrupt: Interrupt) -> Result<Self, NotRaw> {
        let settings = tcgetattr(terminal)?;
        if !is_in_foreground(terminal) {
            return Err(NotRaw::InBackground);
        }
        let device = rustix::fs::fstat(terminal)?.st_rdev;
        restore_on_panic();
        let mut raw_terminals = raw_terminals();
        if let Some(raw) = raw_terminals.iter_mut().find(|raw| raw.device == device) {
            raw.users += 1;
            return Ok(Self { id: raw.id });
        }
        let ours = rustix::io::fcntl_dupfd_cloexec(terminal, 3)?;
        tcsetattr(terminal, OptionalActions::Now, &raw(&settings, interrupt))?;
        // Reads the settings back, because a driver may not accept all of them.
        let raw = tcgetattr(terminal)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        raw_terminals.push(Raw { terminal: ours, device, settings, raw, users: 1, id });
        Ok(Self { id })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let mut raw_terminals = raw_terminals();
        if let Some(place) = raw_terminals.iter().position(|raw| raw.id == self.id) {
            raw_terminals[place].users -= 1;
            if raw_terminals[place].users == 0 {
                raw_terminals.swap_remove(place).restore();
            }
        }
    }
}

fn raw(settings: &Termios, interrupt: Interrupt) -> Termios {
    let mut raw = settings.clone();
    if interrupt == Interrupt::Key {
        raw.make_raw();
        return raw;
    }
    raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::ISTRIP;
    raw.input_modes -= InputModes::IXON | InputModes::BRKINT | InputModes::PARMRK | InputModes::INPCK;
    raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL | LocalModes::IEXTEN;
    // Ctrl-C must not discard the guest's output.
    raw.local_modes |= LocalModes::ISIG | LocalModes::NOFLSH;
    for off in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
        raw.special_codes[off] = 0;
    }
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

/// Makes a panic on any thread restore the terminal before its message is printed.
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
