use super::*;
use crate::console::Console;
use crate::device::contract::device_contract;
use crate::kvm::gate::Gate;
use crate::platform::clock::MachineClock;
use crate::platform::ioapic::Ioapic;
use crate::platform::{Platform, Wiring, ports};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Returns a platform, the number of its serial interrupts, and its console.
fn platform() -> (Platform, Arc<AtomicUsize>, crate::console::Capture) {
    let (console, capture) = Console::capture();
    let interrupts = Arc::new(AtomicUsize::new(0));
    let raised = interrupts.clone();
    let mut platform = Platform::new(Wiring {
        serial_interrupt: Box::new(move || {
            raised.fetch_add(1, Ordering::SeqCst);
        }),
        system_control_interrupt: Box::new(|_| ()),
        utc: Box::new(|| Duration::from_secs(1 << 30)),
        clock: MachineClock::new(),
        memory_size: 64 << 20,
        video_memory: None,
        output: console.output(),
        input: console.input(),
    });
    platform.add_interval_timer();
    (platform, interrupts, capture)
}

/// A device that can be attached again under its name.
struct Named(Arc<dyn Device>);

impl Device for Named {
    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn pause(&self) {
        self.0.pause();
    }

    fn resume(&self) {
        self.0.resume();
    }

    fn inspect(&self) -> Value {
        self.0.inspect()
    }
}

fn named(name: &str) -> Arc<Named> {
    let device = platform().0.devices().into_iter().find(|device| device.identity().name == name);
    Arc::new(Named(device.unwrap()))
}

device_contract! {
    the_serial_port_keeps_the_contract: named("serial");
    the_real_time_clock_keeps_the_contract: named("rtc");
    the_power_management_keeps_the_contract: named("acpi");
    the_keyboard_controller_keeps_the_contract: named("i8042");
    the_display_keeps_the_contract: named("cga");
    the_pci_bus_keeps_the_contract: named("pci");
    the_interval_timer_keeps_the_contract: named("pit");
    the_clock_keeps_the_contract: named("clock");
    the_ioapic_keeps_the_contract: Arc::new(Named(device("ioapic", &Arc::<Mutex<Ioapic>>::default())));
}

#[test]
fn input_typed_during_a_pause_arrives_after_it() {
    let (platform, interrupts, capture) = platform();
    let gate = Arc::new(Gate::new());
    let serial = platform.devices().into_iter().find(|device| device.identity().name == "serial").unwrap();
    // Enable interrupts for received bytes.
    platform.write(ports::SERIAL.start + 1, &[1], &gate);
    serial.pause();
    capture.type_text("x").unwrap();
    assert_eq!(interrupts.load(Ordering::SeqCst), 0, "a paused device raises no interrupt");
    serial.resume();
    assert_eq!(interrupts.load(Ordering::SeqCst), 1);
    let mut byte = [0];
    platform.read(ports::SERIAL.start, &mut byte);
    assert_eq!(&byte, b"x");
}

#[test]
fn the_timers_stop_during_a_pause() {
    let (platform, ..) = platform();
    let clock = platform.devices().into_iter().find(|device| device.identity().name == "clock").unwrap();
    let read = || {
        let mut bytes = [0; 4];
        platform.read(ports::PM_TIMER, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let first = read();
    while read() == first {}
    clock.pause();
    let paused = read();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(read(), paused);
    clock.resume();
    while read() == paused {}
}
