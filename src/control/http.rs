//! HTTP/1.1, as far as a control socket needs it: one request on each connection, within bounds of size and time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Problem;

#[path = "whole.rs"]
mod whole;

/// Maximum length of the request line and the headers.
const MAX_HEAD: usize = 16 << 10;
/// Maximum number of headers.
const MAX_HEADERS: usize = 64;
/// Maximum length of a body.
const MAX_BODY: usize = 1 << 20;
/// Time limit for a whole request to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time limit for the client to read some of a reply.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The parts of the path, decoded.
    pub path: Vec<String>,
    /// The headers that are UTF-8, with their names in lower case.
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request. Returns `None` if the client sends nothing.
    ///
    /// # Errors
    /// Returns what is to be answered instead of what was requested.
    pub fn read(stream: &UnixStream) -> Result<Option<Self>, Problem> {
        let deadline = Instant::now() + PATIENCE;
        let _ = stream.set_write_timeout(Some(WRITE_PATIENCE));
        let mut bytes = Vec::new();
        let (head, length) = loop {
            if let Some((head, length)) = Self::parse(&bytes)? {
                break (head, length);
            }
            if bytes.len() >= MAX_HEAD {
                return Err(Problem::large(format!("the head of a request has at most {MAX_HEAD} bytes")));
            }
            let room = MAX_HEAD - bytes.len();
            if receive(stream, &mut bytes, room, deadline)? == 0 {
                let nothing = bytes.is_empty();
                return if nothing { Ok(None) } else { Err(Problem::invalid("the request ends in its head")) };
            }
        };
        let Head { mut request, body } = head;
        bytes.drain(..length);
        while bytes.len() < body {
            let room = body - bytes.len();
            if receive(stream, &mut bytes, room, deadline)? == 0 {
                return Err(Problem::invalid("the request ends in its body"));
            }
        }
        bytes.truncate(body);
        request.body = bytes;
        Ok(Some(request))
    }

    /// Parses a head, and returns it with its length, or `None` if it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Problem> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let wrong = |error| Problem::invalid(format!("this is not an HTTP/1.1 request: {error}"));
        let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(wrong)? else { return Ok(None) };
        let header = |name: &str| {
            let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok().map(str::trim)
        };
        if header("transfer-encoding").is_some() {
            return Err(Problem::length("send the body with a Content-Length, not in chunks"));
        }
        let wrong_length = |_| Problem::invalid("the Content-Length is not a number");
        let body = header("content-length").map(str::parse::<usize>).transpose().map_err(wrong_length)?.unwrap_or(0);
        if body > MAX_BODY {
            return Err(Problem::large(format!("a body has at most {MAX_BODY} bytes, not {body}")));
        }
        let path = parsed.path.unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
        let path = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect::<Result<_, _>>()?;
        let headers = parsed.headers.iter().filter_map(|header| {
            Some((header.name.to_ascii_lowercase(), std::str::from_utf8(header.value).ok()?.trim().to_owned()))
        });
        let headers = headers.collect();
        let method = parsed.method.unwrap_or_default().to_owned();
        Ok(Some((Head { request: Self { method, path, headers, body: Vec::new() }, body }, length)))
    }

    /// Returns the value of a header. The name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns `true` if the client wants the head of the reply to GET, without its body.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Returns the id of the last event that the client has seen.
    pub fn last_event(&self) -> Option<u64> {
        self.header("last-event-id")?.parse().ok()
    }

    /// Returns the body as a value of this type. A missing body is an empty object.
    ///
    /// # Errors
    /// Returns an error with the place of the first mistake.
    pub fn parsed<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        if self.body.is_empty() {
            serde_json::from_str("{}")
        } else {
            serde_json::from_slice(&whole::plain(&self.body))
        }
    }

    /// The same.
    ///
    /// # Errors
    /// Returns an error with the place of the first mistake.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.parsed().map_err(|error| Problem::invalid(format!("the body: {error}")))
    }

    /// Returns the body as any value, `null` if it is missing.
    ///
    /// # Errors
    /// Returns an error with the place of the first mistake.
    pub fn value(&self) -> Result<Value, Problem> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.json() }
    }
}

struct Head {
    request: Request,
    /// Length of the body.
    body: usize,
}

/// Receives up to `room` more bytes, until the deadline. Returns 0 at the end.
fn receive(stream: &UnixStream, bytes: &mut Vec<u8>, room: usize, deadline: Instant) -> Result<usize, Problem> {
    let slow = || Problem::slow(format!("the request did not arrive within {} seconds", PATIENCE.as_secs()));
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(slow());
    }
    let lost = |error: io::Error| Problem::invalid(format!("the connection is lost: {error}"));
    stream.set_read_timeout(Some(left)).map_err(lost)?;
    let mut buffer = [0; 4096];
    let room = room.min(buffer.len());
    match (&*stream).read(&mut buffer[..room]) {
        Ok(count) => {
            bytes.extend_from_slice(&buffer[..count]);
            Ok(count)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => receive(stream, bytes, room, deadline),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(slow()),
        Err(error) => Err(lost(error)),
    }
}

/// Decodes `%20` and the like in a part of a path.
fn decoded(part: &str) -> Result<String, Problem> {
    let wrong = || Problem::invalid(format!("{part:?} in the path is not the URL encoding of UTF-8"));
    let mut bytes = Vec::new();
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(wrong);
        bytes.push((digit(rest.next())? << 4 | digit(rest.next())?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Sends a reply with a JSON body.
pub fn reply(stream: &UnixStream, status: u16, body: &Value) -> io::Result<()> {
    send(stream, status, &[("Content-Type", "application/json")], format!("{body}\n").as_bytes(), true)
}

/// Sends a reply with these headers and this body. A reply to HEAD has only the length of its body.
pub fn send(
    mut stream: &UnixStream,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    has_body: bool,
) -> io::Result<()> {
    let mut reply = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        reply += &format!("{name}: {value}\r\n");
    }
    reply += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // One write, so that a short reply is one packet.
    let mut reply = reply.into_bytes();
    if has_body {
        reply.extend_from_slice(body);
    }
    stream.write_all(&reply)
}

/// Sends server-sent events.
pub struct EventStream<'a>(&'a UnixStream);

impl<'a> EventStream<'a> {
    /// Begins the reply. It ends when the connection is closed.
    pub fn start(stream: &'a UnixStream) -> io::Result<Self> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
        (&*stream).write_all(head.as_bytes())?;
        Ok(Self(stream))
    }

    /// Sends an event, with its number if it has one.
    pub fn send(&mut self, id: Option<u64>, event: &Value) -> io::Result<()> {
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        // A JSON text has no line ends.
        (&mut self.0).write_all(format!("{id}data: {event}\n\n").as_bytes())
    }

    /// Sends the end of a request that has failed.
    pub fn fail(&mut self, problem: &Problem) -> io::Result<()> {
        let mut event = problem.body();
        event["event"] = "failed".into();
        self.send(None, &event)
    }

    /// Sends nothing that means anything, to find out whether the client is there.
    pub fn keep_alive(&mut self) -> io::Result<()> {
        (&mut self.0).write_all(b":\n\n")
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
