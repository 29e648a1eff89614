//! The name server that the host uses.

use std::fs;
use std::net::{IpAddr, SocketAddr};

const FILE: &str = "/etc/resolv.conf";

/// The first name server of `/etc/resolv.conf`.
pub fn of_host() -> Option<SocketAddr> {
    first(&fs::read_to_string(FILE).ok()?)
}

/// The first name server in a text of the format of `resolv.conf(5)`.
pub fn first(text: &str) -> Option<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server)
    });
    // A scope (fe80::1%eth0) is left out: such servers are passed over.
    servers.filter_map(|server| server.parse::<IpAddr>().ok()).map(|address| (address, 53).into()).next()
}
