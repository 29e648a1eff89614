//! The assignment of addresses by DHCP. A pure function of requests and time.
//!
//! Each port of a switch is guaranteed [`GUARANTEED`] addresses. It can have up to [`MAX_GUESTS`] while there are free
//! ones. An offer that is not accepted expires after a minute, and can be reassigned before that. An expired lease is
//! kept for its guest until the address is needed.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::super::ports::MAX_PORTS;
use super::address::{ADDRESSES, MAX_GUESTS, Network};
use super::share::Guest;

/// Duration of a lease.
pub const LEASE: Duration = Duration::from_secs(3600);

/// Duration of an offer. Clients wait some seconds for other offers, and repeat their request a few times.
const OFFER: Duration = Duration::from_secs(60);

/// Number of addresses that each port is guaranteed.
pub const GUARANTEED: usize = 5;

/// Number of the other addresses. The switch's uplink is not a guest.
const COMMON: usize = ADDRESSES as usize - (MAX_PORTS - 1) * GUARANTEED;

#[derive(Clone, Copy, Debug)]
struct Lease {
    index: u8,
    guest: Guest,
    until: Instant,
    /// The guest has accepted the offer.
    taken: bool,
}

/// The assigned addresses; see the module's description.
#[derive(Debug, Default)]
pub struct Leases {
    leases: Vec<Lease>,
}

impl Leases {
    /// Returns the address of a guest. Assigns one if it has none and there is a free one.
    pub fn offer(&mut self, guest: Guest, now: Instant) -> Option<Ipv4Addr> {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.guest == guest) {
            lease.until = lease.until.max(now + OFFER);
            return Some(Network::guest(lease.index));
        }
        if !guest.mac.is_station() || !self.make_room(guest, now) {
            return None;
        }
        let index = (0..ADDRESSES).find(|index| self.leases.iter().all(|lease| lease.index != *index))?;
        self.leases.push(Lease { index, guest, until: now + OFFER, taken: false });
        Some(Network::guest(index))
    }

    /// Records that a guest accepts or renews its address.
    pub fn take(&mut self, guest: Guest, now: Instant) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.guest == guest) {
            lease.until = now + LEASE;
            lease.taken = true;
        }
    }

    /// Records that a guest releases its address.
    pub fn release(&mut self, guest: Guest) {
        self.leases.retain(|lease| lease.guest != guest);
    }

    /// Releases all addresses of a port, because other guests use it now.
    pub fn forget(&mut self, port: super::SwitchPort) {
        self.leases.retain(|lease| lease.guest.port != port);
    }

    fn has_room(&self, guest: Guest) -> bool {
        let mut held = [0; MAX_PORTS];
        self.leases.iter().for_each(|lease| held[lease.guest.port.index()] += 1);
        let own: usize = held[guest.port.index()];
        let beyond: usize = held.iter().map(|held| held.saturating_sub(GUARANTEED)).sum();
        own < GUARANTEED || (own < usize::from(MAX_GUESTS) && beyond < COMMON)
    }

    /// Returns `true` if the guest can have another address, after an unused one of its port was released if necessary.
    fn make_room(&mut self, guest: Guest, now: Instant) -> bool {
        if self.has_room(guest) {
            return true;
        }
        self.leases.retain(|lease| lease.until > now);
        if self.has_room(guest) {
            return true;
        }
        let places = self.leases.iter().enumerate();
        let offers = places.filter(|(_, lease)| !lease.taken && lease.guest.port == guest.port);
        let Some((oldest, _)) = offers.min_by_key(|(_, lease)| lease.until) else { return false };
        self.leases.remove(oldest);
        self.has_room(guest)
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
