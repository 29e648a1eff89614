//! `--listen`: where the service is reached.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use super::unix_socket::{Access, ListeningSocket};

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port of this host.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = "write unix:PATH or tcp:127.0.0.1:PORT";
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => {
                let address: SocketAddr =
                    address.parse().map_err(|_| format!("`{address}` is not an IP address with a port; {remedy}"))?;
                if !address.ip().is_loopback() {
                    return Err(format!(
                        "{} is reached by other hosts, and there is no TLS yet; {remedy}, and forward it by ssh -L",
                        address.ip()
                    ));
                }
                Ok(Self::Tcp(address))
            }
            _ => Err(format!("`{text}` is no address; {remedy}")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}/"),
        }
    }
}

/// A socket that listens. The file of a Unix socket is removed when this is dropped.
pub enum Listener {
    /// A Unix socket.
    Unix(ListeningSocket),
    /// A TCP port.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at an address. The file of a Unix socket that a killed service has left is replaced.
    ///
    /// # Errors
    /// Returns an error with the address and a remedy.
    pub fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(socket) => {
                let at = |error: io::Error| io::Error::new(error.kind(), format!("--listen {address}: {error}"));
                let listener = TcpListener::bind(socket).map_err(at)?;
                listener.set_nonblocking(true).map_err(at)?;
                Ok(Self::Tcp(listener))
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

    /// Returns the address, with the port that the host has chosen.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Unix(listener) => Ok(Address::Unix(listener.path().to_owned())),
            Self::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?)),
        }
    }

    /// Returns `true` if users of this host other than ours can connect.
    pub fn needs_token(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Accepts a connection, if one waits.
    ///
    /// # Errors
    /// Returns the error of the host, [`ErrorKind::WouldBlock`] if none waits.
    pub fn accept(&self) -> io::Result<UnixStream> {
        match self {
            Self::Unix(listener) => listener.accept(),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                let _ = stream.set_nodelay(true);
                // What is done with a connection is the same for all stream sockets: read, write, time limits, the end.
                Ok(UnixStream::from(OwnedFd::from(stream)))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn addresses_are_unix_sockets_and_ports_of_this_host() {
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        assert_eq!("tcp:127.0.0.1:80".parse::<Address>().unwrap().to_string(), "http://127.0.0.1:80/");
        assert_eq!("tcp:[::1]:80".parse::<Address>().unwrap().to_string(), "http://[::1]:80/");
        for (wrong, words) in [
            ("tcp:0.0.0.0:80", "no TLS yet"),
            ("tcp:192.168.1.2:80", "no TLS yet"),
            ("tcp:[::]:80", "no TLS yet"),
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
    fn a_unix_socket_is_for_its_user_alone_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let address = Address::Unix(path.clone());
        let listener = Listener::open(&address).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Listener::open(&address).err().unwrap().kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(Listener::open(&address).is_ok());
        std::fs::write(&path, "a file").unwrap();
        assert!(Listener::open(&address).is_err());
        assert!(path.exists(), "it is not ours");
    }
}
