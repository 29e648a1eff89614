//! Which guest has which address: learnt from what guests send, and from what DHCP gives them.
//!
//! Forwarded ports lead to one port of the switch. If that has shown several addresses, they lead to the one that was there first among
//! those that have been seen since the last one came: a guest that changes its address is followed, and one that only has another beside it keeps its
//! forwards. Whoever is in doubt is asked by ARP, and a guest answers that at once.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::super::ports::{MAX_PORTS, SwitchPort};
use super::address::Network;
use super::share::Guest;
use crate::net::mac::MacAddress;

/// How many addresses are remembered of each port.
const MAX_ADDRESSES: usize = 16;

/// Whoever has the forwards and is silent for so long is asked whether it is there, when another is seen.
const DOUBT: Duration = Duration::from_secs(10);

/// An address that a port has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    address: Ipv4Addr,
    mac: MacAddress,
    /// How many addresses had come when it was last seen.
    at: u64,
    last_seen: Instant,
}

#[derive(Debug, Default)]
struct Port {
    /// In the order in which they came.
    seen: Vec<Seen>,
    /// How many addresses have come.
    came: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Guests {
    ports: [Port; MAX_PORTS],
}

/// An address, and who has it.
pub type Place = (Ipv4Addr, MacAddress);

impl Guests {
    /// Learns that `address` is the guest's. Returns who had the forwarded ports until now, to be asked whether it is still there, if that is in doubt.
    pub fn learn(&mut self, address: IpAddr, guest: Guest, now: Instant) -> Option<Place> {
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

    /// Returns where forwarded ports lead to that belong to the guest at `port`.
    pub fn target(&self, port: SwitchPort) -> Option<Place> {
        self.ports[port.index()].target().map(Seen::place)
    }

    /// Forgets what a port has shown: another guest is there now.
    pub fn forget(&mut self, port: SwitchPort) {
        self.ports[port.index()] = Port::default();
    }
}

impl Seen {
    fn place(self) -> Place {
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
