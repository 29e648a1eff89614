//! The addresses that a switch has learnt. A pure function of frames and time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::MAX_PORTS;
use crate::net::mac::MacAddress;

/// Maximum number of addresses of a port. A guest that uses more harms only itself.
const MAX_ADDRESSES: usize = 256;

/// Time after which an unused address is forgotten (IEEE 802.1D, 7.9.2).
const AGE: Duration = Duration::from_secs(300);

/// Minimum interval between searches for old addresses, each of which checks all of them.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The location of an address.
#[derive(Clone, Copy, Debug)]
struct Entry {
    port: usize,
    /// `None` for the address of a plugged-in NIC, which neither ages nor moves.
    seen: Option<Instant>,
}

/// The table of addresses; see the module's description.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: HashMap<MacAddress, Entry>,
    /// Number of learnt addresses of each port.
    learnt: [usize; MAX_PORTS],
    /// Time of the last search for old addresses.
    looked: Option<Instant>,
}

impl Table {
    /// Assigns `address` to `port` permanently. Returns `false` if it is assigned to another port permanently.
    pub(super) fn pin(&mut self, address: MacAddress, port: usize) -> bool {
        if self.places.get(&address).is_some_and(|place| place.seen.is_none()) {
            return false;
        }
        self.remove(address);
        self.places.insert(address, Entry { port, seen: None });
        true
    }

    fn remove(&mut self, address: MacAddress) {
        if let Some(Entry { port, seen: Some(_) }) = self.places.remove(&address) {
            self.learnt[port] -= 1;
        }
    }

    /// Learns that `address` is at `port`. Returns `false` if it is assigned to another port permanently, so that the
    /// sender is an impostor.
    pub(super) fn learn(&mut self, address: MacAddress, port: usize, now: Instant) -> bool {
        match self.places.get_mut(&address) {
            Some(place) if place.seen.is_none() => return place.port == port,
            Some(place) if place.port == port => place.seen = Some(now),
            _ if !address.is_station() => {}
            _ => {
                if self.learnt[port] >= MAX_ADDRESSES {
                    self.expire(now);
                }
                // A port without room for another address does not affect where that address is known.
                if self.learnt[port] < MAX_ADDRESSES {
                    self.remove(address);
                    self.learnt[port] += 1;
                    self.places.insert(address, Entry { port, seen: Some(now) });
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
        let old = |place: &Entry| place.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= AGE);
        let learnt = &mut self.learnt;
        self.places.retain(|_, place| {
            let keep = !old(place);
            learnt[place.port] -= usize::from(!keep);
            keep
        });
    }

    /// Removes all addresses of a port, because it was unplugged.
    pub(super) fn forget(&mut self, port: usize) {
        self.places.retain(|_, place| place.port != port);
        self.learnt[port] = 0;
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
