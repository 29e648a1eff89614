//! Two threads on one ring, each asleep unless signalled: a lost signal is a test that runs into its deadline.

use super::guest::{GuestReceiver, GuestSender};
use super::tests::scattered_pair;
use super::*;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// An eventfd's behaviour.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    lost: AtomicBool,
}

impl Bell {
    fn ring(&self, signal: Signal) {
        if signal.is_needed() {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    /// Waits for a signal. Panics in both threads when none comes.
    fn wait(&self, what: &str) {
        let rung = self.rung.lock().unwrap();
        let (mut rung, timeout) =
            self.changed.wait_timeout_while(rung, Duration::from_secs(20), |rung| !*rung).unwrap();
        self.lost.fetch_or(timeout.timed_out(), Ordering::SeqCst);
        assert!(!timeout.timed_out(), "{what} was not woken");
        *rung = false;
    }
}

const PACKETS: u64 = 60_000;

/// A length that changes from packet to packet, now and then a long one.
fn length(id: u64) -> usize {
    let mixed = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
    if mixed.is_multiple_of(16) { mixed % 3000 } else { mixed % 96 }
}

fn check(id: u64, packet: &Packet<'_>) {
    assert_eq!(packet.header.transaction_id, id);
    assert_eq!(packet.payload.len(), length(id).next_multiple_of(8));
    assert!(packet.payload[..length(id)].iter().all(|byte| *byte == id as u8), "packet {id} is torn");
}

#[test]
fn no_signal_is_lost_from_guest_to_host() {
    let (memory, _) = scattered_pair(1);
    let mut sender = GuestSender::new(memory.clone());
    let mut incoming = IncomingRing::new(memory).unwrap();
    let (host, guest) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let host_thread = thread::spawn({
        let (host, guest) = (host.clone(), guest.clone());
        move || {
            let (mut next, mut buffer) = (0, Vec::new());
            while next < PACKETS {
                host.wait("the host");
                incoming.mask();
                loop {
                    while let Some(packet) = incoming.receive(&mut buffer).unwrap() {
                        check(next, &packet);
                        next += 1;
                    }
                    guest.ring(incoming.publish());
                    if !incoming.unmask().unwrap() {
                        break;
                    }
                    // Every other time with the mask off: either way has to work.
                    if next.is_multiple_of(2) {
                        incoming.mask();
                    }
                }
            }
        }
    });
    for id in 0..PACKETS {
        let payload = vec![id as u8; length(id)];
        loop {
            match sender.send(&NewPacket::in_band(id, &[&payload])) {
                Ok(signal) => break host.ring(signal),
                Err(WriteError::Full { needed }) => {
                    if !sender.set_pending(needed) {
                        guest.wait("the guest");
                    }
                    sender.set_pending(0);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(!host.lost.load(Ordering::SeqCst));
    }
    host_thread.join().unwrap();
}

#[test]
fn no_signal_is_lost_from_host_to_guest() {
    let (_, memory) = scattered_pair(1);
    let mut receiver = GuestReceiver::new(memory.clone());
    let mut outgoing = OutgoingRing::new(memory).unwrap();
    let (host, guest) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let guest_thread = thread::spawn({
        let (host, guest) = (host.clone(), guest.clone());
        move || {
            let (mut next, mut buffer) = (0, Vec::new());
            while next < PACKETS {
                guest.wait("the guest");
                receiver.begin_read();
                loop {
                    while let Some(packet) = receiver.receive(&mut buffer) {
                        check(next, &packet);
                        next += 1;
                        // As Linux's single reads do, or at the end of the batch.
                        if next.is_multiple_of(3) {
                            host.ring(receiver.close());
                        }
                    }
                    host.ring(receiver.close());
                    if !receiver.end_read() {
                        break;
                    }
                    receiver.begin_read();
                }
            }
        }
    });
    for id in 0..PACKETS {
        let payload = vec![id as u8; length(id)];
        loop {
            match outgoing.write(&NewPacket::in_band(id, &[&payload])) {
                Ok(()) => break,
                Err(WriteError::Full { needed }) => {
                    let (room, signal) = outgoing.wait_for_room(needed).unwrap();
                    guest.ring(signal);
                    if !room {
                        host.wait("the host");
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        if id % 5 == 0 || id + 1 == PACKETS {
            guest.ring(outgoing.publish());
        }
        assert!(!guest.lost.load(Ordering::SeqCst));
    }
    guest_thread.join().unwrap();
}
