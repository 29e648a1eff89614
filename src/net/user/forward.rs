//! Ports of the host that are forwarded to a guest: `tcp:8080:80`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::wire::held_as_text;

/// The protocol of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// `PROTOCOL:[ADDRESS:]PORT:GUESTPORT`: forwards the host's port to the guest's. Without an address, only the host
/// itself can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address and port.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest_port: u16,
}

impl fmt::Display for Forward {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.protocol)?;
        if self.host.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            // The brackets of an IPv6 address come from the socket address.
            let address = self.host.to_string();
            let end = address.rfind(':').unwrap_or(address.len());
            write!(formatter, "{}:", &address[..end])?;
        }
        write!(formatter, "{}:{}", self.host.port(), self.guest_port)
    }
}

/// The text is not a forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a port forward: {problem}; write it like tcp:8080:80, udp:5353:53 or tcp:0.0.0.0:8080:80")]
pub struct BadForward {
    text: String,
    problem: &'static str,
}

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Self, BadForward> {
        let bad = |problem| BadForward { text: text.to_string(), problem };
        let (protocol, rest) = text.split_once(':').ok_or(bad("it has no colon"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad("the protocol is neither tcp nor udp")),
        };
        let (rest, guest_port) = rest.rsplit_once(':').ok_or(bad("the guest's port is missing"))?;
        let (address, port) = rest.rsplit_once(':').map_or((None, rest), |(address, port)| (Some(address), port));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let port = number(port).ok_or(bad("the host's port is not a number from 1 to 65535"))?;
        let guest_port = number(guest_port).ok_or(bad("the guest's port is not a number from 1 to 65535"))?;
        let address = match address {
            None => Ipv4Addr::LOCALHOST.into(),
            Some(address) => {
                let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
                bare.parse::<IpAddr>().map_err(|_| bad("the host's address is none"))?
            }
        };
        Ok(Self { protocol, host: (address, port).into(), guest_port })
    }
}

held_as_text!(Forward);

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
