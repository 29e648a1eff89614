//! The line with which a client of the Unix socket says where it connects to.

use super::service::{BadService, Service};

/// Maximum length of the line with its end.
pub const MAX_LINE: usize = 64;

/// The line so far.
#[derive(Debug, Default)]
pub struct Greeting(Vec<u8>);

/// The reason why a client is sent away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGreeting {
    /// There are too many bytes without the end of a line.
    #[error("the first line is longer than {MAX_LINE} bytes; write CONNECT and a port or a GUID")]
    Long,
    /// The line does not begin with the word.
    #[error("the first line is not a request; write CONNECT and a port or a GUID")]
    Word,
    /// There is no such service.
    #[error(transparent)]
    Service(#[from] BadService),
}

impl Greeting {
    /// Returns the number of bytes that may be read next.
    pub fn room(&self) -> usize {
        MAX_LINE - self.0.len()
    }

    /// Returns how many of the next bytes belong to the line. The rest is data for the guest.
    pub fn part(bytes: &[u8]) -> usize {
        bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1)
    }

    /// Adds bytes of the line, of which there is [room](Self::room) for. Returns the service, once the line has ended.
    ///
    /// # Errors
    /// Returns an error if the line is too long, or not a request.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Option<Service>, BadGreeting> {
        self.0.extend_from_slice(bytes);
        let Some(line) = self.0.strip_suffix(b"\n") else {
            return if self.room() == 0 { Err(BadGreeting::Long) } else { Ok(None) };
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| BadGreeting::Word)?;
        let (word, service) = text.split_once(' ').ok_or(BadGreeting::Word)?;
        if !word.eq_ignore_ascii_case("CONNECT") {
            return Err(BadGreeting::Word);
        }
        Ok(Some(service.trim().parse()?))
    }
}

#[cfg(test)]
#[path = "greeting_tests.rs"]
mod tests;
