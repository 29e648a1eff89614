use super::*;
use crate::console::{Capture, Console};
use std::sync::atomic::{AtomicUsize, Ordering};

const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_IDENTIFICATION: u16 = 2;
const LINE_STATUS: u16 = 5;
const DATA_READY: u8 = 1;

struct Bench {
    serial: Arc<Mutex<Serial>>,
    capture: Capture,
    interrupts: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let (console, capture) = Console::capture();
        let interrupts = Arc::new(AtomicUsize::new(0));
        let line = interrupts.clone();
        let interrupt = Box::new(move || _ = line.fetch_add(1, Ordering::Relaxed));
        let serial = Arc::new(Mutex::new(Serial::new(interrupt, console.output(), console.input())));
        listen(&serial, &console.input());
        Self { serial, capture, interrupts }
    }

    fn get(&self, register: u16) -> u8 {
        let mut data = [0];
        self.serial.lock().read(register, &mut data);
        data[0]
    }

    fn set(&self, register: u16, value: u8) {
        assert_eq!(self.serial.lock().write(register, &[value]), None);
    }

    /// Reads as a driver does: while the line status has the data-ready bit.
    fn receive(&self) -> Vec<u8> {
        std::iter::from_fn(|| (self.get(LINE_STATUS) & DATA_READY != 0).then(|| self.get(DATA.into()))).collect()
    }
}

#[test]
fn sent_bytes_reach_the_console() {
    let bench = Bench::new();
    b"hello".iter().for_each(|byte| bench.set(DATA.into(), *byte));
    assert_eq!(bench.capture.take(), b"hello");
}

#[test]
fn any_number_of_typed_bytes_raises_an_interrupt_and_can_be_read() {
    let bench = Bench::new();
    bench.set(INTERRUPT_ENABLE, 1);
    let text: Vec<u8> = (0..100_000).map(|number| number as u8).collect();
    text.chunks(777).for_each(|part| bench.capture.type_bytes(part).unwrap());
    assert!(bench.interrupts.load(Ordering::Relaxed) > 0);
    assert_eq!(bench.get(INTERRUPT_IDENTIFICATION) & 0x0f, 0x04);
    assert_eq!(bench.receive(), text);
    assert_eq!(bench.receive(), b"");
}

#[test]
fn bytes_typed_before_the_driver_starts_wait_for_it() {
    let bench = Bench::new();
    bench.capture.type_text("early").unwrap();
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 0);
    bench.set(INTERRUPT_ENABLE, 1);
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 1);
    assert_eq!(bench.receive(), b"early");
}

#[test]
fn input_waits_in_loopback_mode_and_arrives_after_it() {
    let bench = Bench::new();
    bench.set(MODEM_CONTROL.into(), 0x10);
    bench.capture.type_text("typed").unwrap();
    bench.set(DATA.into(), b'x');
    assert_eq!(bench.receive(), b"x");
    bench.set(MODEM_CONTROL.into(), 0);
    assert_eq!(bench.receive(), b"typed");
    assert_eq!(bench.capture.take(), b"");
}

#[test]
fn a_dropped_port_is_not_kept_alive_by_its_console() {
    let bench = Bench::new();
    let serial = Arc::downgrade(&bench.serial);
    drop(bench.serial);
    assert!(serial.upgrade().is_none());
    bench.capture.type_text("to nobody").unwrap();
}

#[test]
fn writing_the_divisor_latch_does_not_print() {
    let bench = Bench::new();
    bench.serial.lock().write(3, &[0x83]);
    bench.serial.lock().write(0, &[0x01, 0x00]);
    bench.serial.lock().write(3, &[0x03]);
    assert_eq!(bench.capture.take(), b"");
}
