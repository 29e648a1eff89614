//! One command in a guest, as a state machine: bytes of the agent and of the local streams in, bytes for both out.
//!
//! The agent is hostile: all that it can have this side keep is a window of each output stream.

use std::collections::VecDeque;

use super::frame::WindowSize;
use super::frame::{Command, Decoder, FrameError, FromAgent, Status, Stream, ToAgent, VERSION, WINDOW_SIZE, What};

/// Maximum size of one frame of input.
const PIECE: usize = 32 << 10;

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ran, and ended.
    Exited(Status),
    /// The agent could not do it.
    Failed(What, i32),
    /// The guest has gone, or closed the connection.
    HungUp,
}

/// An error that ends a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(
        "the agent in the guest speaks version {0} of the protocol, and this program version {VERSION}; use the agent of this version: viridian agent > viridian-agent"
    )]
    Version(u8),
}

const fn broken(what: &'static str) -> SessionError {
    SessionError::Frame(FrameError::Invalid(what))
}

/// An output stream of the command.
#[derive(Default)]
struct Output {
    /// The bytes that the local side has not taken yet.
    waiting: VecDeque<u8>,
    /// The number of bytes that the agent may still send.
    window: u32,
    /// The number of bytes that the local side has taken since the last message about it to the agent.
    owed: u32,
    is_over: bool,
}

/// A session of the host with the agent.
pub struct Session {
    decoder: Decoder,
    greeted: bool,
    started: bool,
    outgoing: Vec<u8>,
    output: Output,
    error: Output,
    input_window: u32,
    input_is_over: bool,
    end: Option<End>,
}

impl Session {
    /// Returns a session that runs `command`.
    ///
    /// # Errors
    /// Returns an error if the command does not fit into a frame.
    pub fn new(command: &Command) -> Result<Self, FrameError> {
        let mut outgoing = Vec::new();
        ToAgent::Hello.encode(&mut outgoing)?;
        ToAgent::Run(command).encode(&mut outgoing)?;
        let output = || Output { window: WINDOW_SIZE, ..Output::default() };
        Ok(Self {
            decoder: Decoder::default(),
            greeted: false,
            started: false,
            outgoing,
            output: output(),
            error: output(),
            input_window: WINDOW_SIZE,
            input_is_over: false,
            end: None,
        })
    }

    /// Processes bytes of the agent.
    ///
    /// # Errors
    /// Returns an error if the agent breaks the protocol. The session cannot go on then.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let result = decoder.decode(bytes, |frame| self.frame(frame));
        self.decoder = decoder;
        result
    }

    fn frame(&mut self, frame: FromAgent) -> Result<(), SessionError> {
        if self.end.is_some() {
            return Err(broken("a frame came after the end"));
        }
        match frame {
            FromAgent::Hello { version } if !self.greeted => {
                self.greeted = true;
                (version == VERSION).then_some(()).ok_or(SessionError::Version(version))
            }
            _ if !self.greeted => Err(broken("it did not say what it is")),
            FromAgent::Failed(what, error) => {
                self.end = Some(End::Failed(what, error));
                Ok(())
            }
            FromAgent::Started if !self.started => {
                self.started = true;
                Ok(())
            }
            _ if !self.started => Err(broken("a frame came before the command had started")),
            FromAgent::Data(stream, bytes) => {
                let output = self.output_mut(stream).ok_or(broken("data came on standard input"))?;
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if output.is_over || length > output.window {
                    return Err(broken("more data came than was granted"));
                }
                output.window -= length;
                output.waiting.extend(bytes);
                Ok(())
            }
            FromAgent::EndOfStream(stream) => {
                let output = self.output_mut(stream).ok_or(broken("standard input ended"))?;
                let again = std::mem::replace(&mut output.is_over, true);
                if again { Err(broken("a stream ended twice")) } else { Ok(()) }
            }
            FromAgent::Window(bytes) => {
                let window = self.input_window.checked_add(bytes).filter(|window| *window <= WINDOW_SIZE);
                self.input_window = window.ok_or(broken("it granted more than it has room for"))?;
                Ok(())
            }
            FromAgent::Exited(status) => {
                self.end = Some(End::Exited(status));
                Ok(())
            }
            FromAgent::Hello { .. } | FromAgent::Started | FromAgent::FileMode { .. } | FromAgent::Done => {
                Err(broken("it sent an unexpected frame"))
            }
        }
    }

    /// The connection has ended.
    pub fn hung_up(&mut self) {
        self.end.get_or_insert(End::HungUp);
    }

    /// Returns how the session ended, if it has. Output may still wait to be taken.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Returns `true` once the command runs.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Returns how many bytes of input may be given now. Zero also means that the agent has not sent enough yet.
    pub fn input_room(&self) -> usize {
        if self.input_is_over || !self.started || self.end.is_some() || self.outgoing.len() >= PIECE {
            return 0;
        }
        PIECE.min(self.input_window as usize)
    }

    /// Passes input on, at most [`input_room`](Self::input_room) bytes. Nothing is the end of the input.
    pub fn input(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.input_window as usize)];
        if bytes.is_empty() {
            if !std::mem::replace(&mut self.input_is_over, true) {
                self.send(&ToAgent::EndOfInput);
            }
            return;
        }
        self.input_window -= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.send(&ToAgent::Data(bytes));
    }

    /// Sends the command a signal.
    pub fn signal(&mut self, number: i32) {
        if self.started && self.end.is_none() {
            self.send(&ToAgent::Signal(number));
        }
    }

    /// Sends the new size of the terminal to the command.
    pub fn resize(&mut self, size: WindowSize) {
        if self.started && self.end.is_none() {
            self.send(&ToAgent::Resize(size));
        }
    }

    /// Returns bytes to be sent to the agent.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The first bytes of [`outgoing`](Self::outgoing) have been sent.
    pub fn sent(&mut self, length: usize) {
        self.outgoing.drain(..length.min(self.outgoing.len()));
    }

    /// Returns output to be written.
    pub fn output(&self, stream: Stream) -> &[u8] {
        match stream {
            Stream::Input => &[],
            Stream::Output => self.output.waiting.as_slices().0,
            Stream::Error => self.error.waiting.as_slices().0,
        }
    }

    /// The first bytes of [`output`](Self::output) have been written, so the agent may send as many more.
    pub fn written(&mut self, stream: Stream, length: usize) {
        let ended = self.end.is_some();
        let Some(output) = self.output_mut(stream) else { return };
        let length = length.min(output.waiting.len());
        output.waiting.drain(..length);
        output.owed += u32::try_from(length).unwrap_or(u32::MAX);
        // Grants are frames, too, so small writes are granted together.
        if output.owed >= WINDOW_SIZE / 4 && !ended && !output.is_over {
            let granted = std::mem::take(&mut output.owed);
            output.window += granted;
            self.send(&ToAgent::Window(stream, granted));
        }
    }

    fn output_mut(&mut self, stream: Stream) -> Option<&mut Output> {
        match stream {
            Stream::Input => None,
            Stream::Output => Some(&mut self.output),
            Stream::Error => Some(&mut self.error),
        }
    }

    /// Encoding cannot fail: these frames have bounded lengths and no texts.
    fn send(&mut self, frame: &ToAgent<'_>) {
        let encoded = frame.encode(&mut self.outgoing);
        debug_assert!(encoded.is_ok());
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
