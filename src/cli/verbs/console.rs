//! `viridian console`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::isatty;
use serde_json::json;
use viridian::End;
use viridian::machine::code;
use viridian::process::{EndSignals, Foreground, Interrupt};

use super::{Done, Machines, place, print};
use crate::cli::agent::drive::PIPE_PIECE;
use crate::cli::client::{Failure, PROMPT, Remote, encoded};
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
--console) still gets all output. Of a machine of the service that does not run, the last output is printed, if there is some.
The exit code is 0 after Ctrl-A d and at the end of the machine.")]
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
    let machine = match Machines::named(&words).and_then(|machines| machines.one(ONE)) {
        // A machine of the service that does not run has a last output, perhaps.
        Err(Failure::NoMachine(name, why)) => {
            return last_output(&name, json).unwrap_or(Err(Failure::NoMachine(name, why)));
        }
        other => other?,
    };
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
    let input = io::stdin();
    let terminal = match is_terminal {
        true => Foreground::of(input.as_fd(), Interrupt::Key).map_err(failed)?,
        false => None,
    };
    let printer = Printer { name: json.then(|| name.clone()), rest: Vec::new(), waiting: Vec::new() };
    // This restores the terminal.
    let ended =
        Carrier { stream: &stream, types: !read_only, terminal, keys: Keys::default(), typed: Vec::new(), printer }
            .carry(&received, &signals);
    match ended.map_err(failed)? {
        Ended::Detached => say!("detached from {name}, which goes on"),
        Ended::Machine => say!("{name} has ended"),
        Ended::Reader => {}
        Ended::Signal(signal) => return Ok(End::by_signal(signal).exit_code()),
    }
    Ok(0)
}

/// Prints the last output of a machine of the service that does not run. Returns `None` if there is none.
fn last_output(name: &str, json: bool) -> Option<Done> {
    let service = Remote::usual_service().ok()?;
    let text = service.text(&format!("/machines/{}/console", encoded(name))).ok()?;
    let text = if json { format!("{}\n", json!({ "name": name, "output": text })) } else { text };
    Some(print(&text).map(|()| {
        say!("{name} does not run; this is the last output of its console");
        0
    }))
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
    /// Output that standard output has not accepted yet.
    waiting: Vec<u8>,
}

impl Printer {
    /// Takes bytes of the guest.
    fn add(&mut self, bytes: &[u8]) {
        let Some(name) = &self.name else { return self.waiting.extend(bytes) };
        self.rest.extend(bytes);
        let whole = whole_characters(&self.rest);
        let text = String::from_utf8_lossy(&self.rest[..whole]).into_owned();
        self.rest.drain(..whole);
        if !text.is_empty() {
            self.waiting.extend(format!("{}\n", json!({ "name": name, "output": text })).as_bytes());
        }
    }

    /// Prints as much as standard output takes without a wait, once it polls as writable. Returns `false` if nobody reads it.
    fn print(&mut self) -> io::Result<bool> {
        let piece = &self.waiting[..self.waiting.len().min(PIPE_PIECE)];
        match rustix::io::write(io::stdout(), piece) {
            Ok(count) => drop(self.waiting.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
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
struct Carrier<'a> {
    stream: &'a UnixStream,
    /// Standard input is read.
    types: bool,
    /// Standard input, if it is a terminal whose keys are the guest's.
    terminal: Option<Foreground>,
    keys: Keys,
    /// Input that the machine has not accepted yet.
    typed: Vec<u8>,
    printer: Printer,
}

/// The descriptors that are ready.
#[derive(Default)]
struct Ready {
    stream: bool,
    signal: bool,
    job: bool,
    input: bool,
    output: bool,
}

impl Carrier<'_> {
    /// Prints what was `received` already, and carries bytes until there is a reason to end. Never waits for one of the sides alone.
    fn carry(mut self, received: &[u8], signals: &EndSignals) -> io::Result<Ended> {
        self.printer.add(received);
        self.stream.set_nonblocking(true)?;
        loop {
            let ready = self.wait(signals)?;
            if ready.signal {
                return Ok(Ended::Signal(signals.wait()?));
            }
            if ready.job && !self.terminal.as_mut().is_some_and(Foreground::heed) {
                self.end_input()?;
            }
            if ready.output && !self.printer.print()? {
                return Ok(Ended::Reader);
            }
            if ready.input && self.read_input()? == Some(Command::Detach) {
                return Ok(Ended::Detached);
            }
            if !self.typed.is_empty() {
                self.send();
            }
            if ready.stream && self.printer.waiting.is_empty() && !self.receive()? {
                return Ok(Ended::Machine);
            }
        }
    }

    fn wait(&mut self, signals: &EndSignals) -> io::Result<Ready> {
        if self.terminal.as_mut().is_some_and(|terminal| !terminal.is_raw() && !terminal.look()) {
            self.end_input()?;
        }
        let (input, output) = (io::stdin(), io::stdout());
        let mut wanted = Vec::with_capacity(5);
        let mut kinds: Vec<fn(&mut Ready) -> &mut bool> = Vec::with_capacity(5);
        let mut want = |fd, flags, kind| {
            wanted.push(PollFd::from_borrowed_fd(fd, flags));
            kinds.push(kind);
        };
        want(signals.as_fd(), PollFlags::IN, |ready| &mut ready.signal);
        let mut flags = PollFlags::empty();
        // A reader who is behind holds the guest's output back.
        flags.set(PollFlags::IN, self.printer.waiting.is_empty());
        flags.set(PollFlags::OUT, !self.typed.is_empty());
        if !flags.is_empty() {
            want(self.stream.as_fd(), flags, |ready| &mut ready.stream);
        }
        if !self.printer.waiting.is_empty() {
            want(output.as_fd(), PollFlags::OUT, |ready| &mut ready.output);
        }
        if let Some(terminal) = &self.terminal {
            want(terminal.as_fd(), PollFlags::IN, |ready| &mut ready.job);
        }
        if self.types && self.typed.is_empty() && self.terminal.as_ref().is_none_or(Foreground::is_raw) {
            want(input.as_fd(), PollFlags::IN, |ready| &mut ready.input);
        }
        let time = self.terminal.as_ref().and_then(Foreground::next_look);
        let mut ready = Ready::default();
        match poll(&mut wanted, time.and_then(|time| Timespec::try_from(time).ok()).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(ready),
            Err(error) => return Err(error.into()),
        }
        for (fd, kind) in wanted.iter().zip(kinds) {
            *kind(&mut ready) = !fd.revents().is_empty();
        }
        Ok(ready)
    }

    /// The end of a file, pipe or terminal ends what is typed, and not the output.
    fn end_input(&mut self) -> io::Result<()> {
        (self.types, self.terminal) = (false, None);
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads what is typed. Returns the command in it, if there is one.
    fn read_input(&mut self) -> io::Result<Option<Command>> {
        if self.terminal.as_mut().is_some_and(|terminal| !terminal.may_read()) {
            return Ok(None);
        }
        let mut buffer = [0; 4096];
        let count = match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // The terminal is gone.
            Err(_) => 0,
        };
        if count == 0 {
            self.end_input()?;
        } else if self.terminal.is_none() {
            self.typed.extend(&buffer[..count]);
        } else {
            let command = self.keys.filter(&buffer[..count], &mut self.typed);
            if command == Some(Command::Help) {
                self.printer.waiting.extend(HELP.as_bytes());
            }
            return Ok(command);
        }
        Ok(None)
    }

    fn send(&mut self) {
        match (&*self.stream).write(&self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The machine has ended. Its last output must still be read.
            Err(_) => (self.typed, self.types) = (Vec::new(), false),
        }
    }

    /// Reads the guest's output. Returns `false` at the end of the machine.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match (&*self.stream).read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => self.printer.add(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
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
