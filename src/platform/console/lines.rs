//! A console among others on standard output: whole lines, each with a label before it.
//!
//! A line goes out in one write, which pipes, files and terminals with room for it take whole: lines of several machines
//! do not mix. Nothing is typed to such a console, for nobody could say to which.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use super::ConsoleError;
use super::backend::Backend;
use super::endpoint::Endpoint;
use super::stdio::{STANDARD_OUTPUT, advice};

/// A longer line is broken: more a pipe does not take at once (PIPE_BUF), and some room is for the label.
const LONGEST: usize = 3 << 10;

pub(super) struct LinesBackend {
    label: String,
    output: Endpoint,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The rest of a line that the output has taken in part.
    rest: Vec<u8>,
}

impl LinesBackend {
    /// The process's own standard output.
    pub fn open(label: &str) -> Result<Self, ConsoleError> {
        Self::on(label, io::stdout().as_fd())
    }

    /// The same on any file. One that cannot be written is an error.
    pub fn on(label: &str, output: BorrowedFd<'_>) -> Result<Self, ConsoleError> {
        let output = Endpoint::for_writing(output).map_err(|source| {
            let advice = advice(&source);
            ConsoleError::Write { to: STANDARD_OUTPUT.into(), source, advice }
        })?;
        Ok(Self { label: format!("{label}: "), output, line: Vec::new(), rest: Vec::new() })
    }

    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let count = self.output.write(&self.rest)?;
            self.rest.drain(..count);
        }
        Ok(())
    }

    /// Writes what is held back and `more` as one line. If nothing goes, nothing has changed.
    fn write_line(&mut self, more: &[u8]) -> io::Result<()> {
        let mut whole = [self.label.as_bytes(), &self.line, more].concat();
        while whole.pop_if(|byte| matches!(byte, b'\r' | b'\n')).is_some() {}
        whole.push(b'\n');
        let count = self.output.write(&whole)?;
        self.rest.extend_from_slice(&whole[count..]);
        self.line.clear();
        Ok(())
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
