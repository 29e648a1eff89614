//! Copies one file to a guest or from it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::frame::{Decoder, FrameError, FromAgent, Stream, ToAgent, VERSION, WINDOW_SIZE, What};
use super::session::SessionError;

const PIECE: usize = 32 << 10;

/// The reason why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the guest says: {}", io::Error::from_raw_os_error(*.0))]
    Guest(i32),
    #[error("the connection to the guest: {0}")]
    Connection(io::Error),
    #[error("the file on this host: {0}")]
    Local(io::Error),
}

impl From<FrameError> for CopyError {
    fn from(error: FrameError) -> Self {
        Self::Session(error.into())
    }
}

/// A connection after the greeting.
struct Link<'a> {
    connection: &'a UnixStream,
    decoder: Decoder,
    frames: std::collections::VecDeque<FromAgent>,
}

impl<'a> Link<'a> {
    fn open(connection: &'a UnixStream, first: &ToAgent<'_>) -> Result<Self, CopyError> {
        let mut link = Self { connection, decoder: Decoder::default(), frames: [].into() };
        link.send(&ToAgent::Hello)?;
        link.send(first)?;
        match link.next()? {
            FromAgent::Hello { version: VERSION } => Ok(link),
            FromAgent::Hello { version } => Err(SessionError::Version(version).into()),
            _ => Err(unexpected()),
        }
    }

    fn send(&mut self, frame: &ToAgent<'_>) -> Result<(), CopyError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        // An agent that refuses hangs up, but first it says why.
        match self.connection.write_all(&bytes) {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            other => other.map_err(CopyError::Connection),
        }
    }

    fn next(&mut self) -> Result<FromAgent, CopyError> {
        let mut buffer = [0; PIECE];
        loop {
            match self.frames.pop_front() {
                Some(FromAgent::Failed(What::Frame, _)) => {
                    return Err(FrameError::Invalid("it does not understand this program").into());
                }
                Some(FromAgent::Failed(_, error)) => return Err(CopyError::Guest(error)),
                Some(frame) => return Ok(frame),
                None => {}
            }
            let length = self.connection.read(&mut buffer).map_err(CopyError::Connection)?;
            if length == 0 {
                return Err(CopyError::Connection(io::ErrorKind::UnexpectedEof.into()));
            }
            let frames = &mut self.frames;
            self.decoder.decode(&buffer[..length], |frame| -> Result<(), FrameError> {
                frames.push_back(frame);
                Ok(())
            })?;
        }
    }
}

fn unexpected() -> CopyError {
    FrameError::Invalid("it sent an unexpected frame").into()
}

/// Writes a file in the guest. If this fails, the file is as it was before.
///
/// # Errors
/// See [`CopyError`].
pub fn put(
    connection: &UnixStream,
    mut from: impl Read,
    path: &[u8],
    mode: u32,
    replace: bool,
) -> Result<u64, CopyError> {
    let mut link = Link::open(connection, &ToAgent::Put { path, mode, replace })?;
    if link.next()? != FromAgent::Started {
        return Err(unexpected());
    }
    let (mut window, mut copied) = (WINDOW_SIZE, 0);
    let mut buffer = vec![0; PIECE];
    loop {
        while window == 0 {
            match link.next()? {
                FromAgent::Window(more) if more <= WINDOW_SIZE => window += more,
                _ => return Err(unexpected()),
            }
        }
        let room = buffer.len().min(window as usize);
        let length = from.read(&mut buffer[..room]).map_err(CopyError::Local)?;
        if length == 0 {
            break;
        }
        link.send(&ToAgent::Data(&buffer[..length]))?;
        window -= u32::try_from(length).unwrap_or(u32::MAX);
        copied += length as u64;
    }
    link.send(&ToAgent::EndOfInput)?;
    loop {
        match link.next()? {
            FromAgent::Done => return Ok(copied),
            FromAgent::Window(_) => {}
            _ => return Err(unexpected()),
        }
    }
}

/// Reads a file in the guest. `open` gets its mode and size, and returns the destination.
///
/// # Errors
/// See [`CopyError`].
pub fn get<W: Write>(
    connection: &UnixStream,
    path: &[u8],
    open: impl FnOnce(u32, u64) -> io::Result<W>,
) -> Result<(W, u64), CopyError> {
    let mut link = Link::open(connection, &ToAgent::Get { path })?;
    let FromAgent::FileMode { mode, size } = link.next()? else { return Err(unexpected()) };
    let mut to = open(mode & 0o7777, size).map_err(CopyError::Local)?;
    let (mut owed, mut copied) = (0, 0);
    loop {
        match link.next()? {
            FromAgent::Data(Stream::Output, bytes) => {
                to.write_all(&bytes).map_err(CopyError::Local)?;
                copied += bytes.len() as u64;
                owed += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if owed >= WINDOW_SIZE / 4 {
                    link.send(&ToAgent::Window(Stream::Output, std::mem::take(&mut owed)))?;
                }
            }
            FromAgent::Done => {
                to.flush().map_err(CopyError::Local)?;
                return Ok((to, copied));
            }
            _ => return Err(unexpected()),
        }
    }
}
