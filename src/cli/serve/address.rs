//! `--listen`: where the service is reached.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_keepintvl, socket_peercred};

use super::inherited::Inherited;
use super::secure::Acceptor;
use super::unix_socket::{Access, ListeningSocket};

/// Time without a message after which the other end of a TCP connection is asked whether it is there, and between such questions.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl Address {
    /// Returns `true` if other hosts can connect.
    pub fn is_for_others(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

/// Returns `true` if a path leads to the place of another one, which has no links. There may be nothing there yet.
fn is_same(path: &Path, other: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_default();
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    path.file_name() == other.file_name() && folder.as_deref() == other.parent()
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = "write unix:PATH or tcp:ADDRESS:PORT, such as tcp:127.0.0.1:8080";
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => {
                let wrong = |_| format!("`{address}` is not an IP address with a port; {remedy}");
                address.parse().map(Self::Tcp).map_err(wrong)
            }
            _ => Err(format!("`{text}` is no address; {remedy}")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this user or of root, at a Unix socket: the user.
    User(u32),
    /// A process of another user, at a Unix socket of the service manager whose mode allows it.
    Other(u32),
    /// An address, at a TCP port.
    Address(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(_) => f.write_str("unix"),
            Self::Other(user) => write!(f, "unix, user {user}"),
            Self::Address(address) => write!(f, "{}", address.to_canonical()),
        }
    }
}

/// A socket that listens. The file of a Unix socket is removed when this is dropped.
pub enum Listener {
    /// A Unix socket.
    Unix(ListeningSocket),
    /// A Unix socket that the service manager has opened.
    Passed(UnixListener),
    /// A TCP port, perhaps with TLS.
    Tcp(TcpListener, Option<Arc<Acceptor>>),
}

impl Listener {
    /// Listens at an address. The file of a Unix socket that a killed service has left is replaced.
    ///
    /// # Errors
    /// Returns an error with the address and a remedy.
    pub fn open(address: &Address, tls: Option<&Arc<Acceptor>>) -> io::Result<Self> {
        match address {
            Address::Tcp(socket) => {
                let at = |error: io::Error| io::Error::new(error.kind(), format!("--listen {address}: {error}"));
                let listener = TcpListener::bind(socket).map_err(at)?;
                listener.set_nonblocking(true).map_err(at)?;
                Ok(Self::Tcp(listener, tls.cloned()))
            }
            Address::Unix(path) => {
                let listener = ListeningSocket::bind_for(Access::User, path).map_err(|error| {
                    let error = error.at(path);
                    io::Error::new(error.kind(), format!("--listen unix:{error}"))
                })?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// Listens at a socket that the service manager has opened.
    ///
    /// # Errors
    /// Returns an error if other hosts reach it, and there is no TLS.
    pub fn inherit(socket: Inherited, tls: Option<&Arc<Acceptor>>) -> io::Result<Self> {
        match socket {
            Inherited::Unix(listener) => Ok(Self::Passed(listener)),
            Inherited::Tcp(listener) => {
                let address = Address::Tcp(listener.local_addr()?);
                if address.is_for_others() && tls.is_none() {
                    let text = format!(
                        "ListenStream= of the socket unit: other hosts reach {address}, so the service needs --tls"
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                Ok(Self::Tcp(listener, tls.cloned()))
            }
        }
    }

    /// Returns `true` if this is the Unix socket at a path without links.
    pub fn is_at(&self, path: &Path) -> bool {
        match self {
            Self::Unix(listener) => is_same(listener.path(), path),
            Self::Passed(listener) => {
                listener.local_addr().is_ok_and(|own| own.as_pathname().is_some_and(|own| is_same(own, path)))
            }
            Self::Tcp(..) => false,
        }
    }

    /// Returns the address as clients write it, with the port that the host has chosen.
    pub fn url(&self) -> io::Result<String> {
        match self {
            Self::Unix(listener) => Ok(format!("unix:{}", listener.path().display())),
            Self::Passed(listener) => {
                let address = listener.local_addr()?;
                let name = address.as_abstract_name().map(|name| format!("@{}", String::from_utf8_lossy(name)));
                let path = || address.as_pathname().map(|path| path.display().to_string());
                Ok(format!("unix:{}", name.or_else(path).unwrap_or_default()))
            }
            Self::Tcp(listener, tls) => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                Ok(format!("{scheme}://{}/", listener.local_addr()?))
            }
        }
    }

    /// Returns the address of the page in a browser of this host or of another one, or `None` for a Unix socket.
    pub fn page(&self) -> io::Result<Option<String>> {
        let Self::Tcp(listener, tls) = self else { return Ok(None) };
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        // All addresses of this host have its name.
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host =
            if address.ip().is_unspecified() { format!("{name}:{}", address.port()) } else { address.to_string() };
        Ok(Some(format!("{scheme}://{host}/")))
    }

    /// Returns the server's side of TLS, if clients must speak it.
    pub fn tls(&self) -> Option<&Arc<Acceptor>> {
        match self {
            Self::Unix(_) | Self::Passed(_) => None,
            Self::Tcp(_, tls) => tls.as_ref(),
        }
    }

    /// Returns `true` if users of this host other than ours can connect.
    pub fn needs_token(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Passed(listener) => is_open_to_others(listener),
            Self::Tcp(..) => true,
        }
    }

    /// Accepts a connection, if one waits.
    ///
    /// # Errors
    /// Returns the error of the host, [`ErrorKind::WouldBlock`] if none waits.
    pub fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        match self {
            Self::Unix(listener) => {
                let stream = listener.accept()?;
                let user = socket_peercred(&stream)?.uid.as_raw();
                Ok((stream, Peer::User(user)))
            }
            Self::Passed(listener) => {
                let (stream, _) = listener.accept()?;
                let user = socket_peercred(&stream)?.uid.as_raw();
                let is_own = user == 0 || user == rustix::process::geteuid().as_raw();
                Ok((stream, if is_own { Peer::User(user) } else { Peer::Other(user) }))
            }
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept()?;
                let _ = stream.set_nodelay(true);
                let _ = keep_alive(&stream);
                // What is done with a connection is the same for all stream sockets: read, write, time limits, the end.
                Ok((UnixStream::from(OwnedFd::from(stream)), Peer::Address(peer.ip())))
            }
        }
    }
}

/// Returns `true` if other users of this host may connect to a socket. One without a file is open to all.
fn is_open_to_others(listener: &UnixListener) -> bool {
    let address = listener.local_addr();
    let path = address.as_ref().ok().and_then(|address| address.as_pathname());
    let mode = path.and_then(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.permissions().mode());
    mode.is_none_or(|mode| mode & 0o077 != 0)
}

/// Has a connection end whose other end is gone without a word.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, KEEP_ALIVE)?;
    set_tcp_keepintvl(stream, KEEP_ALIVE)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Passed(listener) => listener.as_fd(),
            Self::Tcp(listener, _) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn addresses_are_unix_sockets_and_ports() {
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        for (text, is_for_others) in [
            ("unix:/run/a", false),
            ("tcp:127.0.0.1:80", false),
            ("tcp:[::1]:80", false),
            ("tcp:0.0.0.0:80", true),
            ("tcp:192.168.1.2:80", true),
            ("tcp:[::]:80", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_for_others()), (text, is_for_others));
        }
        for (wrong, words) in [
            ("tcp:localhost:80", "not an IP address"),
            ("tcp:127.0.0.1", "not an IP address"),
            ("unix:", "is no address"),
            ("/run/a", "is no address"),
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_socket_is_the_same_by_whichever_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("a");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        let listener = Listener::open(&Address::Unix(link.join("a")), None).unwrap();
        assert!(
            listener.is_at(&path) && !listener.is_at(&path.with_file_name("b")) && !listener.is_at(Path::new("/a"))
        );
        let passed = Listener::Passed(UnixListener::bind(link.join("b")).unwrap());
        assert!(passed.is_at(&path.with_file_name("b")) && !passed.is_at(&path));
        let port = Listener::open(&"tcp:127.0.0.1:0".parse().unwrap(), None).unwrap();
        assert!(!port.is_at(&path) && !is_same(Path::new(""), &path));
    }

    #[test]
    fn a_passed_socket_says_where_it_is_and_whether_others_need_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let bound = UnixListener::bind(&path).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let listener = Listener::inherit(Inherited::Unix(bound), None).unwrap();
        assert_eq!(listener.url().unwrap(), format!("unix:{}", path.display()));
        mode(0o600);
        assert!(!listener.needs_token());
        mode(0o660);
        assert!(listener.needs_token());
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(listener.accept().unwrap().1, Peer::User(rustix::process::geteuid().as_raw()));
        drop(listener);
        assert!(path.exists(), "it is the service manager's");
        let port = || Inherited::Tcp(TcpListener::bind("0.0.0.0:0").unwrap());
        assert!(Listener::inherit(port(), None).err().unwrap().to_string().contains("needs --tls"));
    }

    #[test]
    fn a_unix_socket_is_for_its_user_alone_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let address = Address::Unix(path.clone());
        let listener = Listener::open(&address, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Listener::open(&address, None).err().unwrap().kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(Listener::open(&address, None).is_ok());
        std::fs::write(&path, "a file").unwrap();
        assert!(Listener::open(&address, None).is_err());
        assert!(path.exists(), "it is not ours");
    }
}
