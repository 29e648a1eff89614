//! A Unix socket that listens at a path, and its file.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The processes that can connect to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Users that the umask of this process allows.
    Umask,
    /// Only the same user, and root.
    User,
}

/// A socket that listens. Its file is removed when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct ListeningSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

/// The reason why there is no socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("another process listens there; name another path, or end that process")]
    InUse,
    /// The host refuses it: its error, and a remedy.
    #[error("{0}; {1}")]
    Refused(io::Error, &'static str),
}

impl BindError {
    /// Returns `true` if something is at the path already.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::InUse => true,
            Self::Refused(error, _) => error.kind() == ErrorKind::AddrInUse,
        }
    }

    /// Returns the error as one of the host that names the path.
    pub fn at(self, path: &Path) -> io::Error {
        let kind = match &self {
            Self::InUse => ErrorKind::AddrInUse,
            Self::Refused(error, _) => error.kind(),
        };
        io::Error::new(kind, format!("{}: {self}", path.display()))
    }
}

impl ListeningSocket {
    /// Listens at `path`, for those whom the umask allows. Replaces a stale socket file of a killed process, but not one with a
    /// listener, and no other file.
    ///
    /// # Errors
    /// Returns a [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::bind_for(Access::Umask, path)
    }

    /// Listens at `path`, as [`bind`](Self::bind) does, for those of `access`.
    ///
    /// # Errors
    /// Returns a [`BindError`].
    pub fn bind_for(access: Access, path: &Path) -> Result<Self, BindError> {
        let listener = match listen_at(path, access) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_socket(path) => {
                // If two machines find the same stale file at the same time, one can still remove the other's.
                if !is_stale(path) {
                    return Err(BindError::InUse);
                }
                std::fs::remove_file(path).and_then(|()| listen_at(path, access))?
            }
            other => other?,
        };
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
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
                "name a shorter path: a socket's has at most 107 bytes"
            }
            _ if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                "its symbolic links lead in a circle, or there are more than 40: name the path itself"
            }
            _ => "name another path",
        };
        Self::Refused(error, advice)
    }
}

fn listen_at(path: &Path, access: Access) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    if access == Access::User {
        // The file gets the mode of the socket when it is bound, so there is no moment at which others can connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    }
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Returns `true` if nobody listens at a socket. Does not wait for a process whose queue is full.
fn is_stale(path: &Path) -> bool {
    let connected = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    connected() == Err(Errno::CONNREFUSED)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = ListeningSocket::bind_for(Access::User, &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let error = ListeningSocket::bind(&path).unwrap_err();
        assert!(matches!(error, BindError::InUse) && error.is_taken(), "somebody listens");
        drop(socket);
        assert!(!path.exists());
        // As a killed process leaves it.
        drop(UnixListener::bind(&path).unwrap());
        let socket = ListeningSocket::bind(&path).unwrap();
        assert_eq!(socket.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&path).unwrap();
        socket.accept().unwrap();
        // Another file in its place stays there.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        drop(socket);
        let error = ListeningSocket::bind(&path).unwrap_err();
        assert!(error.is_taken() && error.to_string().contains("is not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    }

    #[test]
    fn an_error_names_the_path_and_a_remedy() {
        let at = |path: &Path| ListeningSocket::bind(path).unwrap_err().at(path).to_string();
        assert!(at(&Path::new("/tmp").join("x".repeat(200))).contains("at most 107 bytes"));
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        assert!(at(&folder.path().join("loop/a.sock")).contains("lead in a circle"));
        let missing = at(Path::new("/nonexistent/a.sock"));
        assert!(missing.starts_with("/nonexistent/a.sock: ") && missing.contains("create"), "{missing}");
    }
}
