//! A command in a guest on this process's standard streams: a terminal if they are one, signals, and the exit code.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::termios::isatty;
use viridian::machine::code;
use viridian::process::{EndSignals, Foreground, Interrupt};

use super::drive::{DriveError, SizeChanges, Streams, drive, window_size};
use super::frame::{Command, What};
use super::session::{End, Session};
use crate::cli::say;

/// Exit codes of a shell for a command that is not there, and for one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The effect of a session's end on this program.
pub enum Outcome {
    /// The exit code; what there was to say has been said.
    Code(u8),
    /// The guest has gone before the command ended.
    Lost,
}

/// Returns `true` if the command is to have a terminal: standard input and output are one.
pub fn is_on_terminal() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// Returns the size of this process's terminal, for a command that is to have one.
pub fn terminal_size() -> super::frame::WindowSize {
    window_size(io::stdin().as_fd()).unwrap_or_default()
}

/// Runs `command` on the standard streams.
///
/// # Errors
/// Returns an error if this process cannot catch signals or change its terminal.
pub fn attach(connection: &UnixStream, command: &Command, signals: &EndSignals) -> anyhow::Result<Outcome> {
    let mut session = match Session::new(command) {
        Ok(session) => session,
        Err(error) => {
            say!("{error}");
            return Ok(Outcome::Code(code::USAGE));
        }
    };
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let has_terminal = command.terminal.is_some();
    let sizes = has_terminal.then(SizeChanges::catch).transpose()?;
    let terminal = has_terminal.then(|| Foreground::of(input.as_fd(), Interrupt::Key)).transpose()?.flatten();
    let streams = Streams {
        input: Some(input.as_fd()),
        terminal,
        output: Some(output.as_fd()),
        error: Some(error.as_fd()) as Option<BorrowedFd<'_>>,
    };
    // This restores the terminal.
    let result = drive(&mut session, connection, streams, signals, sizes.as_ref());
    let (outcome, words) = conclude(result, command);
    if let Some(words) = words {
        say!("{}", viridian::process::Marked(&words));
    }
    Ok(outcome)
}

/// Returns the effect of a session's end, and what there is to say about it.
pub fn conclude(result: Result<End, DriveError>, command: &Command) -> (Outcome, Option<String>) {
    let program = String::from_utf8_lossy(command.arguments.first().map_or(b"", Vec::as_slice));
    let said = |code, words: String| (Outcome::Code(code), Some(words));
    let in_words = io::Error::from_raw_os_error;
    match result {
        Ok(End::Exited(status)) => (Outcome::Code(status.code()), None),
        Ok(End::Failed(What::Command, libc::ENOENT)) => {
            said(NOT_FOUND, format!("{program}: the guest has no such command"))
        }
        Ok(End::Failed(What::Command, error)) => {
            said(NOT_EXECUTABLE, format!("{program}: the guest cannot run it: {}", in_words(error)))
        }
        Ok(End::Failed(What::Directory, error)) => {
            let directory = String::from_utf8_lossy(&command.directory);
            said(NOT_EXECUTABLE, format!("{directory}: the guest cannot change to this directory: {}", in_words(error)))
        }
        Ok(End::Failed(_, error)) => said(code::FAILED, format!("the agent in the guest refuses: {}", in_words(error))),
        Ok(End::HungUp) => (Outcome::Lost, None),
        Err(DriveError::Interrupted(signal)) => (Outcome::Code(viridian::End::by_signal(signal).exit_code()), None),
        Err(error) => said(code::FAILED, error.to_string()),
    }
}
