//! Carries bytes between a WebSocket and the socket of a machine.
//!
//! One thread does that without ever waiting for one side alone. What one side has sent is read only after the other has taken what came
//! before, so a browser that does not read holds some kilobytes, and the machine notices it as a client that does not read.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::frames::{self, Code, Decoder};

/// Number of bytes that are read at once.
const PIECE: usize = 32 << 10;
/// Number of bytes for the browser from which on it is not listened to: it sends pings, and does not read the answers.
const MAX_WAITING: usize = 2 * PIECE;
/// What the host keeps of what a browser has not read. More would delay pings.
const UNREAD: usize = 256 << 10;
/// Time limits.
const PATIENCE: Patience =
    Patience { ping: Duration::from_secs(20), silence: Duration::from_secs(60), close: Duration::from_secs(5) };

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The interval at which a browser is asked whether it is there.
    ping: Duration,
    /// The silence after which it is not.
    silence: Duration,
    /// The time that it has to confirm the end.
    close: Duration,
}

/// Carries bytes until one side ends. `received` was received from the machine already. The descriptor is that of the browser's
/// connection, which may be encrypted.
///
/// # Errors
/// Returns the error of a connection.
pub fn carry(
    browser: &mut (impl Read + Write),
    descriptor: BorrowedFd<'_>,
    machine: &UnixStream,
    received: &[u8],
) -> io::Result<()> {
    let _ = set_socket_send_buffer_size(descriptor, UNREAD);
    ioctl_fionbio(descriptor, true)?;
    machine.set_nonblocking(true)?;
    Relay::new(PATIENCE, received).run(browser, descriptor, machine)
}

struct Relay {
    patience: Patience,
    decoder: Decoder,
    /// Frames that the browser has not taken.
    to_browser: Vec<u8>,
    /// The transport has not taken all that it was given.
    is_unflushed: bool,
    /// Payload that the machine has not taken.
    to_machine: Vec<u8>,
    /// When the browser was heard.
    heard: Instant,
    /// When it is to be asked whether it is there.
    ping_at: Instant,
    /// The end has begun, and has to be over then.
    close_by: Option<Instant>,
    buffer: Box<[u8]>,
}

/// The result of an attempt to read.
enum Got {
    Some(usize),
    Nothing,
    End,
}

fn attempt(result: io::Result<usize>) -> io::Result<Got> {
    match result {
        Ok(0) => Ok(Got::End),
        Ok(count) => Ok(Got::Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Got::Nothing),
        // An encrypted connection that ends without a word, and one that the other side has torn down.
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(Got::End),
        Err(error) => Err(error),
    }
}

impl Relay {
    fn new(patience: Patience, received: &[u8]) -> Self {
        let now = Instant::now();
        let mut to_browser = Vec::new();
        if !received.is_empty() {
            frames::payload(received, &mut to_browser);
        }
        Self {
            patience,
            decoder: Decoder::default(),
            to_browser,
            is_unflushed: false,
            to_machine: Vec::new(),
            heard: now,
            ping_at: now + patience.ping,
            close_by: None,
            buffer: vec![0; PIECE].into_boxed_slice(),
        }
    }

    fn run(
        mut self,
        browser: &mut (impl Read + Write),
        descriptor: BorrowedFd<'_>,
        mut machine: &UnixStream,
    ) -> io::Result<()> {
        loop {
            self.write(browser, machine)?;
            // Everything that can be done is done before sleeping: a transport may have read more than it has given out.
            let mut has_done = false;
            if self.listens() {
                match attempt(browser.read(&mut self.buffer))? {
                    Got::Some(count) => {
                        has_done = true;
                        if self.hear(count) {
                            // The browser has begun or confirmed the end. It need not read more than its own frame's answer.
                            return self.write(browser, machine);
                        }
                    }
                    Got::Nothing => {}
                    Got::End => return Ok(()),
                }
            }
            if self.to_browser.is_empty() && self.close_by.is_none() {
                match attempt(machine.read(&mut self.buffer))? {
                    Got::Some(count) => {
                        has_done = true;
                        frames::payload(&self.buffer[..count], &mut self.to_browser);
                    }
                    Got::Nothing => {}
                    Got::End => {
                        has_done = true;
                        self.close(Code::NORMAL, "the machine has ended the connection");
                    }
                }
            }
            if !has_done && !self.sleep(descriptor, machine)? {
                return Ok(());
            }
        }
    }

    /// Returns `true` if there is room for what the browser sends, and for the answers to its pings.
    fn listens(&self) -> bool {
        self.to_machine.is_empty() && self.to_browser.len() < MAX_WAITING
    }

    /// Writes as much as the two sides take.
    fn write(&mut self, browser: &mut impl Write, mut machine: &UnixStream) -> io::Result<()> {
        while !self.to_browser.is_empty() {
            match attempt(browser.write(&self.to_browser))? {
                Got::Some(count) => drop(self.to_browser.drain(..count)),
                Got::Nothing => break,
                Got::End => return Err(ErrorKind::WriteZero.into()),
            }
        }
        self.is_unflushed = match browser.flush() {
            Ok(()) => false,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => true,
            Err(error) => return Err(error),
        };
        while !self.to_machine.is_empty() {
            match machine.write(&self.to_machine) {
                Ok(count) => drop(self.to_machine.drain(..count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                // What it has sent before its end is still to be read.
                Err(_) => self.to_machine.clear(),
            }
        }
        Ok(())
    }

    /// Takes what the browser has sent. Returns `true` if the connection is over, up to what is to be written.
    fn hear(&mut self, count: usize) -> bool {
        let now = Instant::now();
        (self.heard, self.ping_at) = (now, now + self.patience.ping);
        match self.decoder.take(&self.buffer[..count]) {
            Ok(received) => {
                if let Some(content) = received.ping.filter(|_| self.close_by.is_none()) {
                    frames::pong(&content, &mut self.to_browser);
                }
                if received.closes {
                    if self.close_by.is_none() {
                        frames::close(Code::NORMAL, "", &mut self.to_browser);
                    }
                    return true;
                }
                if self.close_by.is_none() {
                    self.to_machine = received.payload;
                }
            }
            Err(code) => {
                if self.close_by.is_none() {
                    frames::close(code, "the frames are not those of a WebSocket's client", &mut self.to_browser);
                }
                return true;
            }
        }
        false
    }

    /// Begins the end.
    fn close(&mut self, code: Code, reason: &str) {
        frames::close(code, reason, &mut self.to_browser);
        self.to_machine.clear();
        self.close_by = Some(Instant::now() + self.patience.close);
    }

    /// Waits for something to do. Returns `false` if the browser is not there any more.
    fn sleep(&mut self, descriptor: BorrowedFd<'_>, machine: &UnixStream) -> io::Result<bool> {
        let now = Instant::now();
        if self.close_by.is_some_and(|end| end <= now) {
            return Ok(false);
        }
        if !self.to_machine.is_empty() {
            // It is the machine that is silent: nobody listens to the browser.
            self.heard = now;
        }
        if now.saturating_duration_since(self.heard) >= self.patience.silence {
            return Ok(false);
        }
        if self.ping_at <= now {
            self.ping_at = now + self.patience.ping;
            // A browser that has something to read does not need one.
            if self.to_browser.is_empty() && self.close_by.is_none() {
                frames::ping(&mut self.to_browser);
                return Ok(true);
            }
        }
        let mut of_browser = PollFlags::empty();
        of_browser.set(PollFlags::IN, self.listens());
        of_browser.set(PollFlags::OUT, !self.to_browser.is_empty() || self.is_unflushed);
        let mut of_machine = PollFlags::empty();
        of_machine.set(PollFlags::IN, self.to_browser.is_empty() && self.close_by.is_none());
        of_machine.set(PollFlags::OUT, !self.to_machine.is_empty());
        let mut polled = vec![PollFd::from_borrowed_fd(descriptor, of_browser)];
        // One that has ended would not let this thread sleep.
        if !of_machine.is_empty() {
            polled.push(PollFd::new(machine, of_machine));
        }
        let until = self.close_by.unwrap_or(self.ping_at).min(self.heard + self.patience.silence);
        let left = Timespec::try_from(until.saturating_duration_since(now)).ok();
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Nothing is read from a browser that waits for the machine, so its end is not found otherwise.
        let is_lost = !self.to_machine.is_empty() && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        Ok(!is_lost)
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
