//! Which guest has which address: learnt from what guests send.

use std::collections::HashMap;
use std::net::IpAddr;

use super::address::Network;
use crate::vsp::network::mac::MacAddress;

/// How many addresses are remembered: each guest has one of IPv4 and may have some of IPv6.
const MAX_NEIGHBORS: usize = 512;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Neighbors {
    addresses: HashMap<IpAddr, MacAddress>,
}

impl Neighbors {
    /// Learns that `address` is `mac`'s. Addresses that no guest has, and more than there is room for, are not learnt.
    pub fn learn(&mut self, address: IpAddr, mac: MacAddress) {
        let fits = self.addresses.len() < MAX_NEIGHBORS || self.addresses.contains_key(&address);
        if fits && mac.is_station() && Network::is_guest(address) {
            self.addresses.insert(address, mac);
        }
    }

    /// Whose `address` is.
    pub fn find(&self, address: IpAddr) -> Option<MacAddress> {
        self.addresses.get(&address).copied()
    }
}
