//! Two threads on one ring, each asleep unless signalled. A lost signal makes the test reach its time limit.

use super::guest::{GuestReceiver, GuestSender};
use super::tests::scattered_pair;
use super::*;
use crate::patience::Patience;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Time limit of each wait.
const LONG: Duration = Duration::from_secs(20);

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

    /// Waits for a signal. At the time limit, both threads panic.
    fn wait(&self, what: &str) {
        let mut patience = Patience::new(LONG);
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait_timeout(rung, patience.slice()).unwrap().0;
            let is_lost = !*rung && patience.is_over();
            self.lost.fetch_or(is_lost, Ordering::SeqCst);
            assert!(!is_lost, "{what} was not woken");
        }
        *rung = false;
    }
}

const PACKETS: u64 = 60_000;

/// Returns a length that changes from packet to packet, and is sometimes long.
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
                    // Every other time without the mask: both variants must work.
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
                        // After each packet, as Linux's single reads do, or at the end of the batch.
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

/// A signal that is awaited by spinning, which is fast enough to hit the time between a store and the following load.
#[derive(Default)]
struct SpinBell(AtomicBool);

impl SpinBell {
    fn ring(&self, signal: Signal) {
        if signal.is_needed() {
            self.0.store(true, Ordering::Release);
        }
    }

    fn wait(&self, what: &str) {
        let mut patience = Patience::new(LONG);
        for turn in 0u32.. {
            if self.0.swap(false, Ordering::Acquire) {
                return;
            }
            if turn % 256 == 255 {
                thread::yield_now();
                assert!(!patience.is_over(), "{what} was not woken");
            }
        }
    }
}

/// Waits for a short time that differs from call to call.
fn dawdle(state: &mut u32) {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (0..*state >> 26).for_each(|_| std::hint::spin_loop());
}

const CLOSE_CALLS: u64 = 30_000;

/// One thread sends with short pauses. The other repeatedly reads all packets and sleeps. `drain` returns the number of packets
/// that it read before it goes to sleep, and `true` if more arrived meanwhile.
fn packets_meet_sleepers(
    mut send: impl FnMut(&NewPacket<'_>) -> Result<Signal, WriteError>,
    mut drain: impl FnMut() -> (u64, bool) + Send,
) {
    let bell = SpinBell::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut read = 0;
            while read < CLOSE_CALLS {
                bell.wait("the reader");
                loop {
                    let (count, more) = drain();
                    read += count;
                    if !more {
                        break;
                    }
                }
            }
        });
        let mut random = 1;
        for id in 0..CLOSE_CALLS {
            let mut patience = Patience::new(LONG);
            loop {
                match send(&NewPacket::in_band(id, &[])) {
                    Ok(signal) => break bell.ring(signal),
                    Err(_) => thread::yield_now(),
                }
                assert!(!patience.is_over(), "the reader does not read");
            }
            dawdle(&mut random);
        }
    });
}

/// One thread writes into a ring that is mostly full, and sleeps until there is room. The other reads packet by packet. `send`
/// returns `true` if it has to sleep.
fn room_meets_sleepers(mut send: impl FnMut(&NewPacket<'_>) -> bool, mut read: impl FnMut() -> Option<Signal> + Send) {
    let bell = SpinBell::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut count, mut random, mut patience) = (0, 7, Patience::new(2 * LONG));
            while count < CLOSE_CALLS && !patience.is_over() {
                if let Some(signal) = read() {
                    count += 1;
                    patience = Patience::new(2 * LONG);
                    bell.ring(signal);
                } else {
                    thread::yield_now();
                }
                dawdle(&mut random);
            }
        });
        let mut random = 3;
        let large: [&[u8]; 1] = [&[0; 1500]];
        for id in 0..CLOSE_CALLS {
            let payload = if id % 4 == 0 { &large[..] } else { &[] };
            while send(&NewPacket::in_band(id, payload)) {
                bell.wait("the writer");
            }
            dawdle(&mut random);
        }
    });
}

#[test]
fn a_packet_sent_while_the_host_goes_to_sleep_wakes_it() {
    let (memory, _) = scattered_pair(1);
    let mut sender = GuestSender::new(memory.clone());
    let mut incoming = IncomingRing::new(memory).unwrap();
    let mut buffer = Vec::new();
    let drain = move || {
        let mut count = 0;
        incoming.mask();
        while incoming.receive(&mut buffer).unwrap().is_some() {
            count += 1;
        }
        let _ = incoming.publish();
        (count, incoming.unmask().unwrap())
    };
    packets_meet_sleepers(|packet| sender.send(packet), drain);
}

#[test]
fn a_packet_sent_while_the_guest_goes_to_sleep_wakes_it() {
    let (_, memory) = scattered_pair(1);
    let mut receiver = GuestReceiver::new(memory.clone());
    let mut outgoing = OutgoingRing::new(memory).unwrap();
    let mut buffer = Vec::new();
    let drain = move || {
        let mut count = 0;
        receiver.begin_read();
        while receiver.receive(&mut buffer).is_some() {
            count += 1;
        }
        let _ = receiver.close();
        (count, receiver.end_read())
    };
    packets_meet_sleepers(|packet| outgoing.write(packet).map(|()| outgoing.publish()), drain);
}

#[test]
fn space_freed_while_the_host_goes_to_sleep_wakes_it() {
    let (_, memory) = scattered_pair(1);
    let mut receiver = GuestReceiver::new(memory.clone());
    let mut outgoing = OutgoingRing::new(memory).unwrap();
    let mut buffer = Vec::new();
    let send = |packet: &NewPacket<'_>| match outgoing.write(packet) {
        Err(WriteError::Full { needed }) => {
            !outgoing.wait_for_room(needed).unwrap().0 || outgoing.write(packet).is_err()
        }
        result => {
            result.unwrap();
            let _ = outgoing.publish();
            false
        }
    };
    let read = move || receiver.receive(&mut buffer).is_some().then(|| receiver.close());
    room_meets_sleepers(send, read);
}

#[test]
fn space_freed_while_the_guest_goes_to_sleep_wakes_it() {
    let (memory, _) = scattered_pair(1);
    let mut sender = GuestSender::new(memory.clone());
    let mut incoming = IncomingRing::new(memory).unwrap();
    let mut buffer = Vec::new();
    let send = |packet: &NewPacket<'_>| match sender.send(packet) {
        Err(WriteError::Full { needed }) => {
            if sender.set_pending(needed) {
                sender.set_pending(0);
                let _ = sender.send(packet).unwrap();
                return false;
            }
            true
        }
        result => {
            let _ = result.unwrap();
            sender.set_pending(0);
            false
        }
    };
    let read = move || incoming.receive(&mut buffer).unwrap().is_some().then(|| incoming.publish());
    room_meets_sleepers(send, read);
}
