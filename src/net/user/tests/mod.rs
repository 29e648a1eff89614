//! Tests of the network without a guest: a client based on `smoltcp` uses it, and servers on the host's loopback answer.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::address::Network;
use super::forward::Forward;
use super::resolver::Resolver;
use super::*;

mod client;
mod dhcp_and_dns;
mod forwards;

mod frames;
mod long_packets;
mod lookups;
mod measure;
mod shares;
mod silence;
mod tcp;
mod udp;

/// Creates a network whose name server is `resolver`.
///
/// The networks of all tests share the budget of this process, so this raises the process's limit to its maximum.
fn network(resolver: Option<SocketAddr>) -> Network {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    Network { resolver: resolver.map(|server| Resolver::Servers(vec![server])) }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn gateway(port: u16) -> SocketAddr {
    (Network::GATEWAY, port).into()
}

/// Returns a port of the loopback that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(loopback(0)).unwrap().local_addr().unwrap().port()
}

fn forward(text: &str) -> Forward {
    text.parse().unwrap()
}

/// Returns a pattern of bytes that depends on the position.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index ^ index >> 8 ^ index >> 16) as u8).collect()
}
