//! A console on standard input and output.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::ConsoleError;
use super::backend::{Backend, Typed};
use super::foreground::{Foreground, Interrupt};
use super::keys::{Command, HELP, Keys};
use crate::host::limits;
use crate::host::records::Records;
use crate::host::records::endpoint::Endpoint;

pub(super) const STANDARD_OUTPUT: &str = "standard output";

pub(super) struct StdioBackend {
    /// `None` if the input has ended, or if there is none.
    input: Option<Endpoint>,
    output: Endpoint,
    terminal: Option<Terminal>,
}

/// An input that is a terminal.
struct Terminal {
    keys: Keys,
    foreground: Foreground,
}

impl StdioBackend {
    /// Opens the process's standard input and output.
    pub fn open() -> Result<Self, ConsoleError> {
        Self::on(io::stdin().as_fd(), io::stdout().as_fd())
    }

    /// Opens a console on any two files. An unreadable input counts as ended; an unwritable output is an error.
    pub fn on(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<Self, ConsoleError> {
        let output = Endpoint::for_writing(output).map_err(|source| {
            let advice = advice(&source);
            ConsoleError::Write { to: STANDARD_OUTPUT.into(), source, advice }
        })?;
        let foreground = Foreground::of(input, Interrupt::Signal).map_err(ConsoleError::Start)?;
        let terminal = foreground.map(|foreground| Terminal { keys: Keys::default(), foreground });
        let input = match Endpoint::for_reading(input) {
            Err(error) if limits::is_reached(&error.to_string()) => return Err(ConsoleError::Start(error)),
            input => input.ok(),
        };
        Ok(Self { input, output, terminal })
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
        let waits = self.terminal.as_ref().is_some_and(|terminal| !terminal.foreground.is_raw());
        self.input.as_ref().filter(|_| !waits).map(|input| input.as_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Typed {
        let Some(input) = &self.input else { return Typed::Bytes(0) };
        if self.terminal.as_mut().is_some_and(|terminal| !terminal.foreground.may_read()) {
            return Typed::Bytes(0);
        }
        let count = match input.read(buffer) {
            Ok(count) if count > 0 => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            _ => {
                self.input = None;
                0
            }
        };
        let Some(terminal) = &mut self.terminal else { return Typed::Bytes(count) };
        match terminal.keys.filter(&mut buffer[..count]) {
            (_, Some(Command::Quit)) => Typed::Quit,
            (count, command) => {
                if command == Some(Command::Help) {
                    Records::standard_error().put(HELP.as_bytes(), 1);
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

    fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(|terminal| terminal.foreground.as_fd())
    }

    fn heed(&mut self) {
        if self.terminal.as_mut().is_some_and(|terminal| !terminal.foreground.heed()) {
            self.input = None;
        }
    }

    fn glance(&mut self) -> Option<Duration> {
        let foreground = &mut self.terminal.as_mut().filter(|_| self.input.is_some())?.foreground;
        if !foreground.is_raw() && !foreground.look() {
            self.input = None;
            return None;
        }
        foreground.next_look()
    }

    fn explain(&self, error: &io::Error) -> (String, &'static str) {
        (STANDARD_OUTPUT.into(), advice(error))
    }
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
