//! Sockets of a guest by its control socket, and commands that use them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::control::Host;
use crate::common::patience::{grown, patience};

/// The ports on which the image `sockets` and the host listen.
const GUEST_PORT: u32 = 1024;
const ECHO_PORT: u32 = 2048;

/// Returns the options of a machine with the image `sockets`, whose guest first wants an echo of the host at this path.
pub fn options(path: &Path) -> [String; 4] {
    let cmdline = format!("driver=good {}", patience());
    ["--vsock".into(), path.to_str().unwrap().into(), "--cmdline".into(), cmdline]
}

/// Sends the guest's first connection back to it.
pub fn echo(path: &Path) -> thread::JoinHandle<()> {
    let server = UnixListener::bind(format!("{}_{ECHO_PORT}", path.display())).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut copy = stream.try_clone().unwrap();
        // The guest waits for its last byte.
        let _ = std::io::copy(&mut stream, &mut copy);
        let _ = copy.shutdown(Shutdown::Write);
    })
}

/// Sends a request. Returns the connection after the head of the reply, and its status.
pub fn request(mut stream: UnixStream, line: &str) -> (UnixStream, String) {
    stream.set_read_timeout(Some(grown(Duration::from_secs(60)))).unwrap();
    stream.write_all(format!("{line}\r\n\r\n").as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let status = String::from_utf8_lossy(&head[9..12]).into_owned();
    (stream, status)
}

/// Sends bytes to the guest, closes this direction, and expects the same bytes back.
pub fn expect_echo(mut stream: UnixStream) {
    let sent: Vec<u8> = (0..300_000_u32).map(|place| (place % 253) as u8).collect();
    let writer = {
        let (mut stream, sent) = (stream.try_clone().unwrap(), sent.clone());
        thread::spawn(move || {
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    stream.set_read_timeout(Some(grown(Duration::from_secs(60)))).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
}

#[test]
fn the_control_socket_connects_to_listeners_in_the_guest() {
    let mut host = Host::new();
    let path = host.directory.path().join("vsock");
    let server = echo(&path);
    let options = options(&path);
    let options: Vec<_> = ["--name", "web"].into_iter().chain(options.iter().map(String::as_str)).collect();
    host.start("sockets", &options);
    host.until("web", |tree| tree["state"] == "running");
    assert_eq!(host.run(&["wait", "web", "--for", "text=listening"]).code, Some(0));
    server.join().unwrap();
    // Commands need neither the path nor its socket.
    std::fs::remove_file(&path).unwrap();
    let control = host.socket("web");
    let open = |line: &str| request(UnixStream::connect(&control).unwrap(), line);
    for (line, expected) in [
        ("POST /sockets/9 HTTP/1.1", "502"),
        ("POST /sockets/port HTTP/1.1", "400"),
        ("POST /sockets/4294967295 HTTP/1.1", "400"),
        ("GET /sockets/1024 HTTP/1.1", "405"),
    ] {
        let (mut stream, status) = open(line);
        let mut body = String::new();
        stream.read_to_string(&mut body).unwrap();
        assert_eq!(status, expected, "{line}: {body}");
        assert!(body.starts_with("{\"error\":"), "nothing but the problem: {body}");
    }
    let (stream, status) = open(&format!("POST /sockets/{GUEST_PORT} HTTP/1.1"));
    assert_eq!(status, "200");
    expect_echo(stream);
    let run = host.run(&["exec", "web", "--", "true"]);
    assert!(run.code == Some(125) && run.errors.contains("no agent answers on port 22089"), "{run:?}");
    let run = host.run(&["copy", "web:/etc/hostname", "."]);
    assert!(run.code == Some(1) && run.errors.contains("start viridian-agent in it"), "{run:?}");
    // What comes back is no agent's answer. A control socket's path is as good as the name.
    for name in ["web", control.to_str().unwrap()] {
        let run = host.run(&["exec", name, "--port", "1024", "--", "true"]);
        assert!(run.code == Some(125) && !run.errors.contains("no agent answers"), "{run:?}");
    }
    assert_eq!(host.end(0).0, Some(0), "the guest has served three connections");
}
