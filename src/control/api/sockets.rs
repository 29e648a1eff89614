//! A client connects to a listener in the guest.
//!
//! After the head of the reply, the connection is one of the guest's sockets, and the thread of the request ends: the connection has a
//! channel with a thread, wherever the client comes from.

use std::io::{self, ErrorKind};

use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::vsp::sockets::Service;

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Connects. The attempt ends if the client goes.
pub fn connect(exchange: &Exchange<'_>) -> Answered {
    let name = exchange.name(0);
    let service: Service = name.parse().map_err(|error| Problem::invalid(format!("{name:?}: {error}")))?;
    let client = exchange.stream.try_clone().map_err(|error| Problem::host(error.to_string()))?;
    let calling = exchange.with(|machine| machine.sockets().call(service, client, HEAD))?.map_err(problem)?;
    calling.wait(|| !exchange.is_abandoned()).map_err(problem)?;
    Ok(Reply::Sent)
}

fn problem(error: io::Error) -> Problem {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::NotConnected => Problem::state(message),
        ErrorKind::ConnectionRefused => Problem::guest(message),
        ErrorKind::ResourceBusy => Problem::busy(message),
        _ => Problem::host(message),
    }
}
