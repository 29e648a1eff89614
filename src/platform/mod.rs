//! The few classic devices of a small machine: serial port, RTC, ACPI power, reset, exit port, a display's cursor, and a PCI
//! bus without slots.
//!
//! A device is a pure state machine behind [`PortDevice`]: its input is an access, its output a [`PowerEvent`] if the
//! machine must act. `bus` finds the device for a port, `mmio` the one for an address outside of memory, `msrs`
//! the one for an MSR. `Platform` is the complete set of devices. The guest's output and input go through a
//! `console`.
//!
//! No device has a thread or a clock: the machine passes in functions for time and for interrupts. The machine decides
//! what an event means for a run.

pub(crate) mod acpi_power;
pub(crate) mod bus;
pub(crate) mod cga;
pub(crate) mod chip;
mod claims;
pub(crate) mod clock;
pub(crate) mod debug_ports;
pub(crate) mod i8042;
pub(crate) mod interval_timer;
pub(crate) mod ioapic;
pub(crate) mod mmio;
pub(crate) mod msrs;
pub(crate) mod pci;
pub(crate) mod ports;
pub(crate) mod rtc;
pub(crate) mod serial;

pub use mmio::MmioDevice;
pub use msrs::MsrDevice;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::console::{ConsoleInput, ConsoleOutput};
use crate::device::Device;
use crate::host::lock::Mutex;
use crate::kvm::gate::Gate;
use bus::PortBus;
use clock::MachineClock;

/// A request from the guest to its machine, made by accessing a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// The guest turned the machine off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest wrote this value to the exit port.
    Exit(u32),
}

/// A device at I/O ports.
///
/// `offset` is the first accessed port, relative to the device's origin. `data` is 1 to 4 bytes long (3 if a longer
/// access was cut at the end of the range) and never exceeds the range.
pub trait PortDevice: Send {
    /// Fills `data` with what the guest reads.
    fn read(&mut self, offset: u16, data: &mut [u8]);
    /// Handles a write of the guest. Returns an event for the machine, if there is one.
    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent>;
}

/// Raises an edge on an interrupt line. The device calls it; its creator delivers the interrupt, for instance with an
/// irqfd.
pub(crate) type InterruptLine = Box<dyn Fn() + Send>;

/// Asserts and deasserts a level-triggered interrupt line. Its creator remembers the level.
pub(crate) type LevelLine = Box<dyn Fn(bool) + Send>;

/// A clock for a device: the time since an origin that the device defines.
pub(crate) type Clock = Box<dyn Fn() -> Duration + Send>;

/// The resources of the machine for its devices.
pub(crate) struct Wiring {
    /// Raises [`ports::SERIAL_IRQ`].
    pub serial_interrupt: InterruptLine,
    /// [`ports::SCI_IRQ`].
    pub system_control_interrupt: LevelLine,
    /// The wall clock: UTC since the Unix epoch.
    pub utc: Clock,
    /// The clock of the timers.
    pub clock: MachineClock,
    /// Size of the guest's memory in bytes, for the RTC's memory.
    pub memory_size: u64,
    /// The memory of the video function on the PCI bus, if the machine has a screen.
    pub video_memory: Option<Range<u32>>,
    /// Destination of the guest's output.
    pub output: ConsoleOutput,
    /// Source of the guest's input.
    pub input: Arc<ConsoleInput>,
}

/// The power button of a [`Platform`]. Any thread may press it.
#[derive(Clone)]
pub(crate) struct PowerButton(Arc<Mutex<acpi_power::AcpiPower>>);

impl PowerButton {
    /// Presses and releases the button. Presses that the guest has not seen yet count as one.
    pub fn press(&self) {
        self.0.lock().press_power_button();
    }
}

/// The platform's devices on their ports, shared by the VP threads.
///
/// After a reset, the guest gets a new `Platform` on the same console.
pub(crate) struct Platform {
    bus: PortBus,
    output: ConsoleOutput,
    power: Arc<Mutex<acpi_power::AcpiPower>>,
    clock: MachineClock,
    /// The chips as devices of the machine.
    devices: Vec<Arc<dyn Device>>,
}

impl Platform {
    /// Creates the devices and attaches them to their [`ports`].
    pub fn new(wiring: Wiring) -> Self {
        let serial = serial::Serial::new(wiring.serial_interrupt, wiring.output.clone(), wiring.input.clone());
        let serial = Arc::new(Mutex::new(serial));
        serial::listen(&serial, &wiring.input);
        let power = acpi_power::AcpiPower::new(wiring.clock.reader(), wiring.system_control_interrupt);
        let power = Arc::new(Mutex::new(power));
        let cga = Arc::new(Mutex::new(cga::Cga::default()));
        let i8042 = Arc::new(Mutex::new(i8042::I8042::new()));
        let rtc = Arc::new(Mutex::new(rtc::Rtc::new(wiring.utc, wiring.memory_size)));
        let pci = Arc::new(Mutex::new(pci::Pci::new(wiring.video_memory)));
        let devices = vec![
            chip::device("clock", wiring.clock.chip()),
            chip::device("serial", &serial),
            chip::device("rtc", &rtc),
            chip::device("acpi", &power),
            chip::device("i8042", &i8042),
            chip::device("cga", &cga),
            chip::device("pci", &pci),
        ];

        let mut bus = PortBus::new();
        let debug_port = debug_ports::DebugPort::new(wiring.output.clone());
        for (range, origin, device) in [
            (ports::SERIAL, ports::SERIAL.start, serial as bus::SharedDevice),
            (ports::RTC, ports::RTC.start, rtc),
            (ports::I8042_DATA, ports::I8042_DATA.start, i8042.clone()),
            (ports::I8042_COMMAND, ports::I8042_DATA.start, i8042),
            (ports::SYSTEM_CONTROL_A, ports::SYSTEM_CONTROL_A.start, bus::shared(i8042::SystemControlPortA::new())),
            (ports::VIDEO_REGISTERS, ports::VIDEO_REGISTERS.start, cga.clone()),
            (ports::VIDEO_CONTROL, ports::VIDEO_REGISTERS.start, cga),
            (ports::ACPI_POWER, ports::ACPI_POWER.start, power.clone()),
            (ports::PCI, ports::PCI.start, pci),
            (ports::EXIT, ports::EXIT.start, bus::shared(debug_ports::ExitPort)),
            (ports::DEBUG, ports::DEBUG.start, bus::shared(debug_port)),
        ] {
            bus.attach(range, origin, device).expect("the platform's own ranges do not overlap");
        }
        Self { bus, output: wiring.output, power, clock: wiring.clock, devices }
    }

    /// Returns the bus, for devices that the machine adds before the VPs run.
    pub fn bus_mut(&mut self) -> &mut PortBus {
        &mut self.bus
    }

    /// Handles a VP's read of 1, 2 or 4 bytes from `port`.
    #[cfg(test)]
    pub fn read(&self, port: u16, data: &mut [u8]) {
        self.bus.read(port, data);
    }

    /// Handles a VP's write of 1, 2 or 4 bytes to `port`.
    ///
    /// Call it on the VP's own thread. If the VP prints more than the console can hold, it waits at `gate`, without
    /// locks, until there is room or the VP must end.
    #[cfg(test)]
    pub fn write(&self, port: u16, data: &[u8], gate: &Arc<Gate>) -> Option<PowerEvent> {
        self.write_repeated(port, data, data.len(), gate)
    }

    /// Handles string input (`rep ins`): fills `data` by accesses of `size` bytes to the same port.
    pub fn read_repeated(&self, port: u16, data: &mut [u8], size: usize) {
        self.bus.read_repeated(port, data, size);
    }

    /// Handles string output (`rep outs`): writes `data` by accesses of `size` bytes to the same port. See
    /// [`write`](Self::write).
    pub fn write_repeated(&self, port: u16, data: &[u8], size: usize, gate: &Arc<Gate>) -> Option<PowerEvent> {
        let event = self.bus.write_repeated(port, data, size);
        // Only a VP that prints can have to wait.
        if event.is_none() && (ports::SERIAL.contains(&port) || ports::DEBUG.contains(&port)) {
            self.output.wait_for_room(gate);
        }
        event
    }

    /// Adds an interval timer, for machines whose KVM emulates none.
    pub fn add_interval_timer(&mut self) {
        let timer = Arc::new(Mutex::new(interval_timer::IntervalTimer::new(self.clock.reader())));
        self.devices.push(chip::device("pit", &timer));
        for range in [ports::INTERVAL_TIMER, ports::SYSTEM_CONTROL_B] {
            let attached = self.bus.attach(range, ports::INTERVAL_TIMER.start, timer.clone());
            attached.expect("the platform's own ranges do not overlap");
        }
    }

    /// Returns the chips as devices of the machine.
    pub fn devices(&self) -> Vec<Arc<dyn Device>> {
        self.devices.clone()
    }

    /// Returns the power button. A guest with an ACPI driver shuts down when it is pressed.
    pub fn power_button(&self) -> PowerButton {
        PowerButton(self.power.clone())
    }
}

#[cfg(test)]
#[path = "platform_tests.rs"]
mod tests;
