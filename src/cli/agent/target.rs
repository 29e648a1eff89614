//! The guest that `exec` and `copy` name.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::cli::client::{Failure, Remote};

/// The time that a guest has to accept. A guest without a listener says nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum length of the answer to `CONNECT`.
const MAX_ANSWER: usize = 128;

/// The reason why there is no connection to an agent.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{0}: {1}; give the path of a machine's --vsock socket, or the name of a machine that has one")]
    Socket(String, io::Error),
    #[error("{0}")]
    Name(#[from] Failure),
    #[error("the machine {0} has no socket for its guest; start it with --vsock PATH, where PATH is absolute")]
    NoSocket(String),
    #[error(
        "{0}: no agent answers on port {1} of the guest; start viridian-agent in it (viridian agent prints the program)"
    )]
    NoAgent(String, u32),
}

/// Returns the path of the `--vsock` socket of the running machine with this name.
fn socket_of(name: &str) -> Result<PathBuf, TargetError> {
    let tree = Remote::named(name)?.get("/inspect")?;
    // The path is as its process was given it, which may have another working directory.
    let path = sockets_path(&tree).map(PathBuf::from).filter(|path| path.is_absolute());
    path.ok_or_else(|| TargetError::NoSocket(name.to_owned()))
}

/// Finds the path that the device of the sockets shows, wherever it is in the tree of a machine.
fn sockets_path(tree: &Value) -> Option<&str> {
    let own = tree.get("sockets").and_then(|sockets| sockets.get("path")).and_then(Value::as_str);
    own.or_else(|| match tree {
        Value::Object(map) => map.values().find_map(sockets_path),
        Value::Array(list) => list.iter().find_map(sockets_path),
        _ => None,
    })
}

/// Connects to the agent in the guest of a machine: of that with this name, of that whose `--vsock` socket is at a path
/// (which has a slash), or to an agent that listens on a Unix socket itself (`unix:PATH`).
///
/// # Errors
/// See [`TargetError`].
pub fn connect(target: &OsStr, port: u32) -> Result<UnixStream, TargetError> {
    let shown = target.to_string_lossy().into_owned();
    let failed = |error| TargetError::Socket(shown.clone(), error);
    if let Some(path) = target.to_str().and_then(|text| text.strip_prefix("unix:")) {
        return UnixStream::connect(path).map_err(failed);
    }
    let path = if shown.contains('/') { PathBuf::from(target) } else { socket_of(&shown)? };
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

    use serde_json::json;

    use super::*;

    #[test]
    fn the_path_of_the_sockets_is_found_in_a_tree() {
        let tree = json!({ "name": "x", "devices": [{ "key": "console" }, { "sockets": { "path": "/run/x" } }] });
        assert_eq!(sockets_path(&tree), Some("/run/x"));
        assert_eq!(sockets_path(&json!({ "sockets": { "path": null } })), None);
    }

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
}
