//! The console and the screen of a machine as WebSockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::service::{Host, Reply, SOON, definition, over_tcp};
use crate::common::patience::{grown, holds_within, patience};

const KEY: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A connection to the service.
trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

/// A WebSocket that is open.
struct Client {
    stream: Box<dyn Connection>,
    head: String,
    /// All payload so far.
    seen: Vec<u8>,
}

fn read_head(stream: &mut impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    head
}

impl Client {
    /// Opens one, or returns the reply.
    fn open(host: &Host, path: &str, protocols: &str) -> Result<Self, Reply> {
        let stream = UnixStream::connect(host.socket()).unwrap();
        stream.set_read_timeout(Some(grown(SOON))).unwrap();
        Self::begin(Box::new(stream), path, &format!("Sec-WebSocket-Protocol: {protocols}\r\n"))
    }

    /// Opens one with a token, or returns the reply.
    fn open_with(port: u16, path: &str, token: &str) -> Result<Self, Reply> {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(grown(SOON))).unwrap();
        Self::begin(Box::new(stream), path, &format!("Authorization: Bearer {token}\r\n"))
    }

    fn begin(mut stream: Box<dyn Connection>, path: &str, headers: &str) -> Result<Self, Reply> {
        stream.write_all(format!("GET {path} HTTP/1.1\r\n{KEY}{headers}\r\n").as_bytes()).unwrap();
        let head = read_head(&mut stream);
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(Reply::read(head.chain(stream)).unwrap());
        }
        Ok(Self { stream, head: String::from_utf8(head).unwrap(), seen: Vec::new() })
    }

    fn send(&mut self, text: &[u8]) {
        let head = [0x82, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        self.stream.write_all(&[&head[..], text].concat()).unwrap();
    }

    /// Takes a frame, and returns its kind.
    fn take(&mut self) -> u8 {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.stream.read_exact(&mut long).unwrap();
            length = u16::from_be_bytes(long).into();
        }
        let mut content = vec![0; length];
        self.stream.read_exact(&mut content).unwrap();
        if head[0] == 0x82 {
            self.seen.extend(content);
        }
        head[0]
    }

    fn until(&mut self, text: &[u8]) {
        while !self.seen.windows(text.len()).any(|part| part == text) {
            assert_ne!(self.take(), 0x88, "{:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Becomes a viewer of the screen of `name`.
    fn view(&mut self, name: &str) {
        self.until(b"RFB 003.008\n");
        self.send(b"RFB 003.008\n");
        self.until(&[1, 1]);
        self.send(&[1, 1]);
        self.until(name.as_bytes());
    }

    /// Asks for a pixel of the screen, and waits for it. The machine has read by then what was sent before.
    fn see(&mut self) {
        let before = self.seen.len();
        self.send(&[3, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        while self.seen.len() == before {
            assert_ne!(self.take(), 0x88, "the viewer stays");
        }
    }
}

#[test]
fn clients_type_and_watch_at_the_console_of_a_machine() {
    const PATH: &str = "/machines/web/console/stream";
    let host = Host::serve();
    host.define_with("web", "exits", "echo", "");
    assert_eq!(Client::open(&host, PATH, "console.type").err().unwrap().status, 409, "it is stopped");
    host.post("/machines/web/start");
    host.until_state("web", "running");
    let mut typist = Client::open(&host, PATH, "console.type, console.watch").ok().unwrap();
    assert!(typist.head.contains("Sec-WebSocket-Protocol: console.type\r\n"), "{}", typist.head);
    typist.until(b"echoing by polling");
    typist.send(b"one\r");
    typist.until(b"one\r");
    // Another one sees what was before, and may only watch.
    assert_eq!(Client::open(&host, PATH, "console.type").err().unwrap().status, 409);
    assert_eq!(Client::open(&host, PATH, "other").err().unwrap().status, 400);
    let mut watcher = Client::open(&host, PATH, "console.type, console.watch").ok().unwrap();
    assert!(watcher.head.contains("Sec-WebSocket-Protocol: console.watch\r\n"), "{}", watcher.head);
    watcher.until(b"one\r");
    watcher.send(b"two\r");
    let mut taker = Client::open(&host, PATH, "console.take").ok().unwrap();
    taker.send(b"quit\r");
    for client in [&mut typist, &mut watcher, &mut taker] {
        client.until(b"quitting");
        while client.take() != 0x88 {}
        assert!(!client.seen.windows(3).any(|part| part == b"two"), "who watches types nothing");
    }
    typist.until(b"taken the keyboard over");
    host.until_state("web", "stopped");
}

#[test]
fn viewers_of_a_screen_need_no_address_of_a_vnc_server() {
    const PATH: &str = "/machines/web/screen/stream";
    let host = Host::serve();
    host.define("plain", "");
    host.post("/machines/plain/start");
    let none = Client::open(&host, "/machines/plain/screen/stream", "binary").err().unwrap();
    assert!(none.status == 409 && none.body.contains("--display on"), "{none:?}");
    let text = definition("screen", "driver=good", "display = \"on\"\n");
    assert_eq!(host.request("PUT", "/machines/web", &text).status, 201);
    host.post("/machines/web/start");
    host.until_state("web", "running");
    // The guest does not expect viewers before it has drawn.
    Client::open(&host, "/machines/web/console/stream", "console.watch").ok().unwrap().until(b"ready");
    assert!(host.get("/machines/web/inspect")["devices"]["vnc"].is_null(), "nobody looks");
    let mut viewers: Vec<_> = (0..2).map(|_| Client::open(&host, PATH, "binary").ok().unwrap()).collect();
    for viewer in &mut viewers {
        assert!(viewer.head.contains("Sec-WebSocket-Protocol: binary\r\n"), "{}", viewer.head);
        viewer.view("web");
    }
    pictures_are_files(&host);
    host.post("/machines/web/kill");
    for viewer in &mut viewers {
        while viewer.take() != 0x88 {}
    }
}

#[test]
fn a_viewer_who_may_only_read_sees_the_screen_and_types_nothing() {
    const PATH: &str = "/machines/web/screen/stream";
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0"]);
    let port = host.said("serving at http://127.0.0.1:").trim_end_matches('/').parse().unwrap();
    let cmdline = format!("driver=good {}", patience());
    let text = definition("screen", &cmdline, "display = \"on\"\n");
    assert_eq!(host.request("PUT", "/machines/web", &text).status, 201);
    host.post("/machines/web/start");
    host.until_state("web", "running");
    Client::open(&host, "/machines/web/console/stream", "console.watch").ok().unwrap().until(b"ready");
    let status = |device: &str| host.get("/machines/web/inspect")["devices"][device]["status"].clone();
    for device in ["keyboard", "mouse"] {
        assert!(holds_within(grown(SOON), || status(device)["state"] == "ready"), "{device}: {}", status(device));
    }
    let viewer = |role: &str| {
        let run = host.run(&["access", "add", role, "--role", role]);
        let mut viewer = Client::open_with(port, PATH, run.output.trim()).ok().unwrap();
        viewer.view("web");
        // The key a and a button of the mouse go down and up, and a text is in the clipboard.
        for down in [1, 0] {
            viewer.send(&[4, down, 0, 0, 0, 0, 0, b'a']);
            viewer.send(&[5, down, 0, 9, 0, 9]);
        }
        viewer.send(&[6, 0, 0, 0, 0, 0, 0, 1, b'b']);
        viewer.see();
        viewer
    };
    let (keys, reports) = (status("keyboard")["sent"].clone(), status("mouse")["sent"].clone());
    let _reader = viewer("read");
    for (device, before) in [("keyboard", &keys), ("mouse", &reports)] {
        let after = status(device);
        assert!(after["sent"] == *before && after["waiting"] == 0, "{device}: {after}, {before} before");
    }
    let _operator = viewer("operate");
    let more = |status: &Value, before: &Value| status["sent"].as_u64() >= before.as_u64().map(|before| before + 2);
    assert!(holds_within(grown(SOON), || more(&status("keyboard"), &keys)), "{}", status("keyboard"));
    assert!(holds_within(grown(SOON), || more(&status("mouse"), &reports)), "{}", status("mouse"));
    host.post("/machines/web/kill");
}

/// By HTTP, and by the command with `--host`.
fn pictures_are_files(host: &Host) {
    let mut stream = UnixStream::connect(host.socket()).unwrap();
    stream.write_all(b"GET /machines/web/screen/picture HTTP/1.1\r\n\r\n").unwrap();
    let head = String::from_utf8(read_head(&mut stream)).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Type: image/png\r\n"), "{head}");
    let mut picture = Vec::new();
    stream.read_to_end(&mut picture).unwrap();
    assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
    let own = format!("unix:{}", host.socket().display());
    let shot = host.command(&["--host", &own, "screenshot", "web", "-"]).output().unwrap();
    assert!(shot.status.success() && shot.stdout == picture, "{shot:?}");
    assert_eq!(host.request("GET", "/machines/plain/screen/picture", "").status, 404);
}

#[test]
fn a_browser_needs_a_ticket_and_a_page_of_the_service() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = Host::serve_with(&["--listen", &format!("tcp:127.0.0.1:{port}")]);
    let token = std::fs::read_to_string(host.state().join("token")).unwrap();
    let authorization = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(over_tcp(port, "POST /tickets HTTP/1.1\r\n\r\n").status, 401);
    let ticket = || {
        let reply = over_tcp(port, &format!("POST /tickets HTTP/1.1\r\n{authorization}\r\n"));
        reply.json()["ticket"].as_str().unwrap().to_owned()
    };
    let open = |headers: &str| {
        let request = format!("GET /machines/none/console/stream HTTP/1.1\r\nHost: here\r\n{headers}\r\n");
        let reply = over_tcp(port, &request);
        (reply.status, reply.head)
    };
    assert_eq!(open(KEY).0, 401);
    assert_eq!(open(&format!("{KEY}Sec-WebSocket-Protocol: console.type, ticket.{}\r\n", "0".repeat(32))).0, 401);
    let with = |ticket: &str| format!("{KEY}Sec-WebSocket-Protocol: console.type, ticket.{ticket}\r\n");
    let good = with(&ticket());
    assert_eq!(open(&good).0, 404, "there is no such machine");
    assert_eq!(open(&good).0, 401, "it was used");
    assert_eq!(open(&format!("{}Origin: http://here\r\n", with(&ticket()))).0, 404);
    assert_eq!(open(&format!("{}Origin: http://there\r\n", with(&ticket()))).0, 403);
    let (status, head) = open(&authorization);
    assert!(status == 426 && head.contains("Sec-WebSocket-Version: 13"), "{head}");
    // It opens nothing else.
    let other = format!("GET /machines HTTP/1.1\r\nSec-WebSocket-Protocol: ticket.{}\r\n\r\n", ticket());
    assert_eq!(over_tcp(port, &other).status, 401);
    // A client that sends something else than frames is told so.
    let request = |method: &str, path: &str, body: &str| {
        let length = body.len();
        over_tcp(port, &format!("{method} {path} HTTP/1.1\r\n{authorization}Content-Length: {length}\r\n\r\n{body}"))
    };
    assert_eq!(request("PUT", "/machines/web", &definition("exits", "halt", "")).status, 201);
    assert_eq!(request("POST", "/machines/web/start", "").json()["state"], "running");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /machines/web/console/stream HTTP/1.1\r\n{authorization}{KEY}\r\n").unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let closes = all.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1002_u16.to_be_bytes());
    assert!(closes, "{:?}", String::from_utf8_lossy(&all));
}
