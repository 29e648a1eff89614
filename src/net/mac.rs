//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::hash::fnv1a;
use crate::wire::held_as_text;

/// An Ethernet (MAC) address (IEEE 802.3).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The broadcast address.
    pub(crate) const BROADCAST: Self = Self([0xff; 6]);

    /// Returns the default address of NIC number `index` of the partition called `name`.
    ///
    /// The same name and number have the same address in every run, so that guests keep the interface's name and the
    /// DHCP lease. It is locally administered and starts with 02:15:5d, after Hyper-V's 00:15:5d.
    pub(crate) fn derived(name: &str, index: usize) -> Self {
        let hash = fnv1a(name.bytes().chain([0]).chain((index as u64).to_le_bytes()));
        let [low, middle, high, ..] = (hash ^ hash >> 32).to_le_bytes();
        Self([0x02, 0x15, 0x5d, high, middle, low])
    }

    /// Returns `true` if the address is a group address; broadcast is one.
    pub(crate) fn is_group(&self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Returns `true` if the address can belong to a NIC: neither a group nor zero.
    pub(crate) fn is_station(&self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }

    /// Returns the destination address of a frame, unless it is too short.
    pub(crate) fn destination(frame: &[u8]) -> Option<Self> {
        Self::read_from_prefix(frame).ok().map(|(address, _)| address)
    }

    /// Returns the source address of a frame, unless it is too short.
    pub(crate) fn source(frame: &[u8]) -> Option<Self> {
        Self::destination(frame.get(6..)?)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The text is not the address of a NIC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMacAddress {
    /// The format is wrong.
    #[error("'{0}' is not a MAC address; write it like 02:15:5d:00:00:01")]
    Form(String),
    /// The address is a group address, or zero.
    #[error("{0} is a {1} address, which no NIC can have; use an even first byte, such as 02")]
    NoStation(MacAddress, &'static str),
}

impl FromStr for MacAddress {
    type Err = BadMacAddress;

    /// Accepts colons or hyphens, but not a mix of them.
    fn from_str(text: &str) -> Result<Self, BadMacAddress> {
        let form = || BadMacAddress::Form(text.to_string());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut groups = text.split(separator);
        for byte in &mut bytes {
            let group = groups.next().ok_or_else(form)?;
            if group.len() != 2 || !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(form());
            }
            *byte = u8::from_str_radix(group, 16).map_err(|_| form())?;
        }
        let address = Self(bytes);
        match groups.next() {
            Some(_) => Err(form()),
            None if address.is_station() => Ok(address),
            None if address.is_group() => Err(BadMacAddress::NoStation(address, "group")),
            None => Err(BadMacAddress::NoStation(address, "zero")),
        }
    }
}

held_as_text!(MacAddress);

#[cfg(test)]
#[path = "mac_tests.rs"]
mod tests;
