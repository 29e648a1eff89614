//! Sockets with the guest image `sockets`: a driver in C that follows the protocol, and others that violate it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use viridian::Builder;
use viridian::machine::{End, Event, Machine};
use viridian::vsp::sockets::{Answerer, Listener, Replies};

use super::command::image;
use super::control_sockets::expect_echo;
use crate::common::patience::{grown, holds_within, patience, receive_within};

/// The ports on which the image and the host listen.
const GUEST_PORT: u32 = 1024;
const ECHO_PORT: u32 = 2048;

fn builder(cmdline: &str) -> Builder {
    let builder = Builder::new().kernel(image("sockets")).cmdline(format!("{cmdline} {}", patience()));
    builder.capture_console().timeout(grown(Duration::from_secs(180)))
}

/// Sends everything back to a client until the client closes its direction.
fn echo(mut stream: UnixStream) {
    let mut buffer = [0; 10_000];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) if stream.write_all(&buffer[..count]).is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Serves all connections, each on a thread of its own, until the machine ends. Returns their number.
fn serve(listener: Listener) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut clients = Vec::new();
        while let Ok(stream) = listener.accept() {
            clients.push(thread::spawn(move || echo(stream)));
        }
        clients.into_iter().map(|client| client.join().unwrap()).count()
    })
}

fn sockets(machine: &Machine) -> serde_json::Value {
    machine.inspect()["devices"]["sockets"].clone()
}

fn assert_powers_off(machine: Machine) {
    let output = machine.console().unwrap().take();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}\n{}", String::from_utf8_lossy(&output));
}

#[test]
fn host_and_guest_connect_to_each_other() {
    let prepared = builder("driver=good").prepare().unwrap();
    let early = prepared.sockets().connect(GUEST_PORT).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::NotConnected, "{early}");
    let listener = prepared.sockets().listen(ECHO_PORT).unwrap();
    assert_eq!(prepared.sockets().listen(ECHO_PORT).unwrap_err().kind(), ErrorKind::AddrInUse);
    let timed_out = listener.accept_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
    let server = serve(listener);
    let machine = prepared.start().unwrap();
    machine.console().unwrap().wait_for("listening", grown(Duration::from_secs(60))).unwrap();
    let refused = machine.sockets().connect(9).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
    for _ in 0..2 {
        expect_echo(machine.sockets().connect(GUEST_PORT).unwrap());
    }
    let seen = sockets(&machine);
    assert_eq!((&seen["opened"], &seen["refused"]), (&3.into(), &3.into()), "{seen}");
    // The guest waits for a third connection. This one is closed at once.
    drop(machine.sockets().connect(GUEST_PORT).unwrap());
    let is_left = || sockets(&machine)["connections"] != serde_json::json!([]);
    assert!(holds_within(grown(Duration::from_secs(60)), || !is_left()), "all connections are closed");
    assert_powers_off(machine);
    assert_eq!(server.join().unwrap(), 1);
}

/// Does not answer until the other end of a channel is dropped, as with a file system that hangs.
struct Stalled {
    called: Sender<()>,
    goes_on: Receiver<()>,
}

impl Answerer for Stalled {
    fn answer(&mut self, sent: &[u8], _replies: &mut Replies) -> io::Result<usize> {
        let _ = self.called.send(());
        let _ = self.goes_on.recv();
        Ok(sent.len())
    }
}

#[test]
fn neither_a_pause_nor_the_end_of_the_machine_waits_for_an_answer() {
    let limit = Duration::from_secs(60);
    let ((called, is_called), (go_on, goes_on)) = (channel(), channel());
    let prepared = builder("driver=good").prepare().unwrap();
    prepared.sockets().answer(ECHO_PORT, Box::new(Stalled { called, goes_on })).unwrap();
    let machine = prepared.start().unwrap();
    receive_within(&is_called, limit).unwrap();
    machine.pause().unwrap();
    assert_eq!(sockets(&machine)["connections"].as_array().map(Vec::len), Some(1));
    machine.resume();
    machine.stop(End::Terminated);
    let ended = machine.wait_timeout(grown(limit));
    assert!(matches!(ended, Ok(End::Terminated)), "{ended:?}");
    // The thread is left, and ends when it can.
    assert_eq!(receive_within(&is_called, Duration::ZERO), Err(RecvTimeoutError::Timeout));
    drop(go_on);
    assert_eq!(receive_within(&is_called, limit), Err(RecvTimeoutError::Disconnected));
}

/// Connects a client to the Unix socket, sends a line, and returns the reply.
fn dial(path: &Path, line: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(grown(Duration::from_secs(60)))).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.last() != Some(&b'\n') && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        answer.push(byte[0]);
    }
    (stream, String::from_utf8(answer).unwrap())
}

#[test]
fn other_programs_connect_by_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    drop(UnixListener::bind(&path).unwrap());
    let server = UnixListener::bind(folder.path().join(format!("vsock_{ECHO_PORT}"))).unwrap();
    let server = thread::spawn(move || server.accept().map(|(stream, _)| echo(stream)).unwrap());
    let dead = folder.path().join("vsock_2049");
    drop(UnixListener::bind(&dead).unwrap());
    let machine = builder("driver=good").vsock(&path).start().unwrap();
    machine.console().unwrap().wait_for("listening", grown(Duration::from_secs(60))).unwrap();
    server.join().unwrap();
    let (_, answer) = dial(&path, "CONNECT 9\n");
    assert_eq!(answer, "ERROR the guest has not accepted a connection to 9\n");
    for line in ["GET / HTTP/1.1\r\n", "CONNECT here\n", "\n"] {
        assert!(dial(&path, line).1.starts_with("ERROR "), "{line}");
    }
    assert!(dial(&path, &"CONNECT ".repeat(100)).1.starts_with("ERROR the first line is longer"));
    let guid = "00000400-facb-11e6-bd58-64006a7986d3";
    for line in ["CONNECT 1024\n", &format!("connect {guid}\n")] {
        let (stream, answer) = dial(&path, line);
        assert_eq!(answer, "OK 1024\n");
        expect_echo(stream);
    }
    // Bytes that immediately follow the line are data.
    let (mut stream, answer) = dial(&path, "CONNECT 1024\nlast words");
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!((&*answer, &*rest), ("OK 1024\n", "last words"));
    assert_powers_off(machine);
    assert!(!path.exists() && dead.exists(), "only the machine's own socket is removed");
}

#[test]
fn existing_files_and_sockets_in_use_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    std::fs::write(&path, "precious").unwrap();
    let error = builder("").vsock(&path).start().unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains("something is there already that is not a socket: name another path"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let path = folder.path().join("used");
    let _listener = UnixListener::bind(&path).unwrap();
    let text = builder("").vsock(&path).start().unwrap_err().to_string();
    assert!(text.contains("another process listens there"), "{text}");
    UnixStream::connect(&path).unwrap();
}

#[test]
fn guests_that_violate_the_protocol_affect_only_their_own_connections() {
    let prepared = builder("checks=quiet").prepare().unwrap();
    let server = serve(prepared.sockets().listen(ECHO_PORT).unwrap());
    let machine = prepared.start().unwrap();
    let failures = machine.events().filter(|event| matches!(event, Event::Failed(_))).count();
    assert!(server.join().unwrap() > 0);
    let left = sockets(&machine)["connections"].clone();
    let output = machine.console().unwrap().take();
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "{end}\n{}", String::from_utf8_lossy(&output));
    assert_eq!(left, serde_json::json!([]), "all connections are closed");
    // Six invalid headers, three invalid packets, and a damaged ring. Data after the end may arrive after the connection ended.
    assert!((10..=11).contains(&failures), "{failures} channels are reported as failed");
}
