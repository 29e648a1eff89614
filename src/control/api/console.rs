//! The console: a client watches it, or types, too.
//!
//! After the head of the reply, the connection carries the guest's output, and in the other direction what is typed. A client
//! that does not read delays nobody: see [`crate::console::Attached`].

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Deserialize;

use crate::console::{Attached, NotAttached, Part, Seen};
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    take: bool,
}

/// Sends the output that is kept, and what follows, until the machine ends.
pub fn watch(exchange: &Exchange<'_>) -> Answered {
    carry(exchange, Part::Watch)
}

/// The same, and passes the client's bytes to the console's input.
pub fn attach(exchange: &Exchange<'_>) -> Answered {
    let Body { take } = exchange.request.json()?;
    carry(exchange, if take { Part::TakeOver } else { Part::Type })
}

fn carry(exchange: &Exchange<'_>, part: Part) -> Answered {
    let attached = exchange.with(|machine| machine.attach_console(part))?;
    let none = || Problem::state("the machine has no console yet; try again later");
    let mut console = attached.ok_or_else(none)?.map_err(|error| match error {
        NotAttached::Taken => Problem::state(error.to_string()),
        NotAttached::Host(_) => Problem::host(error.to_string()),
    })?;
    if let Err(error) = copy(exchange.stream, &mut console, part != Part::Watch) {
        log::debug!("{}: a client of the console is gone: {error}", exchange.machine.name());
    }
    Ok(Reply::Sent)
}

/// Carries bytes both ways until the output is over or the client is gone.
fn copy(mut stream: &UnixStream, console: &mut Attached, mut types: bool) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut pending = HEAD.to_vec();
    let mut buffer = [0; 4096];
    loop {
        if pending.is_empty() && console.read(&mut pending) == Seen::Over {
            return Ok(());
        }
        match stream.write(&pending) {
            Ok(count) => drop(pending.drain(..count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        // There may be more to read: only a client that has got everything sleeps.
        if pending.is_empty() && console.read(&mut pending) == Seen::Over {
            return Ok(());
        }
        let room = if types { console.room().min(buffer.len()) } else { 0 };
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::OUT, !pending.is_empty());
        wanted.set(PollFlags::IN, room > 0);
        let mut polled = [PollFd::new(stream, wanted), PollFd::new(&*console, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (found, is_woken) = (polled[0].revents(), !polled[1].revents().is_empty());
        if is_woken {
            console.clear();
        }
        if found.contains(PollFlags::IN) && room > 0 {
            match stream.read(&mut buffer[..room]) {
                // The client has finished typing, and continues to watch.
                Ok(0) => types = false,
                Ok(count) => console.type_bytes(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        } else if found.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
    }
}
