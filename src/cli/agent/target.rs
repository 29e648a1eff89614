//! The guest that `exec` and `copy` name.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::PORT;
use crate::cli::client::{Failure, Remote};
use crate::cli::host::chosen;

/// The time that a guest has to accept. A guest without a listener says nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum length of the answer to `CONNECT`.
const MAX_ANSWER: usize = 128;

/// The reason why there is no connection to an agent.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{0}: {1}; give the name of a running machine, or the path of its --vsock socket")]
    Socket(String, io::Error),
    #[error("{0}")]
    Name(#[from] Failure),
    #[error(
        "{0}: no agent answers on port {1} of the guest; start viridian-agent in it (viridian agent prints the program)"
    )]
    NoAgent(String, u32),
}

/// Connects to the agent in the guest of a machine: of that with this name, of that whose `--vsock` or control socket is at a path (which
/// has a slash), or to an agent that listens on a Unix socket itself (`unix:PATH`).
///
/// # Errors
/// See [`TargetError`].
pub fn connect(target: &OsStr, port: u32) -> Result<UnixStream, TargetError> {
    let shown = target.to_string_lossy().into_owned();
    if chosen().is_none() {
        if let Some(path) = target.to_str().and_then(|text| text.strip_prefix("unix:")) {
            return UnixStream::connect(path).map_err(|error| TargetError::Socket(shown, error));
        }
        if shown.contains('/') {
            return by_path(Path::new(target), shown, port);
        }
    }
    by_machine(&Remote::named(&shown)?, shown, port)
}

/// Connects to the agent in the guest of a machine, by its control socket or by its service.
///
/// # Errors
/// See [`TargetError`].
pub fn of_machine(machine: &Remote) -> Result<UnixStream, TargetError> {
    by_machine(machine, machine.name.clone(), PORT)
}

/// Connects by the control socket of a machine, or by its service. Errors name it as it is shown.
fn by_machine(machine: &Remote, shown: String, port: u32) -> Result<UnixStream, TargetError> {
    machine.socket(port, PATIENCE).map_err(|failure| match failure {
        Failure::Refused { kind, .. } if kind == "guest" => TargetError::NoAgent(shown, port),
        other => TargetError::Name(other),
    })
}

/// Connects by the socket of `--vsock`, or by a control socket, which answers by HTTP.
fn by_path(path: &Path, shown: String, port: u32) -> Result<UnixStream, TargetError> {
    let failed = |error| TargetError::Socket(shown.clone(), error);
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).map_err(failed)?;
    // A byte at a time: what follows the line is the agent's.
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        match stream.read(&mut byte) {
            Ok(1) if answer.len() < MAX_ANSWER => answer.push(byte[0]),
            _ => return Err(TargetError::NoAgent(shown, port)),
        }
    }
    if answer.starts_with(b"HTTP/") {
        return by_machine(&Remote::at(&shown, path.to_owned()), shown, port);
    }
    if !answer.starts_with(b"OK ") {
        return Err(TargetError::NoAgent(shown, port));
    }
    stream.set_read_timeout(None).map_err(failed)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Connects to a peer that answers like this.
    fn answered(answer: &'static [u8]) -> (Result<UnixStream, TargetError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let _ = stream.write_all(answer);
            line
        });
        (connect(path.as_os_str(), 5), peer.join().unwrap())
    }

    #[test]
    fn bytes_after_the_reply_come_from_the_agent() {
        let (stream, asked) = answered(b"OK 5\nVIRA");
        let mut rest = String::new();
        stream.unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!((asked.as_str(), rest.as_str()), ("CONNECT 5\n", "VIRA"));
    }

    #[test]
    fn a_guest_without_an_agent_is_detected() {
        for answer in [&b""[..], b"NO\n", &[b'O'; 1000]] {
            assert!(matches!(answered(answer).0, Err(TargetError::NoAgent(_, 5))), "{answer:?}");
        }
    }

    #[test]
    fn a_control_socket_is_one_of_the_paths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nVIRA"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                asked.push(line);
            }
            asked
        });
        let mut rest = String::new();
        connect(path.as_os_str(), 5).unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "VIRA");
        assert_eq!(peer.join().unwrap(), ["CONNECT 5\n", "POST /sockets/5 HTTP/1.1\r\n"]);
    }
}
