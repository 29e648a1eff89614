//! Who gives up a flow where there is no room for another.
//!
//! Whoever has most: first the switch's port, which no guest can forge, then the Ethernet address behind it. So one that opens flows without end
//! takes from itself as soon as others want some, and what others have is never touched by it.

use std::collections::HashMap;

use super::super::ports::{MAX_PORTS, SwitchPort};
use crate::net::mac::MacAddress;

/// A guest as the network tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guest {
    /// Where its frames come in.
    pub port: SwitchPort,
    /// Its Ethernet address.
    pub mac: MacAddress,
}

/// A flow that may have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// Its number.
    pub number: u64,
    /// Whose it is.
    pub guest: Guest,
    /// When it was last used.
    pub last_used: T,
}

/// The flow that has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim<T> {
    /// The flow.
    pub flow: Held<T>,
    /// It belongs to the one who wants another, or to one of the same port who has no more.
    pub is_own: bool,
}

/// Finds the least recently used flow of the guest that has most, if `newcomer` had one more. Returns `None` if `newcomer` would have most and has none to give.
pub fn victim<T: Copy + Ord>(
    newcomer: Option<Guest>,
    flows: impl Iterator<Item = Held<T>> + Clone,
) -> Option<Victim<T>> {
    let mut ports = [0_usize; MAX_PORTS];
    let new_port = newcomer.map(|guest| guest.port.index());
    let guests = || flows.clone().map(|held| held.guest).chain(newcomer);
    guests().for_each(|guest| ports[guest.port.index()] += 1);
    // Who wants one more does not take from others that have as many.
    let most = (0..MAX_PORTS).max_by_key(|port| (ports[*port], Some(*port) == new_port))?;
    let mut macs = HashMap::new();
    let at_most = guests().filter(|guest| guest.port.index() == most);
    at_most.for_each(|guest| *macs.entry(guest.mac).or_insert(0_usize) += 1);
    let count = macs.values().copied().max()?;
    let of_port = flows.filter(|held| held.guest.port.index() == most);
    if let Some(newcomer) = newcomer.filter(|guest| guest.port.index() == most && macs[&guest.mac] == count) {
        let own = of_port.clone().filter(|held| held.guest == newcomer).min_by_key(|held| held.last_used);
        // One that has none as yet, where all others of its port have one each, has to look at theirs as at its own.
        let flow = own.or_else(|| of_port.min_by_key(|held| held.last_used))?;
        return Some(Victim { flow, is_own: true });
    }
    let flow = of_port.filter(|held| macs[&held.guest.mac] == count).min_by_key(|held| held.last_used)?;
    Some(Victim { flow, is_own: false })
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
