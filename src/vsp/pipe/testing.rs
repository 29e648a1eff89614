//! Helpers for tests of protocols.

use std::time::Duration;

use super::provider::Protocol;

/// Returns all packets that are to be sent now. A protocol that always has something to send fails.
pub fn drain(protocol: &mut impl Protocol, now: Duration) -> Vec<Vec<u8>> {
    let packets: Vec<_> = std::iter::from_fn(|| protocol.next(now)).take(100_000).collect();
    assert!(packets.len() < 100_000);
    packets
}

/// Returns all packets that are to be sent now and later, if the guest reads all of them at once.
pub fn drain_all(protocol: &mut impl Protocol) -> Vec<Vec<u8>> {
    let mut now = Duration::ZERO;
    let mut packets = drain(protocol, now);
    while let Some(later) = protocol.deadline() {
        assert!(later > now, "what is due is sent");
        now = later;
        packets.extend(drain(protocol, now));
    }
    packets
}

/// Returns a message of two words.
pub fn request(first: u32, second: u32) -> Vec<u8> {
    [first.to_le_bytes(), second.to_le_bytes()].concat()
}
