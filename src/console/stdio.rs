//! A console on standard input and output.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::ConsoleError;
use super::backend::{Backend, Typed};
use super::jobs::{GLANCE, JobControl};
use super::keys::{Command, HELP, Keys};
use super::terminal::{NotRaw, RawMode, is_in_foreground};
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
    /// `None` while another process is in the terminal's foreground: reading it would stop this process.
    raw: Option<RawMode>,
    jobs: JobControl,
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
        let terminal = match RawMode::enter(input) {
            Err(NotRaw::NotATerminal) => None,
            raw => Some(Terminal {
                keys: Keys::default(),
                raw: raw.ok(),
                jobs: JobControl::listen().map_err(ConsoleError::Start)?,
            }),
        };
        Ok(Self { input: Endpoint::for_reading(input).ok(), output, terminal })
    }

    /// Checks whether the process is in the terminal's foreground, and if so makes it raw.
    fn look_at_terminal(&mut self) {
        let Some((terminal, input)) = self.terminal.as_mut().zip(self.input.as_ref()) else { return };
        // A shell may have changed its settings.
        terminal.raw = None;
        match RawMode::enter(input.as_fd()) {
            Ok(raw) => terminal.raw = Some(raw),
            Err(NotRaw::InBackground) => {}
            Err(NotRaw::NotATerminal) => self.input = None,
        }
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
        let waits = self.terminal.as_ref().is_some_and(|terminal| terminal.raw.is_none());
        self.input.as_ref().filter(|_| !waits).map(|input| input.as_fd())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Typed {
        let Some(input) = &self.input else { return Typed::Bytes(0) };
        if let Some(terminal) = self.terminal.as_mut().filter(|_| !is_in_foreground(input.as_fd())) {
            terminal.raw = None;
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
        self.terminal.as_ref().map(|terminal| terminal.jobs.as_fd())
    }

    fn heed(&mut self) {
        if let Some(terminal) = &self.terminal {
            terminal.jobs.heed();
            self.look_at_terminal();
        }
    }

    fn glance(&mut self) -> Option<Duration> {
        if self.terminal.as_ref()?.raw.is_none() {
            self.look_at_terminal();
        }
        let waits = self.input.is_some() && self.terminal.as_ref()?.raw.is_none();
        waits.then_some(GLANCE)
    }

    fn explain(&self, error: &io::Error) -> (String, &'static str) {
        (STANDARD_OUTPUT.into(), advice(error))
    }
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
