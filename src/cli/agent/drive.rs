//! Carries a session: between the connection to the agent and this process's standard streams.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGPIPE, SIGWINCH};
use signal_hook::{SigId, low_level};
use viridian::process::{EndSignals, Foreground};

use super::frame::{Stream, WindowSize};
use super::session::{End, Session, SessionError};

/// A pipe that polls as writable takes this much without waiting (`PIPE_BUF`).
pub const PIPE_PIECE: usize = 4096;
const PIECE: usize = 64 << 10;
/// Signals after which this process ends without waiting for the command.
const PATIENCE: u32 = 3;

/// The local ends of the streams. A stream that is `None` is empty, or is discarded.
pub struct Streams<'a> {
    pub input: Option<BorrowedFd<'a>>,
    /// The input, if it is a terminal that is to be raw.
    pub terminal: Option<Foreground>,
    pub output: Option<BorrowedFd<'a>>,
    pub error: Option<BorrowedFd<'a>>,
}

/// The reason why a session cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("cannot wait for the guest's command: {0}")]
    Wait(io::Error),
    #[error("standard input: {0}")]
    Input(io::Error),
    #[error("{0} of the guest's command: {1}")]
    Output(&'static str, io::Error),
    /// The user sent this signal more than once.
    #[error("ended by a signal")]
    Interrupted(i32),
}

/// Changes of the terminal's size.
pub struct SizeChanges {
    receiver: UnixStream,
    registration: SigId,
}

impl SizeChanges {
    pub fn catch() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        Ok(Self { receiver, registration: low_level::pipe::register(SIGWINCH, sender)? })
    }

    /// Consumes all notifications, and returns the current size.
    fn take(&self) -> Option<WindowSize> {
        while (&self.receiver).read(&mut [0; 16]).is_ok_and(|length| length > 0) {}
        window_size(io::stdin().as_fd())
    }
}

impl Drop for SizeChanges {
    fn drop(&mut self) {
        low_level::unregister(self.registration);
    }
}

/// Returns the size of a terminal.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Carries the session to its end, with all output written.
///
/// # Errors
/// Returns an error if the agent breaks the protocol, a local stream fails, or the user insists on an end.
pub fn drive(
    session: &mut Session,
    connection: &UnixStream,
    mut streams: Streams<'_>,
    signals: &EndSignals,
    sizes: Option<&SizeChanges>,
) -> Result<End, DriveError> {
    connection.set_nonblocking(true).map_err(DriveError::Wait)?;
    let mut buffer = vec![0; PIECE];
    let mut signalled = 0;
    loop {
        for (stream, local) in [(Stream::Output, streams.output), (Stream::Error, streams.error)] {
            if local.is_none() {
                while !session.output(stream).is_empty() {
                    session.written(stream, session.output(stream).len());
                }
            }
        }
        let is_empty = |stream| session.output(stream).is_empty();
        if let Some(end) = session.end().filter(|_| is_empty(Stream::Output) && is_empty(Stream::Error)) {
            return Ok(end.clone());
        }
        let ready = wait(session, connection, &mut streams, signals, sizes).map_err(DriveError::Wait)?;
        if ready.job && !streams.terminal.as_mut().is_some_and(Foreground::heed) {
            end_input(session, &mut streams);
        }
        if ready.signal {
            let signal = signals.wait().map_err(DriveError::Wait)?;
            signalled += 1;
            if signalled >= PATIENCE || !session.has_started() {
                return Err(DriveError::Interrupted(signal));
            }
            session.signal(signal);
        }
        if let Some(size) = sizes.filter(|_| ready.size).and_then(SizeChanges::take) {
            session.resize(size);
        }
        if ready.input {
            read_input(session, &mut streams, &mut buffer)?;
        }
        if ready.receive {
            let had_started = session.has_started();
            receive(session, connection, &mut buffer)?;
            // The size may have changed since the command was requested: a guest may boot in between.
            if !had_started
                && session.has_started()
                && let Some(size) = sizes.and_then(SizeChanges::take)
            {
                session.resize(size);
            }
        }
        if ready.send {
            send(session, connection)?;
        }
        for (stream, is_ready) in [(Stream::Output, ready.output), (Stream::Error, ready.error)] {
            if is_ready {
                write_output(session, &mut streams, stream)?;
            }
        }
    }
}

#[derive(Default)]
struct Ready {
    receive: bool,
    send: bool,
    signal: bool,
    size: bool,
    job: bool,
    input: bool,
    output: bool,
    error: bool,
}

/// Waits until there is something to do.
fn wait(
    session: &mut Session,
    connection: &UnixStream,
    streams: &mut Streams<'_>,
    signals: &EndSignals,
    sizes: Option<&SizeChanges>,
) -> io::Result<Ready> {
    if streams.terminal.as_mut().is_some_and(|terminal| !terminal.is_raw() && !terminal.look()) {
        end_input(session, streams);
    }
    let (session, streams) = (&*session, &*streams);
    let next_look = streams.terminal.as_ref().and_then(Foreground::next_look);
    let mut wanted = Vec::with_capacity(8);
    let mut kinds: Vec<fn(&mut Ready) -> &mut bool> = Vec::with_capacity(8);
    let mut want = |fd, flags, kind| {
        wanted.push(PollFd::from_borrowed_fd(fd, flags));
        kinds.push(kind);
    };
    if session.end().is_none() {
        want(connection.as_fd(), PollFlags::IN, |ready| &mut ready.receive);
        if !session.outgoing().is_empty() {
            want(connection.as_fd(), PollFlags::OUT, |ready| &mut ready.send);
        }
    }
    want(signals.as_fd(), PollFlags::IN, |ready| &mut ready.signal);
    if let Some(sizes) = sizes {
        want(sizes.receiver.as_fd(), PollFlags::IN, |ready| &mut ready.size);
    }
    if let Some(terminal) = &streams.terminal {
        want(terminal.as_fd(), PollFlags::IN, |ready| &mut ready.job);
    }
    let is_readable = streams.terminal.as_ref().is_none_or(Foreground::is_raw) && session.input_room() > 0;
    if let Some(input) = streams.input.filter(|_| is_readable) {
        want(input, PollFlags::IN, |ready| &mut ready.input);
    }
    if let Some(output) = streams.output.filter(|_| !session.output(Stream::Output).is_empty()) {
        want(output, PollFlags::OUT, |ready| &mut ready.output);
    }
    if let Some(error) = streams.error.filter(|_| !session.output(Stream::Error).is_empty()) {
        want(error, PollFlags::OUT, |ready| &mut ready.error);
    }
    let mut ready = Ready::default();
    let time = next_look.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut wanted, time.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(ready),
        Err(error) => return Err(error.into()),
    }
    for (fd, kind) in wanted.iter().zip(kinds) {
        *kind(&mut ready) = !fd.revents().is_empty();
    }
    Ok(ready)
}

fn read_input(session: &mut Session, streams: &mut Streams<'_>, buffer: &mut [u8]) -> Result<(), DriveError> {
    let Some(input) = streams.input else { return Ok(()) };
    if streams.terminal.as_mut().is_some_and(|terminal| !terminal.may_read()) {
        return Ok(());
    }
    let room = session.input_room().min(buffer.len());
    match rustix::io::read(input, &mut buffer[..room]) {
        Ok(length) => {
            session.input(&buffer[..length]);
            if length == 0 {
                streams.input = None;
            }
            Ok(())
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(()),
        // A terminal that has gone, or is another process group's: nothing comes from it.
        Err(Errno::IO) => {
            end_input(session, streams);
            Ok(())
        }
        Err(error) => Err(DriveError::Input(error.into())),
    }
}

/// Ends the input: its terminal is gone.
fn end_input(session: &mut Session, streams: &mut Streams<'_>) {
    if streams.input.take().is_some() {
        session.input(&[]);
    }
    streams.terminal = None;
}

fn receive(session: &mut Session, mut connection: &UnixStream, buffer: &mut [u8]) -> Result<(), DriveError> {
    match connection.read(buffer) {
        Ok(0) => session.hung_up(),
        Ok(length) => session.received(&buffer[..length])?,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
        Err(error) => {
            log::debug!("the connection to the agent failed: {error}");
            session.hung_up();
        }
    }
    Ok(())
}

fn send(session: &mut Session, mut connection: &UnixStream) -> Result<(), DriveError> {
    match connection.write(session.outgoing()) {
        Ok(length) => session.sent(length),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
        // The agent has closed the connection. Bytes that it sent before can still be read.
        Err(_) => session.sent(usize::MAX),
    }
    Ok(())
}

/// Writes what can be written without waiting. Where nobody reads it any more, the command gets a SIGPIPE, as if it had
/// written there itself.
fn write_output(session: &mut Session, streams: &mut Streams<'_>, stream: Stream) -> Result<(), DriveError> {
    let (local, name) = match stream {
        Stream::Error => (&mut streams.error, "standard error"),
        _ => (&mut streams.output, "standard output"),
    };
    let Some(fd) = *local else { return Ok(()) };
    let bytes = session.output(stream);
    match rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_PIECE)]) {
        Ok(length) => session.written(stream, length),
        Err(Errno::INTR | Errno::AGAIN) => {}
        Err(Errno::PIPE) => {
            *local = None;
            session.signal(SIGPIPE);
        }
        Err(error) => return Err(DriveError::Output(name, error.into())),
    }
    Ok(())
}
