//! A Unix socket that listens at a path, and its file.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens. Its file is removed when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct ListeningSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

/// The reason why there is no socket at a path.
#[derive(Debug)]
pub enum BindError {
    /// Another process listens there.
    InUse,
    /// The host refuses it: its error, and a remedy.
    Refused(io::Error, &'static str),
}

impl ListeningSocket {
    /// Listens at `path`. Replaces a stale socket file of a killed process, but not one with a listener, and no other file.
    ///
    /// # Errors
    /// Returns a [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_socket(path) => {
                // If two machines find the same stale file at the same time, one can still remove the other's.
                if !is_stale(path) {
                    return Err(BindError::InUse);
                }
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))?
            }
            other => other?,
        };
        listener.set_nonblocking(true)?;
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.into(), file: (metadata.dev(), metadata.ino()) })
    }

    /// Accepts a client, if one waits.
    ///
    /// # Errors
    /// Returns the error of the host, [`ErrorKind::WouldBlock`] if none waits.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "something is there already that is not a socket: name another path",
            ErrorKind::NotFound | ErrorKind::NotADirectory => "create the directory that the socket is to be in first",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "name a path where you may write",
            ErrorKind::InvalidInput => "name a shorter path: a socket's has at most 107 bytes",
            _ => "name another path",
        };
        Self::Refused(error, advice)
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn is_stale(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let present = std::fs::symlink_metadata(&self.path);
        if present.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
