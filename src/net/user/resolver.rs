//! The host's present name servers (`resolv.conf(5)`).

use std::fs::OpenOptions;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType, netdevice};

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// Maximum number of servers that are asked. The host's own library asks three.
const MAX_SERVERS: usize = 8;

/// Maximum number of bytes of the file that are read.
const MAX_FILE: u64 = 64 << 10;

/// The source of name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// A file like `/etc/resolv.conf`, which is read for each new look-up, because it may change.
    File(PathBuf),
    /// A fixed list.
    #[cfg(test)]
    Servers(Vec<SocketAddr>),
}

impl Resolver {
    /// Returns the source that the host itself uses.
    pub fn of_host() -> Self {
        Self::File(FILE.into())
    }

    /// Returns the present servers, in the order in which they are asked.
    pub fn servers(&self) -> Vec<SocketAddr> {
        match self {
            Self::File(path) => read(path).map(|text| parse(&text)).unwrap_or_default(),
            #[cfg(test)]
            Self::Servers(servers) => servers.clone(),
        }
    }
}

/// Reads a regular file. Other kinds of files could block.
fn read(path: &Path) -> Option<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut bytes = Vec::new();
    let is_plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
    is_plain.then(|| file.take(MAX_FILE).read_to_end(&mut bytes))?.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the name servers in a text in the format of `resolv.conf(5)`. Comments, options and search lists are
/// ignored.
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(server) = words.next().and_then(address)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers.truncate(MAX_SERVERS);
    servers
}

/// Parses an address, possibly with an interface: fe80::1%eth0.
fn address(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().ok().map(|address| (address, PORT).into()),
        Some((address, interface)) => {
            let address = address.parse::<Ipv6Addr>().ok()?;
            let index = interface.parse().ok().or_else(|| index(interface))?;
            Some(SocketAddrV6::new(address, PORT, 0, index).into())
        }
    }
}

fn index(interface: &str) -> Option<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(socket, interface).ok()
}
