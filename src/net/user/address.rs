//! The network's addresses and their meaning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::resolver::Resolver;
use crate::net::mac::MacAddress;

/// Maximum number of guests with an address at each port of a switch, or without a switch: that many may be behind a
/// bridge.
pub const MAX_GUESTS: u8 = 64;

/// Total number of addresses for guests.
pub const ADDRESSES: u8 = 254 - Network::FIRST_GUEST.octets()[3] + 1;

const DNS_PORT: u16 = 53;

/// The configuration of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The source of name servers, or `None` if guests get none.
    pub resolver: Option<Resolver>,
}

impl Default for Network {
    /// A network with the host's own name servers.
    fn default() -> Self {
        Self { resolver: Some(Resolver::of_host()) }
    }
}

impl Network {
    /// The router's Ethernet address, which represents everything that is not a guest.
    pub const ROUTER: MacAddress = MacAddress([0x02, 0x15, 0x5d, 0x00, 0x02, 0x02]);
    /// The router, and the host's loopback address.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    /// The name server.
    pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
    /// The first guest.
    pub const FIRST_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    /// The netmask.
    pub const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
    /// The network's prefix for IPv6, of 64 bits.
    pub const PREFIX6: Ipv6Addr = Ipv6Addr::new(0xfd15, 0x5d, 0, 0, 0, 0, 0, 0);
    /// The router, and the host's loopback address.
    pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd15, 0x5d, 0, 0, 0, 0, 0, 2);
    /// The name server.
    pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfd15, 0x5d, 0, 0, 0, 0, 0, 3);
    /// The router's link-local address.
    pub const LINK_LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    /// Returns the address of guest number `index`.
    pub fn guest(index: u8) -> Ipv4Addr {
        let [a, b, c, d] = Self::FIRST_GUEST.octets();
        Ipv4Addr::new(a, b, c, d.saturating_add(index))
    }

    /// Returns `true` if an address is one of those at which this network itself responds.
    pub fn is_own(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address == Self::GATEWAY || address == Self::DNS,
            IpAddr::V6(address) => [Self::GATEWAY6, Self::DNS6, Self::LINK_LOCAL6].contains(&address),
        }
    }

    /// Returns `true` if an address can belong to a guest.
    pub fn is_guest(address: IpAddr) -> bool {
        !Self::is_own(address)
            && match address {
                IpAddr::V4(address) => {
                    let [a, b, c, d] = address.octets();
                    [a, b, c] == [10, 0, 2] && d != 0 && d != 255
                }
                IpAddr::V6(address) => {
                    address.segments()[..4] == Self::PREFIX6.segments()[..4] || address.is_unicast_link_local()
                }
            }
    }

    /// Returns `true` if the destination is the network's name server.
    pub fn is_name_server(&self, destination: SocketAddr) -> bool {
        let is_own = matches!(destination.ip(), IpAddr::V4(Self::DNS) | IpAddr::V6(Self::DNS6));
        self.resolver.is_some() && is_own && destination.port() == DNS_PORT
    }

    /// Returns the real destination of what a guest sends to `destination`, or `None` if there is none, or if it is a
    /// name server.
    pub fn outside(destination: SocketAddr) -> Option<SocketAddr> {
        let port = destination.port();
        let nowhere = match destination.ip() {
            IpAddr::V4(Self::GATEWAY) => return Some((Ipv4Addr::LOCALHOST, port).into()),
            IpAddr::V6(Self::GATEWAY6 | Self::LINK_LOCAL6) => return Some((Ipv6Addr::LOCALHOST, port).into()),
            IpAddr::V4(Self::DNS) | IpAddr::V6(Self::DNS6) => true,
            // Addresses that mean the sender's own host or network.
            IpAddr::V4(address) => {
                let [first, ..] = address.octets();
                first == 0 || first >= 224 || address.is_loopback() || address.is_link_local()
            }
            IpAddr::V6(address) => {
                address.is_unspecified()
                    || address.is_loopback()
                    || address.is_multicast()
                    || address.is_unicast_link_local()
                    || address.to_ipv4_mapped().is_some()
            }
        };
        (!nowhere && !Self::is_guest(destination.ip())).then_some(destination)
    }
}
