//! The address of a VNC server.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::wire::held_as_text;

/// The port of display 0.
const FIRST_PORT: u16 = 5900;

/// The address of a VNC server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VncAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl VncAddress {
    /// Returns `true` if only this host's users can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for VncAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let display = text.strip_prefix(':').and_then(|display| display.parse().ok());
        let port = display.and_then(|display: u16| FIRST_PORT.checked_add(display));
        let address = port.map(|port| (Ipv4Addr::LOCALHOST, port).into()).or_else(|| text.parse().ok());
        address.map(Self::Tcp).ok_or_else(|| {
            format!(
                "`{text}` is not an address of a VNC server; write :N for port 5900 + N of the loopback address, ADDRESS:PORT such \
                 as 127.0.0.1:5901, or unix:PATH"
            )
        })
    }
}

impl fmt::Display for VncAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

held_as_text!(VncAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_displays_ports_and_sockets() {
        for (text, full) in [
            (":0", "127.0.0.1:5900"),
            (":59635", "127.0.0.1:65535"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:5901", "[::1]:5901"),
            ("0.0.0.0:5900", "0.0.0.0:5900"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            let address: VncAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), full.parse()), (full, Ok(address.clone())));
            assert_eq!(address.is_local(), !full.starts_with("0.0.0.0"));
        }
        for wrong in ["", ":", ":59636", ":-1", "localhost", "unix:", "5900", "1.2.3.4"] {
            assert!(wrong.parse::<VncAddress>().unwrap_err().contains("unix:PATH"), "{wrong}");
        }
    }
}
