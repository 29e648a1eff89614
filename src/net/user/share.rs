//! Selects the flow that must end if there is no room for another.
//!
//! It is taken from whoever has the most: first from the switch's port, which no guest can forge, then from the
//! Ethernet address behind it. So a guest that opens many flows loses its own as soon as others need some, and never
//! affects the flows of others.

use std::collections::HashMap;

use super::super::ports::{MAX_PORTS, SwitchPort};
use crate::net::mac::MacAddress;

/// A guest, as the network distinguishes it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guest {
    /// The port at which its frames arrive.
    pub port: SwitchPort,
    /// Its Ethernet address.
    pub mac: MacAddress,
}

/// A flow that can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// Its number.
    pub number: u64,
    /// Its guest.
    pub guest: Guest,
    /// The time at which it was last used.
    pub last_used: T,
}

/// The flow that must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim<T> {
    /// The flow.
    pub flow: Held<T>,
    /// Whether the flow belongs to the guest that needs one, or to a guest at the same port with equally few flows.
    pub is_own: bool,
}

/// Returns the least recently used flow of the guest that has the most, if `newcomer` had one more. Returns `None` if
/// `newcomer` would have the most and has none.
pub fn victim<T: Copy + Ord>(
    newcomer: Option<Guest>,
    flows: impl Iterator<Item = Held<T>> + Clone,
) -> Option<Victim<T>> {
    let mut ports = [0_usize; MAX_PORTS];
    let new_port = newcomer.map(|guest| guest.port.index());
    let guests = || flows.clone().map(|held| held.guest).chain(newcomer);
    guests().for_each(|guest| ports[guest.port.index()] += 1);
    // A guest that needs one more does not take from others that have as many.
    let most = (0..MAX_PORTS).max_by_key(|port| (ports[*port], Some(*port) == new_port))?;
    let mut macs = HashMap::new();
    let at_most = guests().filter(|guest| guest.port.index() == most);
    at_most.for_each(|guest| *macs.entry(guest.mac).or_insert(0_usize) += 1);
    let count = macs.values().copied().max()?;
    let of_port = flows.filter(|held| held.guest.port.index() == most);
    if let Some(newcomer) = newcomer.filter(|guest| guest.port.index() == most && macs[&guest.mac] == count) {
        let own = of_port.clone().filter(|held| held.guest == newcomer).min_by_key(|held| held.last_used);
        // If it has none, and all others of its port have one each, theirs count as its own.
        let flow = own.or_else(|| of_port.min_by_key(|held| held.last_used))?;
        return Some(Victim { flow, is_own: true });
    }
    let flow = of_port.filter(|held| macs[&held.guest.mac] == count).min_by_key(|held| held.last_used)?;
    Some(Victim { flow, is_own: false })
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
