use super::*;
use crate::console::{Capture, Console, ConsoleConfig};
use crate::kvm::gate::Kick;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

struct Bench {
    platform: Platform,
    capture: Capture,
    gate: Arc<Gate>,
    interrupts: Arc<AtomicUsize>,
}

fn wiring(console: &Console, interrupts: &Arc<AtomicUsize>) -> Wiring {
    let [serial, control] = [interrupts.clone(), interrupts.clone()];
    Wiring {
        serial_interrupt: Box::new(move || _ = serial.fetch_add(1, Ordering::Relaxed)),
        system_control_interrupt: Box::new(move |asserted| {
            control.fetch_add(if asserted { 0x100 } else { 0 }, Ordering::Relaxed);
        }),
        utc: Box::new(|| Duration::from_secs(1_000_000_000)),
        clock: MachineClock::new(),
        memory_size: 64 << 20,
        video_memory: None,
        output: console.output(),
        input: console.input(),
    }
}

impl Bench {
    fn new() -> Self {
        let (console, capture) = Console::capture();
        let interrupts = Arc::new(AtomicUsize::new(0));
        let platform = Platform::new(wiring(&console, &interrupts));
        Self { platform, capture, gate: Arc::new(Gate::new()), interrupts }
    }

    fn write(&self, port: u16, data: &[u8]) -> Option<PowerEvent> {
        self.platform.write(port, data, &self.gate)
    }

    fn read<const N: usize>(&self, port: u16) -> [u8; N] {
        let mut data = [0; N];
        self.platform.read(port, &mut data);
        data
    }
}

#[test]
fn every_port_that_ends_or_resets_the_machine_works() {
    let bench = Bench::new();
    assert_eq!(bench.write(0xf4, &[7]), Some(PowerEvent::Exit(7)));
    assert_eq!(bench.write(0xf4, &[1, 2, 3, 4]), Some(PowerEvent::Exit(0x0403_0201)));
    assert_eq!(bench.write(0x64, &[0xfe]), Some(PowerEvent::Reset));
    assert_eq!(bench.write(0x92, &[1]), Some(PowerEvent::Reset));
    assert_eq!(bench.write(0xcf9, &[ports::RESET_VALUE]), Some(PowerEvent::Reset));
    assert_eq!(bench.write(0x604, &[0, 0x34]), Some(PowerEvent::PowerOff));
}

#[test]
fn a_kernel_that_probes_for_a_pc_finds_its_memory_size_and_its_cursor() {
    let bench = Bench::new();
    let cmos = |register: u8| {
        assert_eq!(bench.write(0x70, &[register]), None);
        bench.read::<1>(0x71)[0]
    };
    assert_eq!(
        [cmos(0x15), cmos(0x16), cmos(0x34), cmos(0x35)],
        [0x80, 0x02, 0x00, 0x03],
        "640 KiB, and 48 MiB above 16 MiB"
    );
    assert_eq!(bench.write(0x3d4, &[14, 3]), None);
    assert_eq!(bench.write(0x3d4, &[15]), None);
    assert_eq!(bench.write(0x3d5, &[0x20]), None);
    assert_eq!(bench.read::<2>(0x3d4), [15, 0x20]);
    assert_ne!(bench.read::<1>(0x3da), bench.read::<1>(0x3da), "the retrace comes and goes");
    assert_eq!(bench.read::<1>(0x3d6), [0xff], "nobody is in between");
}

#[test]
fn serial_and_debug_port_share_the_console_and_typing_reaches_the_serial_port() {
    let bench = Bench::new();
    bench.write(0x3f8, b"a");
    bench.platform.write_repeated(0xe9, b"bcd", 1, &bench.gate);
    bench.write(0x3f8, b"e");
    assert_eq!(bench.capture.take(), b"abcde");
    assert_eq!(bench.read(0xe9), [0xe9]);
    bench.write(0x3f9, &[1]);
    bench.capture.type_text("hi").unwrap();
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 1);
    assert_eq!([bench.read::<1>(0x3f8), bench.read(0x3f8)].concat(), b"hi");
}

#[test]
fn the_ports_next_to_clock_timer_and_keyboard_controller_are_unassigned() {
    let bench = Bench::new();
    bench.write(0x70, &[rtc::CENTURY]);
    assert_eq!(bench.read(0x71), [0x20]);
    let timer = bench.read::<4>(0x608);
    while bench.read(0x608) == timer {}
    assert_eq!(bench.read(0x64), [0x14]);
    for port in [0x61, 0x72, 0xe8, 0xcf7, 0xd00, 0x3f7, 0x400] {
        assert_eq!(bench.read(port), [0xff], "{port:#x}");
    }
}

#[test]
fn a_pci_probe_does_not_reset_the_machine() {
    let bench = Bench::new();
    assert_eq!(bench.write(0xcfb, &[1]), None);
    assert_eq!(bench.write(0xcf8, &0x8000_0600u32.to_le_bytes()), None);
    assert_eq!(bench.read(0xcf8), 0x8000_0600u32.to_le_bytes());
    assert_eq!(bench.read(0xcfc), [0xff; 4], "the function does not exist");
}

#[test]
fn the_power_button_raises_the_sci() {
    let bench = Bench::new();
    bench.write(0x602, &[0, 1]);
    bench.platform.power_button().press();
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 0x100);
}

#[test]
fn a_new_platform_receives_the_consoles_input() {
    let (console, capture) = Console::capture();
    let interrupts = Arc::new(AtomicUsize::new(0));
    let first = Platform::new(wiring(&console, &interrupts));
    let second = Platform::new(wiring(&console, &interrupts));
    capture.type_text("x").unwrap();
    let (mut old, mut new) = ([0], [0]);
    first.read(0x3f8, &mut old);
    second.read(0x3f8, &mut new);
    assert_eq!((old, new), ([0], *b"x"));
}

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

#[test]
fn no_device_is_locked_while_a_vp_waits_for_a_stalled_console() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let reader = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    let console = Console::open(&ConsoleConfig::File(path), |event| panic!("{event:?}")).unwrap();
    let platform = Platform::new(wiring(&console, &Arc::new(AtomicUsize::new(0))));
    let gate = Arc::new(Gate::new());

    gate.enter(0, Box::new(NoKick));
    let printed = AtomicUsize::new(0);
    thread::scope(|scope| {
        let vp = scope.spawn(|| {
            while gate.pass() {
                platform.write_repeated(0xe9, &[b'.'; 1024], 1, &gate);
                printed.fetch_add(1024, Ordering::Relaxed);
            }
            gate.leave(0);
        });
        // Without a reader, the VP has to wait.
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, printed.load(Ordering::Relaxed)) != before || before == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(before < 1 << 20, "{before} bytes were printed into a stalled pipe");
        // Other VPs are not delayed, neither by the serial port's lock nor at the gate.
        let mut status = [0];
        platform.read(0x3fd, &mut status);
        assert_eq!(platform.write(0xf4, &[1], &gate), Some(PowerEvent::Exit(1)));
        assert_eq!(platform.write(0x70, &[0], &gate), None);
        gate.pause();
        gate.resume();
        // Reading continues the VP.
        let mut buffer = vec![0; 1 << 16];
        while printed.load(Ordering::Relaxed) == before {
            let _ = rustix::io::read(&reader, &mut buffer);
            thread::yield_now();
        }
        gate.stop();
        vp.join().unwrap();
    });
}
