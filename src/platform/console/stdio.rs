//! A console on standard input and output.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::ConsoleError;
use super::backend::{Backend, Typed};
use super::endpoint::Endpoint;
use super::keys::{Command, HELP, Keys};
use super::terminal::{NotRaw, RawMode};

pub(super) const STANDARD_OUTPUT: &str = "standard output";

pub(super) struct StdioBackend {
    /// `None` once the input has ended, or where there is none.
    input: Option<Endpoint>,
    output: Endpoint,
    /// On a terminal: our keys, and its settings to be put back.
    terminal: Option<(Keys, RawMode)>,
}

impl StdioBackend {
    /// The process's own standard input and output.
    pub fn open() -> Result<Self, ConsoleError> {
        Self::on(io::stdin().as_fd(), io::stdout().as_fd())
    }

    /// The same on any two files. An input that cannot be read has ended; an output that cannot be written is an error.
    pub fn on(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<Self, ConsoleError> {
        let output = Endpoint::for_writing(output).map_err(|source| {
            let advice = advice(&source);
            ConsoleError::Write { to: STANDARD_OUTPUT.into(), source, advice }
        })?;
        let raw = RawMode::enter(input);
        // A terminal that somebody else has in the foreground is not ours to read: it would stop us.
        let input = match raw {
            Err(NotRaw::InBackground) => None,
            _ => Endpoint::for_reading(input).ok(),
        };
        Ok(Self { input, output, terminal: raw.ok().map(|raw| (Keys::default(), raw)) })
    }
}

pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::BrokenPipe => "its reader has gone; give --console none or --console file:PATH to run without one",
        ErrorKind::StorageFull => "free some space on its disk",
        _ => "give --console none or --console file:PATH to run without it",
    }
}

impl Backend for StdioBackend {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(|input| input.as_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Typed {
        let Some(input) = &self.input else { return Typed::Bytes(0) };
        let count = match input.read(buffer) {
            Ok(count) if count > 0 => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            _ => {
                self.input = None;
                0
            }
        };
        let Some((keys, _)) = &mut self.terminal else { return Typed::Bytes(count) };
        match keys.filter(&mut buffer[..count]) {
            (_, Some(Command::Quit)) => Typed::Quit,
            (count, command) => {
                if command == Some(Command::Help) {
                    let _ = io::stderr().write_all(HELP.as_bytes());
                }
                Typed::Bytes(count)
            }
        }
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.output.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn explain(&self, error: &io::Error) -> (String, &'static str) {
        (STANDARD_OUTPUT.into(), advice(error))
    }
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
