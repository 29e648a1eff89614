//! Which guest has which address by DHCP. A pure function of requests and time.
//!
//! Each port of a switch is sure of [`GUARANTEED`] addresses, whatever the others do; it may have up to [`MAX_GUESTS`] as long as there are more.
//! An offer that nobody takes lasts a minute, and makes room for another before that. A lease that has run out is kept for its guest until another
//! one wants the room.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::super::ports::MAX_PORTS;
use super::address::{ADDRESSES, MAX_GUESTS, Network};
use super::share::Guest;

/// How long a guest may use its address before it asks again.
pub const LEASE: Duration = Duration::from_secs(3600);

/// How long an offer stands. Clients wait for other offers for some seconds, and ask again a few times.
const OFFER: Duration = Duration::from_secs(60);

/// How many addresses each port is sure of.
pub const GUARANTEED: usize = 5;

/// How many there are beside those. The switch's other end is no guest.
const COMMON: usize = ADDRESSES as usize - (MAX_PORTS - 1) * GUARANTEED;

#[derive(Clone, Copy, Debug)]
struct Lease {
    index: u8,
    guest: Guest,
    until: Instant,
    /// The guest has taken the offer.
    taken: bool,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Leases {
    leases: Vec<Lease>,
}

impl Leases {
    /// Returns the address of a guest, which gets one if it has none and there is one left.
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

    /// A guest takes its address, or asks for it once more.
    pub fn take(&mut self, guest: Guest, now: Instant) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.guest == guest) {
            lease.until = now + LEASE;
            lease.taken = true;
        }
    }

    /// A guest gives its address back.
    pub fn release(&mut self, guest: Guest) {
        self.leases.retain(|lease| lease.guest != guest);
    }

    /// Takes back whatever a port's guests have: others are there now.
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

    /// Returns `true` if the guest may have another address, perhaps because one of its port's that is not in use was taken back.
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
