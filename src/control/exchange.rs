//! A request that is answered, and the answer.

use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::error::Problem;
use super::http::Request;
use crate::device::CommandError;
use crate::fleet::Handle;
use crate::machine::Machine;

/// A request that is answered.
pub struct Exchange<'a> {
    /// The machine.
    pub machine: &'a Handle,
    /// The request.
    pub request: Request,
    /// The connection, for answers that take their time.
    pub stream: &'a UnixStream,
    /// The parts of the path that the route leaves open, decoded.
    pub names: Vec<String>,
}

/// The answer.
pub enum Reply {
    /// A JSON body.
    Json(Value),
    /// Bytes of this type.
    Bytes(&'static str, Vec<u8>),
    /// The handler has sent it.
    Sent,
}

/// The result of a handler.
pub type Answered = Result<Reply, Problem>;

impl<'a> Exchange<'a> {
    /// Creates an exchange.
    pub fn new(machine: &'a Handle, request: Request, stream: &'a UnixStream) -> Self {
        Self { machine, request, stream, names: Vec::new() }
    }

    /// Does something with the machine. It must be prompt.
    ///
    /// # Errors
    /// Returns an error if the machine has ended.
    pub fn with<T>(&self, access: impl FnOnce(&Machine) -> T) -> Result<T, Problem> {
        self.machine.with(access).ok_or_else(Problem::gone)
    }
}

impl Exchange<'_> {
    /// Returns `true` if the client has closed the connection, so that nobody waits for the answer. A client that has only finished
    /// sending is still there.
    pub fn is_abandoned(&self) -> bool {
        let mut asked = [PollFd::new(self.stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&now)).is_ok_and(|_| asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }

    /// Returns a part of the path that the route leaves open.
    pub fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("", String::as_str)
    }
}

/// An answer without content.
pub fn done() -> Answered {
    Ok(Reply::Json(serde_json::json!({})))
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::NoDevice { .. } | CommandError::Unknown { .. } => Self::not_found(message),
            CommandError::Arguments(_) => Self::invalid(message),
            CommandError::Failed(_) => Self::state(message),
        }
    }
}
