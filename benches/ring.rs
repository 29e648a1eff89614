//! Measures the rate of packets from one thread to another through a ring, beside `memcpy` of the same bytes in the same run.
//!
//! `cargo bench --bench ring [-- MILLISECONDS]`. Each figure is the best of five rounds that alternate with the others, because
//! a shared machine only ever makes a round slower.
//!
//! A packet is copied twice, into the ring and out of it, by two threads at a time. How fast the ring's cache lines get from one core to the
//! other bounds that; "handed over" measures it, by the same copies with nothing but two counters between the threads. Rings that
//! fit into a core's own cache are slower than larger ones, hence two sizes.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use viridian::internals::memory::{self, PAGE_SIZE};
use viridian::internals::vmbus::{GuestReceiver, GuestSender};
use viridian::internals::vmbus::{RingMemory, incoming, outgoing};
use viridian::vmbus::vsp::GuestBuffer;
use viridian::vmbus::vsp::NewPacket;

const ROUNDS: usize = 5;
/// Payloads: a storage request without data is about as small as packets get; a page is what hvsocket and large requests carry.
const SMALL: usize = 16;
const LARGE: usize = 4096;

/// Rings with `pages` of data.
fn rings(pages: u32) -> (RingMemory, RingMemory) {
    let range = buffer(2 * (pages + 1));
    RingMemory::pair(&range, pages + 1).expect("two rings")
}

fn buffer(pages: u32) -> GuestBuffer {
    let memory = memory::create(16 << 20, memory::Backing::Private).expect("16 MiB of memory");
    let length = u64::from(pages) * PAGE_SIZE;
    memory::buffer(&memory, (0..pages).map(u64::from), 0, length as usize).expect("pages in memory")
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
fn guest_to_host(time: Duration, pages: u32, length: usize) -> f64 {
    let (memory, _) = rings(pages);
    let mut sender = GuestSender::new(memory.clone());
    let mut incoming = incoming(memory).expect("a fresh ring");
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

/// The number of packets that the host handles between two reads of the shared indexes.
const BATCH: usize = 16;

/// The host publishes up to [`BATCH`] packets at a time; the guest reads what is there.
fn host_to_guest(time: Duration, pages: u32, length: usize) -> f64 {
    let (_, memory) = rings(pages);
    let mut receiver = GuestReceiver::new(memory.clone());
    receiver.begin_read();
    let mut outgoing = outgoing(memory).expect("a fresh ring");
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

/// The same copies without a ring: two threads, slots of `length` bytes, and a counter for each side.
fn handed_over(time: Duration, pages: u32, length: usize) -> f64 {
    /// Counters on cache lines of their own.
    #[derive(Default)]
    #[repr(align(128))]
    struct Counter(AtomicUsize);

    let memory = buffer(pages);
    let slots = memory.len() / length;
    let (written, read) = (Counter::default(), Counter::default());
    let (source, mut target) = (vec![0x5a; length], vec![0; length]);
    let (mut next_write, mut next_read) = (0, 0);
    let send = || {
        let free = slots - (next_write - read.0.load(Ordering::Acquire));
        let count = free.min(BATCH);
        for _ in 0..count {
            memory.write(next_write % slots * length, &source).expect("a slot");
            next_write += 1;
        }
        written.0.store(next_write, Ordering::Release);
        count
    };
    let receive = || {
        let count = (written.0.load(Ordering::Acquire) - next_read).min(BATCH);
        for _ in 0..count {
            memory.read(next_read % slots * length, &mut target).expect("a slot");
            black_box(&target);
            next_read += 1;
        }
        read.0.store(next_read, Ordering::Release);
        count
    };
    race(time, send, receive)
}

/// One thread copies blocks of `length` from one area of a ring's size to another. Returns blocks a second.
fn memcpy(time: Duration, pages: u32, length: usize) -> f64 {
    let source = vec![0x5a; pages as usize * PAGE_SIZE as usize];
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

type Measure = fn(Duration, u32, usize) -> f64;
const MEASURES: [(&str, Measure); 4] = [
    ("memcpy", memcpy),
    ("handed over", handed_over),
    ("guest to host", guest_to_host),
    ("host to guest", host_to_guest),
];
/// Data pages of each ring, and the packets' payload. 256 KiB is what Linux's storage and network drivers have at least, nearly.
const SETTINGS: [(u32, usize); 3] = [(256, LARGE), (64, LARGE), (64, SMALL)];

fn main() {
    let milliseconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200);
    let time = Duration::from_millis(milliseconds);
    for (pages, length) in SETTINGS {
        println!("payload {length} bytes, ring {} KiB", pages * 4);
        let mut best = [0f64; MEASURES.len()];
        for _ in 0..ROUNDS {
            for (best, (_, measure)) in best.iter_mut().zip(MEASURES) {
                *best = best.max(measure(time, pages, length));
            }
        }
        for (rate, (name, _)) in best.iter().zip(MEASURES) {
            let (millions, gigabytes, ratio) = (rate / 1e6, rate * length as f64 / 1e9, rate / best[0]);
            println!("  {name:<16}{millions:>9.2} M/s{gigabytes:>9.2} GB/s{ratio:>8.2} of memcpy");
        }
    }
}
