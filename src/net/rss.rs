//! Receive-side scaling: which channel a frame goes to (MS-DOC "RSS Hashing Functions", "Indirection Table").
//!
//! A hash over addresses and ports, keyed by the guest, picks an entry of a table that the guest fills with channel numbers.
//! So all frames of a connection come in through one channel, in order, and connections spread over all.

use super::offload::headers::{Headers, IpVersion, protocol};

/// Length of the key that guests give.
pub const KEY: usize = 40;

/// How many entries an indirection table has at most.
pub const MAX_TABLE: usize = 128;

/// Hash types, as `NDIS_RECEIVE_SCALE_PARAMETERS` has them.
pub mod hash_type {
    /// The Toeplitz hash function, the only one there is.
    pub const TOEPLITZ: u32 = 1;
    /// Addresses of IPv4.
    pub const IPV4: u32 = 0x100;
    /// Addresses and ports of TCP over IPv4.
    pub const TCP_IPV4: u32 = 0x200;
    /// Addresses of IPv6.
    pub const IPV6: u32 = 0x400;
    /// Addresses and ports of TCP over IPv6.
    pub const TCP_IPV6: u32 = 0x1000;
    /// Addresses and ports of UDP over IPv4.
    pub const UDP_IPV4: u32 = 0x4000;
    /// Addresses and ports of UDP over IPv6.
    pub const UDP_IPV6: u32 = 0x8000;
}

/// Returns the Toeplitz hash of `input`: for each bit that is set, the 32 bits of the key that start there.
pub fn toeplitz(key: &[u8; KEY], input: &[u8]) -> u32 {
    let mut window = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    let mut hash = 0;
    for (index, byte) in input.iter().enumerate() {
        let mut next = key.get(index + 4).copied().unwrap_or(0);
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> 7);
            next <<= 1;
        }
    }
    hash
}

/// What a guest has set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// See [`hash_type`].
    pub hash_types: u32,
    /// The hash function's key.
    pub key: [u8; KEY],
    /// Channel numbers. Not empty, and a power of two long or not: the hash is taken modulo its length.
    pub table: Vec<u16>,
}

impl Scaling {
    /// Returns the hash of a frame. Returns `None` if it is no IP packet, or of a kind that the guest wants no hash of.
    pub fn hash(&self, frame: &[u8]) -> Option<u32> {
        let headers = Headers::parse(frame)?;
        let (with_ports, without) = match (headers.version, headers.protocol) {
            (IpVersion::V4, protocol::TCP) => (hash_type::TCP_IPV4, hash_type::IPV4),
            (IpVersion::V4, protocol::UDP) => (hash_type::UDP_IPV4, hash_type::IPV4),
            (IpVersion::V4, _) => (0, hash_type::IPV4),
            (IpVersion::V6, protocol::TCP) => (hash_type::TCP_IPV6, hash_type::IPV6),
            (IpVersion::V6, protocol::UDP) => (hash_type::UDP_IPV6, hash_type::IPV6),
            (IpVersion::V6, _) => (0, hash_type::IPV6),
        };
        let mut input = [0; 36];
        let addresses = headers.addresses(frame);
        input.get_mut(..addresses.len())?.copy_from_slice(addresses);
        let mut length = addresses.len();
        // A fragment has no ports, or not in every piece: all of them go by address.
        match headers.ports(frame).filter(|_| self.hash_types & with_ports != 0) {
            Some(ports) => {
                input[length..length + 4].copy_from_slice(ports);
                length += 4;
            }
            None if self.hash_types & without != 0 => {}
            None => return None,
        }
        Some(toeplitz(&self.key, &input[..length]))
    }

    /// Returns the channel for frames with that hash.
    pub fn channel(&self, hash: u32) -> u16 {
        match self.table.len() {
            0 => 0,
            length => self.table[hash as usize % length],
        }
    }
}

#[cfg(test)]
#[path = "rss_tests.rs"]
mod tests;
