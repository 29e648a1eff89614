//! The Internet checksum (RFC 1071).

use super::headers::{Headers, IpVersion, set_be16};
#[cfg(test)]
use super::headers::{be16, protocol};
use crate::net::frame::Checksum;

/// Sums the 16-bit words of `bytes`, as if they started at an even offset. The result is not folded, so sums can be
/// added.
pub fn sum(bytes: &[u8]) -> u64 {
    // The byte order only matters at the end (RFC 1071, 2.B). Two sums, so that an addition does not wait for the carry of the
    // last one.
    let (words, rest) = bytes.as_chunks::<8>();
    let (pairs, odd) = words.as_chunks::<2>();
    let mut sums = [0_u128; 2];
    for pair in pairs {
        sums.iter_mut().zip(pair).for_each(|(sum, word)| *sum += u128::from(u64::from_ne_bytes(*word)));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let rest = odd.iter().chain([&last]).map(|word| u128::from(u64::from_ne_bytes(*word)));
    let sum: u128 = sums.into_iter().chain(rest).sum();
    // 2^32 is 1 modulo 2^16 - 1, so its 32-bit words can be added.
    u64::from(sum as u32) + u64::from((sum >> 32) as u32) + (sum >> 64) as u64
}

/// Folds a sum into 16 bits, in network byte order.
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be(sum as u16)
}

/// Returns the sum of the pseudo header of a packet whose transport header and payload are `length` bytes long.
pub fn pseudo_header(frame: &[u8], headers: &Headers, length: usize) -> u64 {
    let length = (length as u32).to_be_bytes();
    sum(headers.addresses(frame)) + sum(&length) + sum(&[0, 0, 0, headers.protocol])
}

/// Completes the checksum of a frame if it is incomplete.
pub fn complete(frame: &mut [u8], checksum: Checksum) {
    let Checksum::Partial { start, offset } = checksum else { return };
    let (start, place) = (usize::from(start), usize::from(start) + usize::from(offset));
    let end = Headers::parse(frame).map_or(frame.len(), |headers| headers.end);
    let Some(covered) = frame.get(start..end) else { return };
    let value = !fold(sum(covered));
    // A UDP checksum of 0 would mean that there is none (RFC 768); TCP accepts either.
    set_be16(frame, place, if value == 0 { 0xffff } else { value });
}

/// Computes the header checksum of an IPv4 packet.
pub fn complete_ipv4_header(frame: &mut [u8], headers: &Headers) {
    const CHECKSUM: usize = 10;
    if headers.version == IpVersion::V4 {
        set_be16(frame, headers.network + CHECKSUM, 0);
        let header = frame.get(headers.network..headers.transport).unwrap_or_default();
        let value = !fold(sum(header));
        set_be16(frame, headers.network + CHECKSUM, value);
    }
}

/// Writes the pseudo header's sum into a TCP or UDP checksum field, and returns the pending offload. Returns `None` if
/// the packet has no such checksum.
pub fn leave_open(frame: &mut [u8], headers: &Headers) -> Option<Checksum> {
    let offset = headers.checksum_offset()?;
    let start = u16::try_from(headers.transport).ok()?;
    let sum = pseudo_header(frame, headers, headers.end - headers.transport);
    set_be16(frame, headers.transport + usize::from(offset), fold(sum));
    Some(Checksum::Partial { start, offset })
}

/// Returns `true` if the TCP or UDP checksum in a frame is correct, or `None` if it has none.
#[cfg(test)]
pub fn is_right(frame: &[u8], headers: &Headers) -> Option<bool> {
    let offset = headers.checksum_offset()?;
    let place = headers.transport + usize::from(offset);
    if headers.protocol == protocol::UDP && be16(frame, place)? == 0 {
        return (headers.version == IpVersion::V4).then_some(true);
    }
    let covered = frame.get(headers.transport..headers.end)?;
    Some(fold(pseudo_header(frame, headers, covered.len()) + sum(covered)) == 0xffff)
}

/// Returns `true` if the header checksum of an IPv4 packet is correct.
#[cfg(test)]
pub fn is_ipv4_header_right(frame: &[u8], headers: &Headers) -> bool {
    frame.get(headers.network..headers.transport).is_some_and(|header| fold(sum(header)) == 0xffff)
}

#[cfg(test)]
#[path = "checksum_tests.rs"]
mod tests;
