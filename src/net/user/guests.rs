//! The addresses of guests, learnt from what guests send and from DHCP.
//!
//! Forwarded ports lead to one port of the switch. If several addresses were seen there, they lead to the earliest of
//! those that have been seen since the newest one appeared. So a guest that changes its address is followed, and a
//! guest that adds an address keeps its forwards. In doubt, the guest is asked by ARP, which it answers at once.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::super::ports::{MAX_PORTS, SwitchPort};
use super::address::Network;
use super::share::Guest;
use crate::net::mac::MacAddress;

/// Maximum number of addresses that are remembered for each port.
const MAX_ADDRESSES: usize = 16;

/// Time after which the silent owner of the forwards is asked whether it is still there, when another address appears.
const DOUBT: Duration = Duration::from_secs(10);

/// An address that was seen at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    address: Ipv4Addr,
    mac: MacAddress,
    /// The number of addresses that had appeared when it was last seen.
    at: u64,
    last_seen: Instant,
}

#[derive(Debug, Default)]
struct Port {
    /// In order of appearance.
    seen: Vec<Seen>,
    /// Number of addresses that have appeared.
    came: u64,
}

/// The known addresses; see the module's description.
#[derive(Debug, Default)]
pub struct Guests {
    ports: [Port; MAX_PORTS],
}

/// An address, and the Ethernet address of its owner.
pub type GuestAddresses = (Ipv4Addr, MacAddress);

impl Guests {
    /// Returns `true` if `address` was not seen at the guest's port, or with another Ethernet address. IPv6 is not remembered.
    pub fn has_moved(&self, address: IpAddr, guest: Guest) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let known = self.ports[guest.port.index()].seen.iter().find(|seen| seen.address == address);
        guest.mac.is_station() && Network::is_guest(address.into()) && known.is_none_or(|seen| seen.mac != guest.mac)
    }

    /// Learns that `address` belongs to `guest`. Returns the present owner of the forwarded ports if it must be asked
    /// whether it is still there.
    pub fn learn(&mut self, address: IpAddr, guest: Guest, now: Instant) -> Option<GuestAddresses> {
        let IpAddr::V4(address) = address else { return None };
        if !guest.mac.is_station() || !Network::is_guest(address.into()) {
            return None;
        }
        let port = &mut self.ports[guest.port.index()];
        let before = port.target();
        if let Some(place) = port.seen.iter().position(|seen| seen.address == address) {
            let in_doubt = before.is_some_and(|target| {
                target.address != address && now.saturating_duration_since(target.last_seen) >= DOUBT
            });
            port.came += u64::from(in_doubt);
            port.seen[place] = Seen { address, mac: guest.mac, at: port.came, last_seen: now };
            return before.filter(|_| in_doubt).map(Seen::place);
        }
        if port.seen.len() >= MAX_ADDRESSES
            && let Some(oldest) = (0..port.seen.len()).min_by_key(|place| port.seen[*place].at)
        {
            port.seen.remove(oldest);
        }
        port.came += 1;
        port.seen.push(Seen { address, mac: guest.mac, at: port.came, last_seen: now });
        before.map(Seen::place)
    }

    /// Returns the target of forwarded ports for the guest at `port`.
    pub fn target(&self, port: SwitchPort) -> Option<GuestAddresses> {
        self.ports[port.index()].target().map(Seen::place)
    }

    /// Forgets the addresses of a port, because another guest uses it now.
    pub fn forget(&mut self, port: SwitchPort) {
        self.ports[port.index()] = Port::default();
    }
}

impl Seen {
    fn place(self) -> GuestAddresses {
        (self.address, self.mac)
    }
}

impl Port {
    fn target(&self) -> Option<Seen> {
        let alive = self.seen.iter().find(|seen| seen.at == self.came);
        alive.or(self.seen.last()).copied()
    }
}

#[cfg(test)]
#[path = "guests_tests.rs"]
mod tests;
