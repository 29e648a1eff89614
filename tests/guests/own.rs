//! Devices that a library user adds to a machine, and how their failures are reported: this file is the example.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use viridian::Builder;
use viridian::config::KernelSource;
use viridian::hyperv::HvStatus;
use viridian::hyperv::hypercall::CallCode;
use viridian::machine::Capture;
use viridian::machine::{AccessError, Guest};
use viridian::machine::{End, Machine, MachineError, PauseError};
use viridian::machine::{Event, Failure};
use viridian::platform::MmioDevice;
use viridian::platform::MsrDevice;
use viridian::platform::{PortDevice, PowerEvent};
use viridian::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use viridian::vmbus::{Guid, interface};

use super::command::image;
use crate::common::patience::grown;

const LONG: Duration = Duration::from_secs(60);
const PORT: u16 = 0x300;
const MMIO: u64 = 0xd000_0000;
const MSR: u32 = 0x1234_5678;
const CALL: CallCode = CallCode(0x7f01);

/// Returns a machine with the guest image `own`, whose actions are on its command line.
fn own(command_line: impl Into<String>) -> Builder {
    Builder::new().kernel(image("own")).cmdline(command_line).capture_console().timeout(grown(LONG))
}

fn start(builder: Builder) -> Machine {
    builder.start().unwrap()
}

/// Returns the guest image that uses disks.
fn embedded() -> KernelSource {
    KernelSource::Embedded { name: "vsc", bytes: viridian::internals::guest_images::EMBEDDED }
}

/// Waits for the line of an action, and returns the part after its name.
fn line(console: &Capture, name: &str) -> String {
    console.wait_for(&format!("{name}: "), grown(LONG)).unwrap();
    let line = String::from_utf8(console.wait_for("\n", grown(LONG)).unwrap()).unwrap();
    line.trim_end().to_owned()
}

fn failures(machine: &Machine) -> Vec<String> {
    machine
        .events()
        .filter_map(|event| if let Event::Failed(failure) = event { Some(failure.to_string()) } else { None })
        .collect()
}

/// Keeps the last bytes written, and reads as their complement.
#[derive(Default)]
struct Inverter([u8; 8]);

impl Inverter {
    fn take(&mut self, data: &[u8]) {
        self.0[..data.len()].copy_from_slice(data);
    }

    fn give(&self, data: &mut [u8]) {
        data.iter_mut().zip(self.0).for_each(|(to, from)| *to = !from);
    }
}

impl PortDevice for Inverter {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        assert_eq!(offset, 0);
        self.give(data);
    }

    fn write(&mut self, _offset: u16, data: &[u8]) -> Option<PowerEvent> {
        self.take(data);
        None
    }
}

/// A device that stores bytes.
struct Cells(Vec<u8>);

impl MmioDevice for Cells {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let offset = offset as usize;
        data.copy_from_slice(&self.0[offset..offset + data.len()]);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<PowerEvent> {
        let offset = offset as usize;
        self.0[offset..offset + data.len()].copy_from_slice(data);
        None
    }
}

/// Accepts even values. Reads as the last value and the VP that reads.
#[derive(Default)]
struct Even(u64);

impl MsrDevice for Even {
    fn read(&mut self, vp: u32, number: u32) -> Option<u64> {
        assert_eq!(number, MSR);
        Some(self.0 * 100 + u64::from(vp))
    }

    fn write(&mut self, _vp: u32, _number: u32, value: u64) -> bool {
        let even = value.is_multiple_of(2);
        if even {
            self.0 = value;
        }
        even
    }
}

#[test]
fn a_guest_can_use_ports_mmio_and_msrs_of_a_library_user() {
    for hv in ["on", "off"] {
        let builder = own(format!("port={PORT} mmio={MMIO} msr={MSR}"))
            .hv(hv.parse().unwrap())
            .ports(PORT..PORT + 4, |_| Inverter::default())
            .mmio(MMIO..MMIO + 0x1000, |_| Cells(vec![0; 0x1000]))
            .msrs(MSR..MSR + 1, |_| Even::default());
        let machine = start(builder);
        let console = machine.console().unwrap();
        assert_eq!(line(console, "port"), "eeddccbb");
        assert_eq!(line(console, "mmio"), "1122334455667788, 77, 11223344");
        // 13 is #GP; 99 stands for no fault in the runtime's fault.h.
        let told = line(console, "msr");
        assert!(told.ends_with(" 13, value 600"), "{told}");
        assert_eq!(failures(&machine), [""; 0]);
        let exits = machine.exits();
        let end = machine.wait();
        assert!(matches!(end, End::Exited(0)), "{end}");
        assert!(exits.mmio_reads >= 3 && exits.mmio_writes >= 1 && exits.msr_writes >= 2 && exits.port_reads >= 1);
        assert!(exits.total() > exits.port_writes, "{exits:?}");
    }
}

#[test]
fn the_error_for_a_range_in_use_names_its_owner() {
    let error = |builder: Builder| match builder.start() {
        Err(error @ MachineError::Own { .. }) => error.to_string(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it runs"),
    };
    let mmio = |range| error(own("").memory(64 << 20).mmio(range, |_| Cells(Vec::new())));
    assert!(mmio(0x1000..0x2000).contains("memory"));
    assert!(mmio((64 << 20) - 1..64 << 20).contains("memory"));
    assert!(mmio(0xfec0_0000..0xfec0_0010).contains("IOAPIC"));
    assert!(mmio(0xfee0_0000..0xfee0_0010).contains("local APIC"));
    assert!(mmio(0xfffb_c000..0xfffb_d000).contains("KVM"));
    assert!(mmio(5..5).contains("no address"));
    let ports = |range| error(own("").ports(range, |_| Inverter::default()));
    assert!(ports(0x3ff..0x401).contains("0x3f8"), "the serial port's");
    assert!(ports(0xe0..0xf0).contains("hypercall page"));
    let msrs = |range| error(own("").msrs(range, |_| Even::default()));
    assert!(msrs(0x4000_0000..0x4000_0001).contains("Hyper-V"));
    assert!(msrs(0x800..0x801).contains("local APIC"));
    let twice = own("").msrs(1..3, |_| Even::default()).msrs(2..4, |_| Even::default());
    assert!(error(twice).contains("another device"));
    let broken = own("").ports(PORT..PORT + 1, |_| -> Inverter { panic!("no such part") });
    assert!(error(broken).contains("making the device panicked: no such part"));
    let broken = own("").hypercalls(|_, _| panic!("no such call"));
    assert!(error(broken).contains("no such call"));
}

/// Answers [`CALL`], whose input is the address of a page.
fn page_call(answer: impl Fn(&Guest, u64) -> Result<u64, HvStatus> + Clone + Send + Sync + 'static) -> Builder {
    own(format!("call={}", CALL.0)).hypercalls(move |calls, guest| {
        let (guest, answer) = (guest.clone(), answer.clone());
        calls.simple(CALL, "Page", None, move |_call, page: u64| answer(&guest, page));
    })
}

#[test]
fn a_hypercall_handler_reads_and_writes_the_guests_memory() {
    let builder = page_call(|guest, page| {
        let mut text = [0; 14];
        guest.read(page, &mut text).map_err(|_| HvStatus::INVALID_PARAMETER)?;
        assert_eq!(&text, b"from the guest");
        guest.write(page, b"from the host\0").map_err(|_| HvStatus::INVALID_PARAMETER)?;
        // Accesses beyond memory and across its end fail completely.
        let end = 256 << 20;
        assert!(matches!(guest.read(end - 1, &mut text), Err(AccessError::Memory { .. })));
        assert!(matches!(guest.write(end - 1, b"xx"), Err(AccessError::Memory { .. })));
        assert!(matches!(guest.write(u64::MAX, b"xx"), Err(AccessError::Memory { .. })));
        Ok(7)
    });
    let machine = start(builder);
    assert_eq!(line(machine.console().unwrap(), "call"), "status 0, output 7, page \"from the host\"");
    assert_eq!(failures(&machine), [""; 0]);
    let guest = machine.guest();
    machine.wait();
    assert!(matches!(guest.write(0, b"x"), Err(AccessError::NoGuest)), "it is gone");
}

#[test]
fn a_hypercall_handler_reaches_the_registers_of_its_vp_and_no_others() {
    let builder = page_call(|guest, page| {
        let mut registers = guest.registers(0).unwrap();
        assert_eq!(registers.rcx as u16, CALL.0, "the input value");
        let system = guest.system_registers(0).unwrap();
        assert!(system.cr0 & 1 != 0 && system.cs.l == 1, "{system:?}");
        assert!(matches!(guest.registers(1), Err(AccessError::Running(1))), "it waits to be started");
        assert!(matches!(guest.registers(2), Err(AccessError::NoVp { vp: 2, count: 2 })));
        // The handler replaces the status of the call.
        registers.rax = HvStatus::ACCESS_DENIED.0.into();
        guest.set_registers(0, &registers).unwrap();
        assert_eq!(guest.registers(0).unwrap().rax, 6);
        Ok(page)
    });
    let machine = start(builder.cpus(2));
    let told = line(machine.console().unwrap(), "call");
    assert!(told.starts_with("status 6, "), "{told}");
    assert_eq!(failures(&machine), [""; 0]);
    assert!(matches!(machine.wait(), End::Exited(0)));
}

#[test]
fn a_hypercall_handler_stops_the_machine() {
    let machine = start(page_call(|guest, _| {
        guest.stop(End::Exited(42));
        Ok(0)
    }));
    let end = machine.wait();
    assert!(matches!(end, End::Exited(42)), "{end}");
}

#[test]
fn a_handler_that_pauses_its_own_machine_gets_an_error() {
    let (give, given) = mpsc::channel::<Arc<Machine>>();
    let (tell, told) = mpsc::channel();
    let (given, tell) = (Arc::new(Mutex::new(given)), Arc::new(Mutex::new(tell)));
    let machine = Arc::new(start(page_call(move |_, _| {
        let machine = given.lock().unwrap().recv().unwrap();
        tell.lock().unwrap().send(machine.pause()).unwrap();
        Ok(0)
    })));
    give.send(machine.clone()).unwrap();
    assert_eq!(told.recv().unwrap(), Err(PauseError::FromWithin));
    assert!(line(machine.console().unwrap(), "call").starts_with("status 0,"), "the guest goes on");
}

#[test]
fn a_hypercall_handler_that_panics_fails_its_call_and_is_named_as_the_users() {
    let machine = start(page_call(|_, _| panic!("out of {}", "luck")));
    let told = line(machine.console().unwrap(), "call");
    assert!(told.starts_with("status 113, output 0, "), "{told}");
    let failed = failures(&machine);
    assert_eq!(failed, ["the handler of hypercall Page (0x7f01) panicked: out of luck"]);
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "the guest goes on: {end}");
}

#[test]
fn a_failure_ends_a_machine_with_end_on_failure() {
    let machine = start(page_call(|_, _| panic!("out of luck")).end_on_failure());
    let end = machine.wait();
    let End::DeviceFailed(Failure::Panicked { what, message }) = &end else { panic!("{end}") };
    assert_eq!((what.as_str(), message.as_str()), ("the handler of hypercall Page (0x7f01)", "out of luck"));
    assert_eq!(end.exit_code(), 125);
    assert!(!end.to_string().contains("Viridian"), "{end}");
}

/// The error of a [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    PanicsAtOpen,
    PanicsInService,
    RefusesService,
}

/// A device that the embedded guest recognises as a disk controller, and that fails.
struct Disk(Fault);

impl Vsp for Disk {
    fn offer(&self) -> Offer {
        Offer::new(interface::SCSI, Guid::new(7))
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        assert!(self.0 != Fault::PanicsAtOpen, "no spindle");
        Ok(Box::new(Disk(self.0)))
    }
}

impl Handler for Disk {
    fn service(&mut self, _channel: &mut Channel) -> Result<(), ServiceError> {
        match self.0 {
            Fault::RefusesService => Err(ServiceError::Protocol("out of sectors".into())),
            _ => panic!("head crash"),
        }
    }
}

#[test]
fn the_failure_of_a_vmbus_device_is_an_event_and_optionally_an_end() {
    for (fault, word) in [
        (Fault::PanicsAtOpen, "panicked: no spindle"),
        (Fault::PanicsInService, "panicked: head crash"),
        (Fault::RefusesService, "again: out of sectors"),
    ] {
        let builder =
            Builder::new().kernel_source(embedded()).capture_console().timeout(grown(LONG)).device(move || Disk(fault));
        let machine = start(builder.clone());
        let event = machine.events().wait(grown(LONG)).unwrap();
        let Event::Failed(Failure::Channel(failure)) = event else { panic!("{event:?}") };
        assert_eq!((failure.interface, failure.instance), (interface::SCSI, Guid::new(7)));
        assert!(failure.channel.is_some() && failure.to_string().contains(word), "{failure}");
        assert!(machine.wait_timeout(Duration::ZERO).is_err() || fault == Fault::PanicsAtOpen, "the guest goes on");

        let end = start(builder.end_on_failure()).wait();
        let End::DeviceFailed(failure) = &end else { panic!("{end}") };
        assert!(failure.to_string().contains(word), "{failure}");
        let json = serde_json::to_value(&end).unwrap();
        assert_eq!((&json["kind"], &json["exit-code"]), (&"device-failed".into(), &125.into()));
    }
}

/// Panics at each access.
struct Broken;

impl PortDevice for Broken {
    fn read(&mut self, _: u16, _: &mut [u8]) {
        panic!("port read");
    }

    fn write(&mut self, _: u16, _: &[u8]) -> Option<PowerEvent> {
        panic!("port write");
    }
}

impl MmioDevice for Broken {
    fn read(&mut self, _: u64, _: &mut [u8]) {
        panic!("read");
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Option<PowerEvent> {
        panic!("write");
    }
}

impl MsrDevice for Broken {
    fn read(&mut self, _: u32, _: u32) -> Option<u64> {
        panic!("rdmsr");
    }

    fn write(&mut self, _: u32, _: u32, _: u64) -> bool {
        panic!("wrmsr");
    }
}

#[test]
fn a_device_that_panics_is_disabled_and_the_guest_continues() {
    let builder = own(format!("port={PORT} mmio={MMIO} msr={MSR} times=2"))
        .ports(PORT..PORT + 4, |_| Broken)
        .mmio(MMIO..MMIO + 8, |_| Broken)
        .msrs(MSR..MSR + 1, |_| Broken);
    let machine = start(builder);
    let console = machine.console().unwrap();
    for _ in 0..2 {
        assert_eq!(line(console, "port"), "ffffffff");
        assert_eq!(line(console, "mmio"), "ffffffffffffffff, ff, ffffffff");
        assert_eq!(line(console, "msr"), "faults 13 13 13, value 0");
    }
    let expected = [
        "the device at ports 0x300..0x304 panicked: port write",
        "the device at addresses 0xd0000000..0xd0000008 panicked: write",
        "the device at MSRs 0x12345678..0x12345679 panicked: wrmsr",
    ];
    assert_eq!(failures(&machine), expected, "each once");
    assert!(matches!(machine.wait(), End::Exited(0)));
}

#[test]
fn a_program_interrupts_its_guest_by_line_message_and_nmi() {
    let machine = start(own("line=5 message nmi"));
    let (console, guest) = (machine.console().unwrap(), machine.guest());
    assert_eq!(line(console, "line"), "ready");
    guest.pulse_line(5).unwrap();
    assert_eq!(line(console, "line"), "vector 41 came");
    assert_eq!(line(console, "message"), "ready");
    guest.send_message(0xfee0_0000, 0x42).unwrap();
    assert_eq!(line(console, "message"), "vector 42 came");
    assert_eq!(line(console, "nmi"), "ready");
    guest.send_nmi(0).unwrap();
    assert_eq!(line(console, "nmi"), "vector 2 came");
    assert!(matches!(guest.pulse_line(24), Err(AccessError::Line(24))));
    assert!(matches!(guest.send_message(0x1000, 0x42), Err(AccessError::MessageAddress(0x1000))));
    assert!(matches!(guest.send_message(0x1_fee0_0000, 0x42), Err(AccessError::MessageAddress(_))));
    assert!(matches!(guest.send_nmi(1), Err(AccessError::NoVp { vp: 1, count: 1 } | AccessError::NoGuest)));
    assert!(matches!(machine.wait(), End::Exited(0)));
}

#[test]
fn a_program_reads_and_writes_the_memory_of_a_running_guest() {
    let machine = start(own("memory"));
    let guest = machine.guest();
    let address: u64 = line(machine.console().unwrap(), "memory").trim_start_matches("at ").parse().unwrap();
    guest.write(address, &0x0123_4567_89ab_cdefu64.to_le_bytes()).unwrap();
    assert_eq!(line(machine.console().unwrap(), "memory"), "123456789abcdef");
    assert!(matches!(machine.wait(), End::Exited(0)));
}

#[test]
fn a_program_reads_and_sets_the_registers_of_a_paused_guest() {
    let machine = start(own("registers").cpus(2));
    let guest = machine.guest();
    assert_eq!(line(machine.console().unwrap(), "registers"), "ready");
    assert!(matches!(guest.registers(0), Err(AccessError::Running(0))));
    assert!(matches!(guest.set_registers(0, &Default::default()), Err(AccessError::Running(0))));
    let mut registers = loop {
        machine.pause().unwrap();
        let registers = guest.registers(0).unwrap();
        if registers.rbx == 0x1234 {
            break registers;
        }
        machine.resume();
    };
    assert_eq!(guest.registers(0).unwrap().rip, registers.rip, "it stands still");
    assert!(guest.registers(1).is_ok(), "it waits to be started");
    assert_eq!(guest.system_registers(0).unwrap().cs.l, 1);
    (registers.rbx, registers.r12) = (0x5678, 0xfeed);
    guest.set_registers(0, &registers).unwrap();
    machine.resume();
    assert_eq!(line(machine.console().unwrap(), "registers"), "feed");
    assert!(matches!(machine.wait(), End::Exited(0)));
}

#[test]
fn registers_are_accessible_wherever_the_guest_is_paused() {
    // The guest prints without end, so most pauses stop it in an access.
    let builder =
        Builder::new().kernel(image("exits")).cmdline("spew=1000000000").capture_console().timeout(grown(LONG));
    let machine = start(builder);
    let guest = machine.guest();
    let mut reached = 0;
    while reached < 100 {
        machine.pause().unwrap();
        match guest.registers(0) {
            Ok(registers) => {
                guest.set_registers(0, &registers).unwrap();
                reached += 1;
            }
            // The console's thread is slow. The VP waits for room, and completes its access when there is some.
            Err(AccessError::InAccess(0)) => {}
            Err(error) => panic!("{error}"),
        }
        machine.resume();
    }
    machine.console().unwrap().wait_for("\n", grown(LONG)).unwrap();
    let printed = String::from_utf8(machine.console().unwrap().take()).unwrap();
    let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let places: Vec<_> = whole.lines().map(|line| u64::from_str_radix(&line[..16], 16).unwrap()).collect();
    assert!(places.windows(2).all(|pair| pair[0] + 64 == pair[1]), "a line was lost or doubled: {places:?}");
    machine.stop(End::Terminated);
    machine.wait();
}

#[test]
fn devices_are_made_for_each_life_and_restarts_are_events() {
    let made = Arc::new(Mutex::new(0));
    let count = made.clone();
    let builder = Builder::new()
        .kernel(image("exits"))
        .cmdline("reset=acpi")
        .on_reset(viridian::config::OnReset::Restart)
        .timeout(grown(LONG))
        .ports(PORT..PORT + 1, move |guest| {
            guest.write(0x9_0000, b"before the guest runs").unwrap();
            *count.lock().unwrap() += 1;
            Inverter::default()
        });
    let machine = start(builder);
    let mut events = machine.events();
    assert_eq!(events.wait(grown(LONG)), Some(Event::Restarted));
    assert_eq!(events.wait(grown(LONG)), Some(Event::Restarted));
    machine.stop(End::Terminated);
    assert!(matches!(machine.wait(), End::Terminated));
    assert!(*made.lock().unwrap() >= 2);
}
