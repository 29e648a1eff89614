//! How fast packets go from one thread to another through a ring, beside `memcpy` of the same bytes in the same run.
//!
//! `cargo bench --bench ring [-- MILLISECONDS]`. Each figure is the best of five rounds that alternate with the others, because
//! a shared machine only ever makes a round slower.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use viridian::partition::memory::{self, PAGE_SIZE};
use viridian::vmbus::buffer::GuestBuffer;
use viridian::vmbus::ring::guest::{GuestReceiver, GuestSender};
use viridian::vmbus::ring::{IncomingRing, NewPacket, OutgoingRing, RingMemory};

/// Data pages of each ring: 256 KiB, as Linux's storage and network drivers have them or more.
const RING_PAGES: u64 = 512;
const ROUNDS: usize = 5;
/// Payloads: a storage request without data is about as small as packets get; a page is what hvsocket and large requests carry.
const SMALL: usize = 16;
const LARGE: usize = 4096;

fn rings() -> (RingMemory, RingMemory) {
    let memory = memory::create(16 << 20, false).expect("4 MiB of memory");
    let pages = 2 * (RING_PAGES as u32 + 1);
    let frames = (0..pages).map(u64::from);
    let range = GuestBuffer::new(&memory, frames, 0, (u64::from(pages) * PAGE_SIZE) as usize).expect("pages in memory");
    RingMemory::pair(&range, RING_PAGES as u32 + 1).expect("two rings")
}

/// Runs `receive` on a thread of its own, `send` on another, and returns packets a second.
/// Either does some work and says how many packets that was.
fn race(time: Duration, mut send: impl FnMut() -> usize + Send, mut receive: impl FnMut() -> usize + Send) -> f64 {
    let stop = AtomicBool::new(false);
    let work = |step: &mut (dyn FnMut() -> usize + Send)| {
        let (mut count, mut idle) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            match step() {
                0 if idle < 2000 => {
                    idle += 1;
                    spin_loop();
                }
                0 => thread::yield_now(),
                packets => {
                    count += packets;
                    idle = 0;
                }
            }
        }
        count
    };
    thread::scope(|scope| {
        scope.spawn(|| work(&mut send));
        let receiver = scope.spawn(|| work(&mut receive));
        let start = Instant::now();
        thread::sleep(time);
        let elapsed = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        receiver.join().expect("the receiver runs to its end") as f64 / elapsed
    })
}

/// The guest publishes each packet, as Linux does; the host reads what is there and gives the room back at once.
fn guest_to_host(time: Duration, length: usize) -> f64 {
    let (memory, _) = rings();
    let mut sender = GuestSender::new(memory.clone());
    let mut incoming = IncomingRing::new(memory).expect("a fresh ring");
    incoming.mask();
    let payload = vec![0x5a; length];
    let mut buffer = Vec::new();
    let send = move || usize::from(sender.send(&NewPacket::in_band(1, &[&payload])).is_ok());
    let receive = move || {
        let mut count = 0;
        while let Some(packet) = incoming.receive(&mut buffer).expect("a sound ring") {
            black_box(packet.payload);
            count += 1;
            if count % BATCH == 0 {
                let _ = incoming.publish();
            }
        }
        let _ = incoming.publish();
        count
    };
    race(time, send, receive)
}

/// How many packets the host handles between two looks at the shared indexes.
const BATCH: usize = 16;

/// The host publishes up to [`BATCH`] packets at a time; the guest reads what is there.
fn host_to_guest(time: Duration, length: usize) -> f64 {
    let (_, memory) = rings();
    let mut receiver = GuestReceiver::new(memory.clone());
    receiver.begin_read();
    let mut outgoing = OutgoingRing::new(memory).expect("a fresh ring");
    let payload = vec![0x5a; length];
    let mut buffer = Vec::new();
    let send = move || {
        let pieces: [&[u8]; 1] = [&payload];
        let packet = NewPacket::in_band(1, &pieces);
        let count = (0..BATCH).take_while(|_| outgoing.write(&packet).is_ok()).count();
        let _ = outgoing.publish();
        count
    };
    let receive = move || {
        let mut count = 0;
        while let Some(packet) = receiver.receive(&mut buffer) {
            black_box(packet.payload);
            count += 1;
            if count % BATCH == 0 {
                let _ = receiver.close();
            }
        }
        let _ = receiver.close();
        count
    };
    race(time, send, receive)
}

/// One thread copies blocks of `length` from one area of a ring's size to another. Returns blocks a second.
fn memcpy(time: Duration, length: usize) -> f64 {
    let source = vec![0x5a; (RING_PAGES * PAGE_SIZE) as usize];
    let mut target = vec![0; source.len()];
    let (start, mut blocks) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        for (from, to) in source.chunks_exact(length).zip(target.chunks_exact_mut(length)) {
            black_box(to).copy_from_slice(black_box(from));
            blocks += 1;
        }
    }
    blocks as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let milliseconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(300);
    let time = Duration::from_millis(milliseconds);
    type Measure = fn(Duration, usize) -> f64;
    let measures: [(&str, Measure, usize); 6] = [
        ("memcpy, 4 KiB blocks", memcpy, LARGE),
        ("guest to host, 4 KiB packets", guest_to_host, LARGE),
        ("host to guest, 4 KiB packets", host_to_guest, LARGE),
        ("memcpy, 16-byte blocks", memcpy, SMALL),
        ("guest to host, 16-byte packets", guest_to_host, SMALL),
        ("host to guest, 16-byte packets", host_to_guest, SMALL),
    ];
    let mut best = [0f64; 6];
    for _ in 0..ROUNDS {
        for (best, (_, measure, length)) in best.iter_mut().zip(&measures) {
            *best = best.max(measure(time, *length));
        }
    }
    for (index, (rate, (name, _, length))) in best.iter().zip(&measures).enumerate() {
        let ratio = rate / best[index / 3 * 3];
        let (millions, gigabytes) = (rate / 1e6, rate * *length as f64 / 1e9);
        println!("{name:<32}{millions:>9.2} M/s{gigabytes:>9.2} GB/s{ratio:>8.2} of memcpy");
    }
}
