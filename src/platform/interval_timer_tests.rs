use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

struct Bench {
    timer: IntervalTimer,
    nanoseconds: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        let nanoseconds = Arc::new(AtomicU64::new(0));
        let clock = nanoseconds.clone();
        let clock = Box::new(move || Duration::from_nanos(clock.load(Ordering::Relaxed)));
        Self { timer: IntervalTimer::new(clock), nanoseconds }
    }

    fn pass(&self, ticks: u64) {
        // A little more, so that rounding does not lose a tick.
        self.nanoseconds.fetch_add(ticks * 1_000_000_000 / 1_193_182 + 1, Ordering::Relaxed);
    }

    fn read(&mut self, port: u16) -> u8 {
        let mut byte = [0];
        self.timer.read(port - 0x40, &mut byte);
        byte[0]
    }

    fn write(&mut self, port: u16, value: u8) {
        assert_eq!(self.timer.write(port - 0x40, &[value]), None);
    }
}

#[test]
fn linux_can_calibrate_its_tsc_with_channel_2() {
    // quick_pit_calibrate: channel 2 in mode 0 from 0xffff. Linux reads its high byte repeatedly.
    let mut bench = Bench::new();
    bench.write(0x61, GATE);
    bench.write(0x43, 0xb0);
    bench.write(0x42, 0xff);
    bench.write(0x42, 0xff);
    for high in (0xf0..=0xff).rev() {
        bench.read(0x42);
        assert_eq!(bench.read(0x42), high);
        bench.pass(256);
    }
}

#[test]
fn port_b_shows_the_output_when_a_count_has_ended() {
    // pit_calibrate_tsc: 10 ms in mode 0.
    let mut bench = Bench::new();
    bench.write(0x61, GATE);
    bench.write(0x43, 0xb0);
    bench.write(0x42, (11_931 & 0xff) as u8);
    bench.write(0x42, (11_931 >> 8) as u8);
    assert_eq!(bench.read(0x61) & OUTPUT, 0);
    bench.pass(11_930);
    assert_eq!(bench.read(0x61) & OUTPUT, 0);
    bench.pass(2);
    assert_eq!(bench.read(0x61) & (OUTPUT | GATE), OUTPUT | GATE);
}

#[test]
fn closing_the_gate_stops_the_count_and_opening_it_continues_or_restarts() {
    for (mode, left) in [(0u8, 1000 - 300), (2, 1000 - 200)] {
        let mut bench = Bench::new();
        bench.write(0x61, GATE);
        bench.write(0x43, 0xb0 | mode << 1);
        bench.write(0x42, 0xe8);
        bench.write(0x42, 0x03);
        bench.pass(100);
        bench.write(0x61, 0);
        bench.pass(5000);
        bench.write(0x61, GATE);
        bench.pass(200);
        bench.write(0x43, 0x80);
        let (low, high) = (bench.read(0x42), bench.read(0x42));
        let count = i32::from(u16::from_le_bytes([low, high]));
        assert!((count - left).abs() <= 1, "mode {mode}: {count}");
    }
}

#[test]
fn a_latched_count_and_status_stay_until_they_are_read() {
    let mut bench = Bench::new();
    bench.write(0x43, 0x34);
    bench.write(0x40, 0x10);
    bench.write(0x40, 0x27);
    bench.pass(16);
    // Status and count of channel 0.
    bench.write(0x43, 0xc2);
    bench.pass(1000);
    bench.write(0x43, 0x00);
    assert_eq!(bench.read(0x40), 0xb4, "output high, both bytes, mode 2");
    assert_eq!([bench.read(0x40), bench.read(0x40)], [0x00, 0x27]);
    assert_ne!(bench.read(0x40), 0x00, "then it is the counter itself");
}

#[test]
fn a_periodic_channel_reloads_and_a_square_wave_counts_by_two() {
    let mut bench = Bench::new();
    for (mode, counts) in [(2u8, [100, 60, 20, 80]), (3, [100, 20, 40, 60])] {
        bench.write(0x43, 0x10 | mode << 1);
        bench.write(0x40, 100);
        for count in counts {
            assert_eq!(bench.read(0x40), count, "mode {mode}");
            bench.pass(40);
        }
    }
}

#[test]
fn any_writes_and_reads_are_answered() {
    let mut bench = Bench::new();
    for command in 0..=255 {
        bench.write(0x43, command);
        for value in [0, 1, 0xff] {
            for port in [0x40, 0x41, 0x42, 0x61] {
                bench.write(port, value);
                bench.pass(u64::from(command) * 0x101);
                bench.read(port);
            }
        }
    }
    assert_eq!(bench.read(0x43), 0xff);
}
