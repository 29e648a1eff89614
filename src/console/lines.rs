//! A console that shares standard output with others: whole lines, each with a label.
//!
//! A line is written by one call, which pipes, files and terminals with enough room accept completely. So lines of
//! several machines do not mix, and no line can look like another machine's: see [`clean`]. Such a console has no
//! input, because the user could not select a machine.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use super::ConsoleError;
use super::backend::Backend;
use super::clean::clean;
use super::stdio::{STANDARD_OUTPUT, advice};
use crate::host::records::endpoint::Endpoint;
use crate::wire::printable::Escaped;

/// Maximum length of a line; a longer one is split.
const LONGEST: usize = 3 << 10;
/// Maximum size of an atomic write to a pipe (PIPE_BUF).
const WRITTEN: usize = 4 << 10;
/// Minimum length that a label leaves for the line; longer labels are truncated.
const LEAST: usize = 1 << 10;

pub(super) struct LinesBackend {
    label: String,
    output: Endpoint,
    /// An incomplete line.
    line: Vec<u8>,
    /// Complete lines that have not been written, and the rest of one that has been written in part.
    rest: VecDeque<Vec<u8>>,
}

impl LinesBackend {
    /// Opens the process's standard output.
    pub fn open(label: &str) -> Result<Self, ConsoleError> {
        Self::on(label, io::stdout().as_fd())
    }

    /// Opens a console on any file. Returns an error if it is not writable.
    pub fn on(label: &str, output: BorrowedFd<'_>) -> Result<Self, ConsoleError> {
        let output = Endpoint::for_writing(output).map_err(|source| {
            let advice = advice(&source);
            ConsoleError::Write { to: STANDARD_OUTPUT.into(), source, advice }
        })?;
        let mut label = format!("{}: ", Escaped(label));
        label.truncate(label.floor_char_boundary(WRITTEN - LEAST));
        Ok(Self { label, output, line: Vec::new(), rest: VecDeque::new() })
    }

    fn write_rest(&mut self) -> io::Result<()> {
        while let Some(line) = self.rest.front_mut() {
            let count = self.output.write(line)?;
            line.drain(..count);
            if line.is_empty() {
                self.rest.pop_front();
            }
        }
        Ok(())
    }

    /// Completes the line that is held back with `more`. What cannot be written now is kept.
    fn write_line(&mut self, more: &[u8]) -> io::Result<()> {
        self.line.extend_from_slice(more);
        while self.line.pop_if(|byte| matches!(byte, b'\r' | b'\n')).is_some() {}
        let pieces = clean(&self.line, WRITTEN - self.label.len() - 1);
        self.rest.extend(pieces.into_iter().map(|piece| format!("{}{piece}\n", self.label).into_bytes()));
        self.line.clear();
        match self.write_rest() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

impl Backend for LinesBackend {
    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.output.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_rest()?;
        let bytes = &bytes[..bytes.len().min(LONGEST - self.line.len())];
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|place| place + 1);
        match end {
            Some(end) => self.write_line(&bytes[..end])?,
            None if self.line.len() + bytes.len() == LONGEST => self.write_line(bytes)?,
            None => self.line.extend_from_slice(bytes),
        }
        Ok(end.unwrap_or(bytes.len()))
    }

    fn holds(&self) -> bool {
        !self.line.is_empty() || !self.rest.is_empty()
    }

    fn let_go(&mut self) -> io::Result<()> {
        self.write_rest()?;
        if !self.line.is_empty() {
            self.write_line(&[])?;
        }
        if self.rest.is_empty() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn explain(&self, error: &io::Error) -> (String, &'static str) {
        (STANDARD_OUTPUT.into(), advice(error))
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
