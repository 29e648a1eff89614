//! `viridian console`.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::isatty;
use serde_json::json;
use viridian::End;
use viridian::machine::code;
use viridian::process::EndSignals;

use super::{Done, Machines, place};
use crate::cli::agent::attach::Raw;
use crate::cli::client::{Failure, PROMPT};
use crate::cli::say;

/// Printed on Ctrl-A h.
const HELP: &str = "\r\n\
    Ctrl-A h       print this help\r\n\
    Ctrl-A d       detach: the machine keeps running\r\n\
    Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";
const CTRL_A: u8 = 1;

/// The answer if several machines are named.
const ONE: &str = "a terminal has room for the console of one machine; open each in a terminal of its own, or follow what \
    happens to several with viridian events --all";

/// The options of `viridian console`.
#[derive(clap::Args)]
#[command(after_help = "\
Prints the last 64 KiB of the guest's output first. On a terminal, all keys go to the guest, also Ctrl-C; Ctrl-A d detaches,
Ctrl-A h lists the keys. Any number of clients can watch a console, and one can type at it. The machine's own console (run
--console) still gets all output. The exit code is 0 after Ctrl-A d and at the end of the machine.")]
pub struct Arguments {
    /// The machine
    #[arg(allow_hyphen_values = true, value_parser = place)]
    name: String,

    /// More machines, which are refused with an explanation
    #[arg(hide = true)]
    others: Vec<String>,

    /// Only watch; standard input is not read
    #[arg(short, long)]
    read_only: bool,

    /// Take the keyboard over from another client, which then only watches
    #[arg(long, conflicts_with = "read_only")]
    take: bool,

    /// Print JSON: one object a line, with a part of the output
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { name, others, read_only, take, json }: Arguments) -> Done {
    let failed = |error: io::Error| Failure::Other(code::FAILED, error.to_string());
    let words: Vec<_> = std::iter::once(name).chain(others).collect();
    let machine = Machines::named(&words)?.one(ONE)?;
    let name = machine.name.clone();
    let signals = EndSignals::catch().map_err(failed)?;
    let stream = match read_only {
        true => machine.stream("GET", "/console", None, PROMPT)?,
        false => machine.stream("POST", "/console", Some(&json!({ "take": take })), PROMPT)?,
    };
    let (received, stream) = stream.raw();
    let is_terminal = !read_only && !json && isatty(io::stdin());
    if is_terminal {
        say!("this is the console of {name}; Ctrl-A d detaches, Ctrl-A h lists the keys");
    }
    // A background job of a shell stays cooked: only its output is seen.
    let raw = is_terminal.then(Raw::enter).transpose().map_err(failed)?;
    let printer = Printer { name: json.then(|| name.clone()), rest: Vec::new() };
    let ended = carry(&stream, received, !read_only, is_terminal, &signals, printer);
    drop(raw);
    match ended.map_err(failed)? {
        Ended::Detached => say!("detached from {name}, which goes on"),
        Ended::Machine => say!("{name} has ended"),
        Ended::Reader => {}
        Ended::Signal(signal) => return Ok(End::by_signal(signal).exit_code()),
    }
    Ok(0)
}

/// The reason for the end of a session.
enum Ended {
    /// The user has detached.
    Detached,
    /// The machine has ended.
    Machine,
    /// The reader of standard output has closed it.
    Reader,
    /// A signal ends this program.
    Signal(i32),
}

/// Prints what the guest prints.
struct Printer {
    /// The name of the machine, if JSON is printed.
    name: Option<String>,
    /// The start of a character whose end has not come yet.
    rest: Vec<u8>,
}

impl Printer {
    /// Prints bytes of the guest. Returns `false` if nobody reads them.
    fn print(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let line = self.name.clone().map(|name| {
            self.rest.extend(bytes);
            let whole = whole_characters(&self.rest);
            let text = String::from_utf8_lossy(&self.rest[..whole]).into_owned();
            self.rest.drain(..whole);
            if text.is_empty() { String::new() } else { format!("{}\n", json!({ "name": name, "output": text })) }
        });
        let mut output = io::stdout();
        match output.write_all(line.as_ref().map_or(bytes, |line| line.as_bytes())).and_then(|()| output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// Returns the length without the last character, if that is not complete.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(4);
    let start = bytes[last..].iter().rposition(|byte| *byte & 0xc0 != 0x80).map_or(bytes.len(), |place| last + place);
    match std::str::from_utf8(&bytes[start..]) {
        Err(error) if error.error_len().is_none() => start,
        _ => bytes.len(),
    }
}

/// Carries bytes both ways.
fn carry(
    mut stream: &UnixStream,
    received: Vec<u8>,
    mut types: bool,
    is_terminal: bool,
    signals: &EndSignals,
    mut printer: Printer,
) -> io::Result<Ended> {
    let input = io::stdin();
    if !printer.print(&received)? {
        return Ok(Ended::Reader);
    }
    stream.set_nonblocking(true)?;
    let mut keys = Keys::default();
    let mut typed = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, !typed.is_empty());
        let mut polled = vec![PollFd::new(stream, wanted), PollFd::new(signals, PollFlags::IN)];
        if types && typed.is_empty() {
            polled.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN));
        }
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let found: Vec<_> = polled.iter().map(PollFd::revents).collect();
        if !found[1].is_empty() {
            return Ok(Ended::Signal(signals.wait()?));
        }
        if found.get(2).is_some_and(|found| !found.is_empty()) {
            let count = match rustix::io::read(&input, &mut buffer[..4096]) {
                Ok(count) => count,
                Err(Errno::INTR | Errno::AGAIN) => continue,
                // The terminal is gone.
                Err(_) => 0,
            };
            if count == 0 {
                // The end of a file or pipe ends what is typed, and not the output.
                types = false;
                stream.shutdown(std::net::Shutdown::Write)?;
            } else if !is_terminal {
                typed.extend(&buffer[..count]);
            } else {
                match keys.filter(&buffer[..count], &mut typed) {
                    Some(Command::Detach) => return Ok(Ended::Detached),
                    Some(Command::Help) => drop(printer.print(HELP.as_bytes())?),
                    None => {}
                }
            }
        }
        match stream.write(&typed) {
            Ok(count) => drop(typed.drain(..count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The machine has ended. Its last output must still be read.
            Err(_) => (typed, types) = (Vec::new(), false),
        }
        if !found[0].is_empty() {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(Ended::Machine),
                Ok(count) if !printer.print(&buffer[..count])? => return Ok(Ended::Reader),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Ended::Machine),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A command of the user to this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Detach,
    Help,
}

/// Remembers whether the last key was Ctrl-A.
#[derive(Default)]
struct Keys {
    is_escaped: bool,
}

impl Keys {
    /// Appends to `typed` what is for the guest, and returns the first command. What follows a command to detach is dropped.
    fn filter(&mut self, bytes: &[u8], typed: &mut Vec<u8>) -> Option<Command> {
        let mut command = None;
        for key in bytes {
            match (std::mem::take(&mut self.is_escaped), *key) {
                (false, CTRL_A) => self.is_escaped = true,
                (false, key) => typed.push(key),
                (true, CTRL_A) => typed.push(CTRL_A),
                (true, b'd' | b'D') => return Some(Command::Detach),
                (true, b'h' | b'H' | b'?') => command = command.or(Some(Command::Help)),
                (true, _) => {}
            }
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_not_complete_waits_for_its_end() {
        for (bytes, whole) in [
            (&b"ab"[..], 2),
            (b"a\xc3", 1),
            (b"a\xc3\xa4", 3),
            (b"\xe2\x82", 0),
            (b"a\xff", 2),
            (b"\x80\x80\x80\x80\x80", 5),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:x?}");
        }
        assert_eq!(whole_characters(b""), 0);
    }

    #[test]
    fn keys_after_ctrl_a_are_commands() {
        let mut keys = Keys::default();
        let mut typed = Vec::new();
        assert_eq!(keys.filter(b"ls\r\x03\x01", &mut typed), None);
        assert_eq!(keys.filter(b"\x01\x01zx\x01h", &mut typed), Some(Command::Help));
        assert_eq!(keys.filter(b"y\x01dignored", &mut typed), Some(Command::Detach));
        assert_eq!(typed, b"ls\r\x03\x01xy");
    }
}
