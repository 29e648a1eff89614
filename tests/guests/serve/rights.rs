//! Rights that end while they are used, and callers who want too much at once.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::service::{Host, Reply, SOON, over_tcp};
use super::tls::Authority;
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within};

const WEB_SOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn serve() -> (Host, u16) {
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0"]);
    let port = host.said("serving at http://127.0.0.1:").trim_end_matches('/').parse().unwrap();
    (host, port)
}

fn add(host: &Host, name: &str, role: &str) -> String {
    let run = host.run(&["access", "add", name, "--role", role]);
    assert_eq!(run.code, Some(0), "{run:?}");
    run.output.trim().to_owned()
}

fn authorized(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Sends a request, and returns the head of the reply.
fn head(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Opens what lasts, or returns the head of the reply.
fn open(port: u16, path: &str, headers: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(grown(SOON))).unwrap();
    let head = head(&mut stream, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));
    if head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 ") { Ok(stream) } else { Err(head) }
}

/// Reads to the end, for which there is no time limit but that of the connection.
#[track_caller]
fn ends(stream: &mut impl Read) {
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("it goes on: {error}")
        }
        _ => {}
    }
}

fn ticket(port: u16, token: &str) -> String {
    let reply = over_tcp(port, &format!("POST /tickets HTTP/1.1\r\n{}\r\n", authorized(token)));
    reply.json()["ticket"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_that_is_withdrawn_ends_what_was_opened_with_it_and_nothing_else() {
    const CONSOLE: &str = "/machines/web/console/stream";
    let (host, port) = serve();
    let (ci, other) = (add(&host, "ci", "read"), add(&host, "other", "read"));
    host.define_with("web", "exits", "echo", "");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    let mut events = open(port, "/events", &authorized(&ci)).unwrap();
    let mut machine = open(port, "/machines/web/control/events", &authorized(&ci)).unwrap();
    let by = |ticket: &str| format!("{WEB_SOCKET}Sec-WebSocket-Protocol: console.watch, ticket.{ticket}\r\n");
    let mut console = open(port, CONSOLE, &by(&ticket(port, &ci))).unwrap();
    let mut kept = open(port, "/events", &authorized(&other)).unwrap();
    let unused = ticket(port, &ci);
    assert_eq!(host.run(&["access", "remove", "ci"]).code, Some(0));
    for stream in [&mut events, &mut machine, &mut console] {
        ends(stream);
    }
    let refused = open(port, CONSOLE, &by(&unused)).unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    // The stream of the other one has what happens from now on.
    host.define("late", "");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"late\"") {
        let mut piece = [0; 1024];
        let count = kept.read(&mut piece).unwrap();
        assert!(count > 0, "it has ended");
        seen.extend(&piece[..count]);
    }
    // Another token of the name is another right.
    let first = add(&host, "ci", "operate");
    let mut console = open(port, CONSOLE, &format!("{WEB_SOCKET}{}", authorized(&first))).unwrap();
    add(&host, "ci", "operate");
    ends(&mut console);
}

#[test]
fn a_token_that_expires_ends_what_was_opened_with_it() {
    let (host, port) = serve();
    let opened = (0..8).find_map(|power| {
        // On a slow host, it may have expired before it is used.
        let body = format!("{{\"role\": \"read\", \"expires-seconds\": {}}}", 2 << power);
        let token = host.request("PUT", "/access/brief", &body).json()["token"].as_str().unwrap().to_owned();
        open(port, "/events", &authorized(&token)).ok()
    });
    ends(&mut opened.expect("it is used in time"));
}

#[test]
fn a_certificate_with_a_lesser_role_ends_what_needed_the_other_one() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    ["server", "alice"].iter().for_each(|name| authority.sign(name, 30));
    let (host, port) = authority.serve("server", &format!(",client-ca={}", authority.path("ca.pem").display()));
    let certificate = authority.path("alice.pem");
    let give = |role: &str| {
        let run = host.run(&["access", "add", "alice", "--role", role, "--certificate", certificate.to_str().unwrap()]);
        assert_eq!(run.code, Some(0), "{run:?}");
    };
    give("operate");
    let mut stream = super::tls::connect(&authority.client(Some("alice")), port);
    let head = head(&mut stream, "GET /events HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    give("read");
    ends(&mut stream);
}

#[test]
fn a_caller_with_many_streams_is_refused_and_others_are_not() {
    let (host, port) = serve();
    let (greedy, other) = (add(&host, "greedy", "read"), add(&host, "other", "read"));
    let mut streams = Vec::new();
    let refused = loop {
        match open(port, "/events", &authorized(&greedy)) {
            Ok(stream) => streams.push(stream),
            Err(head) => break head,
        }
    };
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("Retry-After: 1\r\n"), "{refused}");
    assert!((8..64).contains(&streams.len()), "{}", streams.len());
    let get =
        |token: &str| -> Reply { over_tcp(port, &format!("GET /machines HTTP/1.1\r\n{}\r\n", authorized(token))) };
    assert_eq!((get(&greedy).status, get(&other).status), (200, 200));
    let kept = open(port, "/events", &authorized(&other)).unwrap();
    // When the streams are closed, there is room again.
    drop(streams);
    host.define("web", "");
    let has_room = || {
        // The service notices at the next events.
        host.define_again("web", "");
        open(port, "/events", &authorized(&greedy)).is_ok()
    };
    assert!(holds_within(grown(SOON), has_room));
    drop(kept);
}
