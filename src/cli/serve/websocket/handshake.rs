//! The handshake: a request that becomes a WebSocket.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::super::error::Problem;
use super::super::http::Request;
use crate::cli::base64::base64;

/// What RFC 6455 has servers append to the client's key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Length of a key: 16 bytes in base64.
const KEY: usize = 24;
/// Start of the protocol by which a browser, which cannot set headers, brings a ticket.
const TICKET: &str = "ticket.";

/// A request for a WebSocket that is in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    accept: String,
    /// The protocols that the client offers, the preferred first, without tickets.
    pub protocols: Vec<String>,
}

impl Handshake {
    /// Checks a request.
    ///
    /// # Errors
    /// Returns an error if it is not for a WebSocket, or comes from a page of another host.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let is_upgrade = items(request, "upgrade").any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
            && items(request, "connection").any(|option| option.eq_ignore_ascii_case("upgrade"));
        if !is_upgrade {
            return Err(Problem::upgrade("this is reached by a WebSocket alone"));
        }
        if request.header("sec-websocket-version") != Some("13") {
            return Err(Problem::upgrade("the version of WebSockets is 13"));
        }
        let key = request.header("sec-websocket-key").filter(|key| key.len() == KEY);
        let key = key.ok_or_else(|| Problem::invalid("Sec-WebSocket-Key is not 16 bytes in base64"))?;
        if let Some(origin) = request.header("origin") {
            let host = origin.split_once("://").map(|(_, host)| host);
            if host.is_none() || host != request.header("host") {
                return Err(Problem::foreign(origin));
            }
        }
        let protocols = items(request, "sec-websocket-protocol").filter(|protocol| !protocol.starts_with(TICKET));
        Ok(Self { accept: accept(key), protocols: protocols.map(str::to_owned).collect() })
    }

    /// Returns the head of the reply, after which the frames come.
    pub fn reply(&self, protocol: Option<&str>) -> String {
        let protocol = protocol.map(|protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{protocol}\r\n",
            self.accept
        )
    }
}

/// Returns the ticket of a request, if there is one.
pub fn ticket(request: &Request) -> Option<&str> {
    items(request, "sec-websocket-protocol").find_map(|protocol| protocol.strip_prefix(TICKET))
}

/// Returns the items of a header that is a list.
fn items<'a>(request: &'a Request, name: &str) -> impl Iterator<Item = &'a str> {
    request.header(name).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Returns the server's answer to a client's key.
fn accept(key: &str) -> String {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    const GOOD: &str = "Host: h:1\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn request(headers: &str) -> Request {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap();
        Request::read(&server).unwrap().unwrap()
    }

    fn status(headers: &str) -> u16 {
        Handshake::of(&request(headers)).map_or_else(|problem| problem.status, |_| 101)
    }

    #[test]
    fn the_key_of_the_specification_is_accepted() {
        let reply = Handshake::of(&request(GOOD)).unwrap().reply(Some("binary"));
        assert!(reply.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{reply}");
        assert!(reply.ends_with("Sec-WebSocket-Protocol: binary\r\n\r\n"), "{reply}");
    }

    #[test]
    fn requests_that_are_not_for_a_websocket_are_refused() {
        assert_eq!(status(GOOD), 101);
        for (part, other, expected) in [
            ("Upgrade: WebSocket", "Upgrade: h2c", 426),
            ("keep-alive, Upgrade", "close", 426),
            ("Version: 13", "Version: 8", 426),
            ("b25jZQ==", "b25jZQ", 400),
        ] {
            assert_eq!(status(&GOOD.replace(part, other)), expected, "{other}");
        }
    }

    #[test]
    fn pages_of_other_hosts_are_refused() {
        for (origin, expected) in
            [("http://h:1", 101), ("https://h:1", 101), ("http://h", 403), ("http://h:1.evil", 403), ("null", 403)]
        {
            assert_eq!(status(&format!("{GOOD}Origin: {origin}\r\n")), expected, "{origin}");
        }
    }

    #[test]
    fn a_ticket_is_no_protocol() {
        let request = request(&format!("{GOOD}Sec-WebSocket-Protocol: binary, ticket.abc, other\r\n"));
        assert_eq!(ticket(&request), Some("abc"));
        assert_eq!(Handshake::of(&request).unwrap().protocols, ["binary", "other"]);
    }
}
