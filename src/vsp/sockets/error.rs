//! The reasons why a machine has no sockets.

use std::io;
use std::path::PathBuf;

use crate::device::AddError;

/// The reason why a machine has no sockets.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The host lacks something.
    #[error(
        "cannot make the machine's sockets: {0}; raise the limits on open files and processes (ulimit -n, ulimit -u)"
    )]
    Host(#[from] io::Error),
    /// Another process listens on the socket.
    #[error("--vsock {}: another process listens there; name another path, or end that process", .0.display())]
    InUse(PathBuf),
    /// The socket cannot be made.
    #[error("--vsock {}: {source}; {advice}", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// The error of the host.
        source: io::Error,
        /// A remedy.
        advice: &'static str,
    },
    /// Another device has the name.
    #[error(transparent)]
    Name(#[from] AddError),
}
