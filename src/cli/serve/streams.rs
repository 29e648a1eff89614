//! The console and the screen of a machine, as WebSockets.
//!
//! The service only carries bytes between the client and the machine's own socket. The machine decides who types, and what a client that
//! reads slowly loses.

use std::io::Write;
use std::os::fd::AsFd;

use serde_json::json;

use super::access::Role;
use super::api::{Answered, Call, Reply};
use super::error::Problem;
use super::operations::problem;
use super::tickets;
use super::websocket::handshake::Handshake;
use super::websocket::relay;
use crate::cli::client::{Failure, PROMPT, Remote, Stream};

/// The ways to attach to a console, and their names as protocols of a WebSocket. A client offers those that suit it, the preferred first.
const TYPE: &str = "console.type";
const TAKE: &str = "console.take";
const WATCH: &str = "console.watch";
/// The protocol that viewers of screens offer.
const BINARY: &str = "binary";

/// Issues a ticket for a WebSocket.
pub fn ticket(call: &Call<'_>) -> Answered {
    let ticket = call.service.tickets.issue(call.caller);
    let ticket = ticket.map_err(|error| Problem::host(format!("the host has no random numbers: {error}")))?;
    Ok(Reply::Json(json!({ "ticket": ticket, "seconds": tickets::LIFE.as_secs() })))
}

/// Attaches a client to the console.
pub fn console(call: &Call<'_>) -> Answered {
    let handshake = Handshake::of(call.request)?;
    let _place = call.follow()?;
    let remote = call.service.supervisor.remote(call.name)?;
    let mut offered: Vec<_> = handshake.protocols.iter().map(String::as_str).collect();
    if offered.is_empty() {
        offered.push("");
    }
    let mut refused = None;
    for protocol in offered {
        if matches!(protocol, TYPE | TAKE | "") && call.caller.role < Role::Operate {
            refused = Some(Problem::forbidden(call.caller, Role::Operate));
            continue;
        }
        let attached = match protocol {
            TYPE | "" => attach(&remote, false),
            TAKE => attach(&remote, true),
            WATCH => remote.stream("GET", "/console", None, PROMPT),
            _ => continue,
        };
        match attached {
            Ok(stream) => return carry(call, &handshake, Some(protocol).filter(|name| !name.is_empty()), stream),
            // Another client types. The next protocol may be to watch.
            Err(Failure::Refused { kind, message }) if kind == "state" => refused = Some(Problem::state(message)),
            Err(failure) => return Err(problem(failure)),
        }
    }
    let unknown = || {
        Problem::invalid("the console has none of the protocols in Sec-WebSocket-Protocol")
            .with_remedy(format!("offer {TYPE}, {TAKE} or {WATCH}"))
    };
    Err(refused.unwrap_or_else(unknown))
}

fn attach(remote: &Remote, take: bool) -> Result<Stream, Failure> {
    remote.stream("POST", "/console", Some(&json!({ "take": take })), PROMPT)
}

/// Shows the screen to a viewer. Without the role to operate the machine, it only watches: the machine drops its keys and buttons.
pub fn screen(call: &Call<'_>) -> Answered {
    let handshake = Handshake::of(call.request)?;
    let _place = call.follow()?;
    let remote = call.service.supervisor.remote(call.name)?;
    let method = if call.caller.role < Role::Operate { "GET" } else { "POST" };
    let stream = remote.stream(method, "/screen", None, PROMPT).map_err(problem)?;
    let protocol = handshake.protocols.iter().find(|protocol| *protocol == BINARY).map(String::as_str);
    carry(call, &handshake, protocol, stream)
}

/// Answers the handshake, and carries bytes from then on.
fn carry(call: &Call<'_>, handshake: &Handshake, protocol: Option<&str>, stream: Stream) -> Answered {
    let (received, machine) = stream.raw();
    let mut client = call.stream;
    let carried = client
        .write_all(handshake.reply(protocol).as_bytes())
        .and_then(|()| relay::carry(&mut client, call.stream.as_fd(), &machine, &received));
    if let Err(error) = carried {
        log::debug!("{}: a WebSocket is lost: {error}", call.name);
    }
    Ok(Reply::Sent)
}
