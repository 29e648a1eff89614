//! Who is where: the addresses that a switch has learnt. A pure function of frames and time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::MAX_PORTS;
use crate::net::mac::MacAddress;

/// How many addresses one port may be known for. A guest that makes up more only harms itself.
const MAX_ADDRESSES: usize = 256;

/// How long an address is remembered without being seen (IEEE 802.1D, 7.9.2).
const AGE: Duration = Duration::from_secs(300);

/// How often old addresses are looked for, at most: that takes a look at all of them.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Where an address is.
#[derive(Clone, Copy, Debug)]
struct Place {
    port: usize,
    /// None for the address of the NIC that is plugged in: it neither ages nor moves.
    seen: Option<Instant>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: HashMap<MacAddress, Place>,
    /// How many learnt addresses each port has.
    learnt: [usize; MAX_PORTS],
    /// When old addresses were looked for last.
    looked: Option<Instant>,
}

impl Table {
    /// Says for good that `address` is at `port`. Returns `false` if it is elsewhere for good.
    pub(super) fn pin(&mut self, address: MacAddress, port: usize) -> bool {
        if self.places.get(&address).is_some_and(|place| place.seen.is_none()) {
            return false;
        }
        self.remove(address);
        self.places.insert(address, Place { port, seen: None });
        true
    }

    fn remove(&mut self, address: MacAddress) {
        if let Some(Place { port, seen: Some(_) }) = self.places.remove(&address) {
            self.learnt[port] -= 1;
        }
    }

    /// Learns that `address` is at `port`. Returns `false` if it is known to be elsewhere for good: then somebody pretends to be another.
    pub(super) fn learn(&mut self, address: MacAddress, port: usize, now: Instant) -> bool {
        match self.places.get_mut(&address) {
            Some(place) if place.seen.is_none() => return place.port == port,
            Some(place) if place.port == port => place.seen = Some(now),
            _ if !address.is_station() => {}
            _ => {
                if self.learnt[port] >= MAX_ADDRESSES {
                    self.expire(now);
                }
                // Who has no room for another does not make the switch forget where that one is.
                if self.learnt[port] < MAX_ADDRESSES {
                    self.remove(address);
                    self.learnt[port] += 1;
                    self.places.insert(address, Place { port, seen: Some(now) });
                }
            }
        }
        true
    }

    /// Returns the port where `address` is.
    pub(super) fn find(&self, address: MacAddress, now: Instant) -> Option<usize> {
        let place = self.places.get(&address)?;
        let fresh = place.seen.is_none_or(|seen| now.saturating_duration_since(seen) < AGE);
        fresh.then_some(place.port)
    }

    fn expire(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < BETWEEN_LOOKS) {
            return;
        }
        self.looked = Some(now);
        let old = |place: &Place| place.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= AGE);
        let learnt = &mut self.learnt;
        self.places.retain(|_, place| {
            let keep = !old(place);
            learnt[place.port] -= usize::from(!keep);
            keep
        });
    }

    /// Forgets all that is known of a port: it was unplugged.
    pub(super) fn forget(&mut self, port: usize) {
        self.places.retain(|_, place| place.port != port);
        self.learnt[port] = 0;
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
