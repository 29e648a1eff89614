//! Receive-side scaling: selects the channel for a frame (MS-DOC "RSS Hashing Functions", "Indirection Table").
//!
//! A hash over addresses and ports, with the guest's key, selects an entry of the guest's table of channel numbers. So
//! all frames of a connection arrive on one channel, in order, and connections are distributed over all channels.

use super::offload::headers::{Headers, IpVersion, protocol};

/// Length of the key.
pub const KEY: usize = 40;

/// Maximum number of entries of an indirection table.
pub const MAX_TABLE: usize = 128;

/// Hash types, as in `NDIS_RECEIVE_SCALE_PARAMETERS`.
pub mod hash_type {
    /// The Toeplitz hash function, the only one that exists.
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

/// Returns the Toeplitz hash of `input`: for each set bit, the 32 bits of the key that start there.
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

/// The guest's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// See [`hash_type`].
    pub hash_types: u32,
    /// The hash function's key.
    pub key: [u8; KEY],
    /// Channel numbers. Not empty; the length need not be a power of two, because the hash is taken modulo the length.
    pub table: Vec<u16>,
}

impl Scaling {
    /// Returns the hash of a frame, or `None` if it is not an IP packet, or of a kind that the guest does not want
    /// hashed.
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
        // Not every fragment has ports, so fragments are hashed only by addresses.
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
