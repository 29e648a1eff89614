//! Frames of the agent's protocol as bytes: see `docs/agent.md`. `guest-agent/frames.h` is the other side.

/// Version of the protocol.
pub const VERSION: u8 = 1;
/// Maximum payload of a frame to the agent. It bounds the arguments and the environment of a command.
pub const MAX_TO_AGENT: usize = 256 << 10;
/// Maximum payload of a frame from the agent.
pub const MAX_FROM_AGENT: usize = 32 << 10;
/// Bytes of a stream that may be under way before its receiver grants more.
pub const WINDOW_SIZE: u32 = 256 << 10;

const HEADER: usize = 8;
const MAGIC: [u8; 4] = *b"VIRA";

const HELLO: u8 = 1;
const RUN: u8 = 2;
const STARTED: u8 = 3;
const DATA: u8 = 4;
const END_OF_STREAM: u8 = 5;
const WINDOW: u8 = 6;
const SIGNAL: u8 = 7;
const RESIZE: u8 = 8;
const EXITED: u8 = 9;
const FAILED: u8 = 10;
const PUT: u8 = 11;
const GET: u8 = 12;
const FILE_MODE: u8 = 13;
const DONE: u8 = 14;

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input, or the bytes of a file for the guest.
    Input,
    /// Standard output, or the bytes of a file from the guest.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    fn from_wire(number: u8) -> Option<Self> {
        [Self::Input, Self::Output, Self::Error].into_iter().find(|stream| *stream as u8 == number)
    }
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// A command to run in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// Variables, each `NAME=VALUE`.
    pub environment: Vec<Vec<u8>>,
    /// Working directory; empty for the root.
    pub directory: Vec<u8>,
    /// If it gets a terminal, the size of that.
    pub terminal: Option<WindowSize>,
}

/// A frame to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent<'a> {
    Hello,
    Run(&'a Command),
    Data(&'a [u8]),
    EndOfInput,
    Window(Stream, u32),
    Signal(i32),
    Resize(WindowSize),
    Put { path: &'a [u8], mode: u32, replace: bool },
    Get { path: &'a [u8] },
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Code(u8),
    Signal(u8),
}

impl Status {
    /// The exit code that a shell reports.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 | signal,
        }
    }
}

/// The operation that failed in the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Frame,
    Command,
    Directory,
    File,
}

/// A frame from the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromAgent {
    Hello {
        version: u8,
    },
    Started,
    Data(Stream, Vec<u8>),
    EndOfStream(Stream),
    /// The agent takes more bytes of standard input.
    Window(u32),
    Exited(Status),
    /// With Linux's error number.
    Failed(What, i32),
    FileMode {
        mode: u32,
        size: u64,
    },
    Done,
}

/// The reason why a frame cannot be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("arguments and environment have {0} bytes, and the agent takes at most {MAX_TO_AGENT}")]
    TooLong(usize),
    #[error("an argument, a variable or a path has a zero byte in it")]
    ZeroByte,
    #[error("the agent broke the protocol: {0}")]
    Invalid(&'static str),
}

fn text(payload: &mut Vec<u8>, text: &[u8]) -> Result<(), FrameError> {
    if text.contains(&0) {
        return Err(FrameError::ZeroByte);
    }
    payload.extend_from_slice(text);
    payload.push(0);
    Ok(())
}

impl ToAgent<'_> {
    /// Appends the frame to `to`.
    ///
    /// # Errors
    /// Returns an error, and appends nothing, if a text has a zero byte or the payload is too long.
    pub fn encode(&self, to: &mut Vec<u8>) -> Result<(), FrameError> {
        let mut payload = Vec::new();
        let mut stream = 0;
        let kind = match self {
            Self::Hello => {
                payload.extend(MAGIC);
                payload.extend([VERSION, 0, 0, 0]);
                HELLO
            }
            Self::Run(command) => {
                let Command { arguments, environment, directory, terminal } = command;
                let size = terminal.unwrap_or_default();
                payload.extend(u32::from(terminal.is_some()).to_le_bytes());
                payload.extend(size.rows.to_le_bytes());
                payload.extend(size.columns.to_le_bytes());
                for list in [arguments, environment] {
                    payload.extend(u32::try_from(list.len()).unwrap_or(u32::MAX).to_le_bytes());
                }
                text(&mut payload, directory)?;
                arguments.iter().chain(environment).try_for_each(|item| text(&mut payload, item))?;
                RUN
            }
            Self::Data(bytes) => {
                payload.extend_from_slice(bytes);
                DATA
            }
            Self::EndOfInput => END_OF_STREAM,
            Self::Window(of, bytes) => {
                stream = *of as u8;
                payload.extend(bytes.to_le_bytes());
                WINDOW
            }
            Self::Signal(number) => {
                payload.extend(number.to_le_bytes());
                SIGNAL
            }
            Self::Resize(size) => {
                payload.extend(size.rows.to_le_bytes());
                payload.extend(size.columns.to_le_bytes());
                RESIZE
            }
            Self::Put { path, mode, replace } => {
                payload.extend(mode.to_le_bytes());
                payload.extend(u32::from(*replace).to_le_bytes());
                text(&mut payload, path)?;
                PUT
            }
            Self::Get { path } => {
                text(&mut payload, path)?;
                GET
            }
        };
        let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX_TO_AGENT);
        let length = length.ok_or(FrameError::TooLong(payload.len()))?;
        to.extend(length.to_le_bytes());
        to.extend([kind, stream, 0, 0]);
        to.append(&mut payload);
        Ok(())
    }
}

/// Splits what the agent sends into frames. It keeps at most one frame that is not complete.
#[derive(Default)]
pub struct Decoder(Vec<u8>);

impl Decoder {
    /// Processes bytes of the agent, and calls `take` with each frame that they complete.
    ///
    /// # Errors
    /// Returns an error if a frame is invalid, or the error of `take`.
    pub fn decode<E: From<FrameError>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(FromAgent) -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.extend_from_slice(bytes);
        let mut start = 0;
        while let Some((header, rest)) = self.0[start..].split_first_chunk::<HEADER>() {
            let [l0, l1, l2, l3, kind, stream, reserved @ ..] = *header;
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            if length > MAX_FROM_AGENT {
                return Err(FrameError::Invalid("a frame is too long").into());
            }
            if reserved != [0, 0] {
                return Err(FrameError::Invalid("reserved bytes of a frame are not zero").into());
            }
            let Some(payload) = rest.get(..length) else { break };
            take(decode(kind, stream, payload).ok_or(FrameError::Invalid("a frame makes no sense"))?)?;
            start += HEADER + length;
        }
        self.0.drain(..start);
        Ok(())
    }
}

fn word(payload: &[u8], index: usize) -> Option<u32> {
    payload.get(index * 4..index * 4 + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn decode(kind: u8, stream: u8, payload: &[u8]) -> Option<FromAgent> {
    let stream = Stream::from_wire(stream)?;
    let output = (stream != Stream::Input).then_some(stream);
    Some(match (kind, payload.len()) {
        (HELLO, 8) if payload[..4] == MAGIC => FromAgent::Hello { version: payload[4] },
        (STARTED, 4) => FromAgent::Started,
        (DATA, 1..) => FromAgent::Data(output?, payload.to_vec()),
        (END_OF_STREAM, 0) => FromAgent::EndOfStream(output?),
        (WINDOW, 4) if stream == Stream::Input => FromAgent::Window(word(payload, 0)?),
        (EXITED, 8) => FromAgent::Exited(match (word(payload, 0)?, word(payload, 1)?) {
            (0, code) => Status::Code(code.try_into().ok()?),
            (signal @ 1..=64, _) => Status::Signal(signal.try_into().ok()?),
            _ => return None,
        }),
        (FAILED, 8) => {
            let what = match word(payload, 0)? {
                1 => What::Frame,
                2 => What::Command,
                3 => What::Directory,
                4 => What::File,
                _ => return None,
            };
            FromAgent::Failed(what, word(payload, 1)?.try_into().ok()?)
        }
        (FILE_MODE, 16) => {
            let size = u64::from(word(payload, 2)?) | u64::from(word(payload, 3)?) << 32;
            FromAgent::FileMode { mode: word(payload, 0)?, size }
        }
        (DONE, 0) => FromAgent::Done,
        _ => return None,
    })
}
