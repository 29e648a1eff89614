use proptest::prelude::*;
use vm_memory::GuestAddress;

use super::*;
use crate::memory::GuestMemory;
use crate::memory::buffer::GuestBuffer;
use crate::vmbus::ring::guest::GuestSender;
use crate::vmbus::ring::{NewPacket, RingMemory};

/// A guest's ring, and the packets of it that wait for the peer.
struct Waits {
    sender: GuestSender,
    ring: IncomingRing,
    waiting: Waiting,
}

/// Creates a ring of scattered pages, and a text that is sent first.
fn waits(text: &str) -> Waits {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 8 * 4096)]).unwrap();
    let range = GuestBuffer::new(&memory, (0..8_u32).rev().map(u64::from), 0, 8 * 4096).unwrap();
    let (memory, _) = RingMemory::pair(&range, 4).unwrap();
    let sender = GuestSender::new(memory.clone());
    Waits { sender, ring: IncomingRing::new(memory).unwrap(), waiting: Waiting::new(text.into()) }
}

impl Waits {
    /// Sends a packet, which then waits. Returns `false` if the ring is full.
    fn add(&mut self, data: &[u8]) -> bool {
        if self.sender.send(&NewPacket::in_band(0, &[b"header  ", data])).is_err() {
            return false;
        }
        let data = self.ring.next_packet().unwrap().unwrap().span(8, data.len()).unwrap();
        self.waiting.add(data);
        true
    }

    /// Returns the bytes that are sent next.
    fn bytes(&self) -> Vec<u8> {
        if let Some(text) = self.waiting.text() {
            return text.to_vec();
        }
        let mut bytes = Vec::new();
        for slice in self.waiting.slices(&self.ring) {
            let start = bytes.len();
            bytes.resize(start + slice.len(), 0);
            slice.copy_to(&mut bytes[start..]);
        }
        bytes
    }

    fn take(&mut self, count: usize) {
        self.waiting.peer_took(count, &mut self.ring);
        let _ = self.ring.publish();
    }
}

#[test]
fn a_text_comes_first_and_packets_stay_in_the_ring_until_they_are_taken() {
    let mut waits = waits("OK\n");
    assert!(waits.add(b"first") && waits.add(b"") && waits.add(b"second"));
    assert_eq!(waits.bytes(), b"OK\n");
    waits.take(1);
    assert_eq!(waits.bytes(), b"K\n");
    waits.take(2);
    assert_eq!(waits.bytes(), b"firstsecond");
    waits.take(3);
    assert_eq!(waits.bytes(), b"stsecond");
    waits.take(4);
    assert_eq!(waits.bytes(), b"cond");
    waits.take(4);
    assert_eq!((waits.bytes(), waits.ring.unmask()), (vec![], Ok(false)), "all space is the guest's again");
}

#[test]
fn a_full_ring_has_room_again_when_the_first_packet_is_taken() {
    let mut waits = waits("");
    let count = (0..).take_while(|number| waits.add(&[*number as u8; 1000])).count();
    assert!(count > 8);
    waits.take(999);
    assert!(!waits.add(&[7; 1000]));
    waits.take(1);
    assert!(waits.add(&[7; 1000]));
    assert_eq!(waits.bytes()[..1000], [1; 1000]);
    waits.waiting.clear(&mut waits.ring);
    let _ = waits.ring.publish();
    assert_eq!((waits.bytes(), waits.ring.unmask()), (vec![], Ok(false)));
}

proptest! {
    #[test]
    fn bytes_are_taken_in_order_and_no_packet_is_lost(steps in prop::collection::vec((0..3000_usize, 0..4000_usize), 1..100)) {
        let (mut waits, mut sent, mut got) = (waits(""), Vec::new(), Vec::new());
        for (length, taken) in steps {
            let data: Vec<u8> = (sent.len()..).take(length).map(|place| (place % 251) as u8).collect();
            if waits.add(&data) {
                sent.extend(data);
            }
            let bytes = waits.bytes();
            let taken = taken.min(bytes.len());
            got.extend_from_slice(&bytes[..taken]);
            waits.take(taken);
        }
        let rest = waits.bytes();
        waits.take(rest.len());
        got.extend(rest);
        prop_assert_eq!(got, sent);
        prop_assert_eq!(waits.ring.unmask(), Ok(false));
    }
}
