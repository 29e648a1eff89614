//! Carries bytes between a TLS connection and a local socket.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::Connection;

/// Time for the peer to take what is left, after this side has closed its connection.
const LAST: Duration = Duration::from_secs(30);
/// Time for the peer to close its side after that. What it sends meanwhile is dropped: to close before would reset the
/// connection, and the peer might lose the end of a reply.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are carried at once.
const PIECE: usize = 16 << 10;

/// Does the handshake, until the deadline.
///
/// # Errors
/// Returns an error if the peer does not do its part.
pub fn shake_hands(session: &mut Connection, mut stream: &UnixStream, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the TLS handshake was not finished in time"));
        }
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        if session.wants_write() {
            match session.write_tls(&mut stream) {
                Err(error) if !is_temporary(&error) => return Err(error),
                _ => continue,
            }
        }
        if !session.is_handshaking() {
            return Ok(());
        }
        match session.read_tls(&mut stream) {
            Ok(0) => {
                let text = "the connection was closed during the TLS handshake";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            Ok(_) => {}
            Err(error) if is_temporary(&error) => continue,
            Err(error) => return Err(error),
        }
        if let Err(error) = session.process_new_packets() {
            // The peer is told why.
            let _ = session.write_tls(&mut stream);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Carries bytes both ways until both directions are closed, or one side is gone.
pub fn carry(session: Connection, outer: &UnixStream, inner: &UnixStream) {
    let mut pump =
        Pump { session, outer, inner, received: Vec::new(), peer: Side::Open, own: Side::Open, closing: None };
    if let Err(error) = pump.run() {
        log::debug!("a TLS connection has ended: {error}");
    }
    // Whoever still uses either end finds its end.
    let _ = outer.shutdown(std::net::Shutdown::Both);
    let _ = inner.shutdown(std::net::Shutdown::Both);
}

/// How far a direction is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Bytes may come.
    Open,
    /// No more bytes come; what has come is still to be passed on.
    Ended,
    /// The other side knows of it.
    Closed,
}

struct Pump<'a> {
    session: Connection,
    outer: &'a UnixStream,
    inner: &'a UnixStream,
    /// What the peer has sent, and the local side has not taken yet.
    received: Vec<u8>,
    /// What the peer sends.
    peer: Side,
    /// What the local side sends.
    own: Side,
    /// The local side has closed its socket: when to give up.
    closing: Option<Instant>,
}

impl Pump<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.outer.set_nonblocking(true)?;
        self.inner.set_nonblocking(true)?;
        // Messages may have come with the last one of the handshake.
        self.receive()?;
        loop {
            self.pass_on()?;
            if self.peer == Side::Closed && self.own == Side::Closed {
                return Ok(());
            }
            let left = self.closing.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            let mut outer = PollFlags::empty();
            outer.set(PollFlags::IN, self.peer == Side::Open && self.received.is_empty());
            outer.set(PollFlags::OUT, self.session.wants_write());
            let mut inner = PollFlags::empty();
            inner.set(PollFlags::IN, self.own == Side::Open && !self.session.wants_write());
            inner.set(PollFlags::OUT, !self.received.is_empty());
            // A socket whose other end is closed is always ready: it is polled only if something is to be done with it.
            let wants_outer = !outer.is_empty();
            let wants_inner = self.closing.is_none() || !inner.is_empty();
            let mut fds = Vec::with_capacity(2);
            if wants_outer {
                fds.push(PollFd::new(self.outer, outer));
            }
            if wants_inner {
                fds.push(PollFd::new(self.inner, inner));
            }
            match poll(&mut fds, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let found = |is_polled: bool, index: usize| {
                if is_polled { fds[index].revents() } else { PollFlags::empty() }
            };
            let (from_outer, from_inner) = (found(wants_outer, 0), found(wants_inner, usize::from(wants_outer)));
            let readable = PollFlags::IN | PollFlags::HUP;
            if from_outer.contains(PollFlags::ERR) {
                return Ok(());
            }
            if from_outer.intersects(readable) && outer.contains(PollFlags::IN) {
                self.read_outer()?;
            }
            if from_inner.intersects(readable) && inner.contains(PollFlags::IN) {
                self.read_inner()?;
            }
            if from_inner.intersects(PollFlags::HUP | PollFlags::ERR) && self.closing.is_none() {
                self.closing = Some(Instant::now() + LAST);
            }
        }
    }

    /// Writes what can be written now.
    fn pass_on(&mut self) -> io::Result<()> {
        let (mut outer, mut inner) = (self.outer, self.inner);
        if self.closing.is_some() {
            self.received.clear();
        }
        while !self.received.is_empty() {
            match inner.write(&self.received) {
                Ok(count) => drop(self.received.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It is not read any more.
                Err(_) => self.received.clear(),
            }
        }
        if self.peer == Side::Ended && self.received.is_empty() {
            let _ = inner.shutdown(std::net::Shutdown::Write);
            self.peer = Side::Closed;
        }
        while self.session.wants_write() {
            match self.session.write_tls(&mut outer) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.own == Side::Ended {
            outer.shutdown(std::net::Shutdown::Write)?;
            self.own = Side::Closed;
            if let Some(end) = &mut self.closing {
                *end = Instant::now() + LINGER;
            }
        }
        Ok(())
    }

    fn read_outer(&mut self) -> io::Result<()> {
        let mut outer = self.outer;
        match self.session.read_tls(&mut outer) {
            Ok(0) => {
                // Without the message that says so, too: HTTP knows where a reply ends.
                if self.peer == Side::Open {
                    self.peer = Side::Ended;
                }
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if is_temporary(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.receive()
    }

    /// Decrypts what has come.
    fn receive(&mut self) -> io::Result<()> {
        if let Err(error) = self.session.process_new_packets() {
            let mut outer = self.outer;
            let _ = self.session.write_tls(&mut outer);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        let mut piece = [0; 4096];
        loop {
            match self.session.reader().read(&mut piece) {
                Ok(0) => {
                    self.peer = Side::Ended;
                    return Ok(());
                }
                Ok(count) => self.received.extend(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.peer = Side::Ended;
                    return Ok(());
                }
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_inner(&mut self) -> io::Result<()> {
        let mut piece = [0; PIECE];
        let mut inner = self.inner;
        match inner.read(&mut piece) {
            Ok(0) => self.finish(),
            // The session takes all of it: it has nothing to send.
            Ok(count) => self.session.writer().write_all(&piece[..count])?,
            Err(error) if is_temporary(&error) => {}
            Err(_) => self.finish(),
        }
        Ok(())
    }

    /// Tells the peer that no more comes.
    fn finish(&mut self) {
        self.session.send_close_notify();
        self.own = Side::Ended;
    }
}
