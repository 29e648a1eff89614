//! KVM itself: virtual machines, their memory, virtual processors (VPs), interrupts, exits.
//!
//! Outside of this module, only `memory`, `host` and a few named files contain unsafe code.
#![allow(unsafe_code)]

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, KVM_PIT_SPEAKER_DUMMY,
    kvm_clock_data, kvm_enable_cap, kvm_msi, kvm_pit_config,
};
use kvm_ioctls::{Cap, IoEventAddress, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, NoDatamatch, VmFd};

pub mod cpuid;
pub mod gate;
pub mod host;
mod pc_chips;
pub mod registers;
pub mod routes;
mod run_page;
mod slots;
mod standing;
pub mod timer;
pub mod tsc;
pub mod vp;
mod vp_state;
mod whereabouts;

pub use vp_state::{Exception, Readiness};
pub use whereabouts::{Mode, Whereabouts};

use crate::host::event::EventFd;
use crate::host::limited;
use crate::memory::{GuestMemory, Ram};
use host::{Host, HostError};
use routes::{Message, PINS, Route, Routes};
use slots::Slots;

/// The three pages that KVM needs on Intel processors without unrestricted guest mode: below the BIOS, in the hole.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// Guest physical addresses that KVM may use for itself.
pub const KVM_PAGES: std::ops::Range<u64> = IDENTITY_MAP_ADDRESS..TSS_ADDRESS as u64 + 0x3000;

/// KVM's local APICs count at this frequency, in Hz.
pub const APIC_FREQUENCY: u64 = 1_000_000_000;

/// The interrupt controllers that KVM emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irqchip {
    /// Local APICs, IOAPIC, PIC and interval timer: a PC's set.
    Full,
    /// Local APICs only. The VMM emulates the interrupt lines and sends them as messages.
    Split,
}

/// One KVM virtual machine: a child partition.
pub struct Vm {
    vm: VmFd,
    slots: Slots,
    irqchip: Irqchip,
    routes: Routes,
    tsc_deadline: bool,
    hyperv: bool,
}

impl Vm {
    /// Creates a virtual machine with the memory of its start and interrupt controllers, and no VP yet.
    ///
    /// Some hosts' KVM lacks the full set: [`irqchip`](Self::irqchip) returns what the machine got.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl, or an error if KVM lacks a feature that every machine needs.
    pub fn new(host: &Host, ram: Ram, irqchip: Irqchip) -> Result<Self, HostError> {
        let vm = host.kvm().create_vm().map_err(HostError::call("a new virtual machine"))?;
        vm.set_tss_address(TSS_ADDRESS).map_err(HostError::call("the task state segment's address"))?;
        // Some versions of KVM do not have this call; those do not need it.
        if vm.check_extension(Cap::SetIdentityMapAddr) {
            vm.set_identity_map_address(IDENTITY_MAP_ADDRESS).map_err(HostError::call("the identity map's address"))?;
        }
        let slots = Slots::new(&vm, ram)?;
        let irqchip = create_irqchip(&vm, irqchip)?;
        let tsc_deadline = vm.check_extension(Cap::TscDeadlineTimer);
        let hyperv = vm.check_extension(Cap::Hyperv);
        let routes = Routes::new(&vm, irqchip)?;
        Ok(Self { vm, slots, irqchip, routes, tsc_deadline, hyperv })
    }

    /// Returns the guest's memory, also what is not added yet.
    pub fn memory(&self) -> &GuestMemory {
        &self.ram().all
    }

    /// Returns the guest's memory by the time at which the guest gets it.
    pub fn ram(&self) -> &Ram {
        self.slots.ram()
    }

    /// Maps a part of the memory that can be added. What is mapped already stays so.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn add_memory(&self, addresses: std::ops::Range<u64>) -> Result<(), HostError> {
        self.slots.add(&self.vm, addresses)
    }

    /// Begins or ends to record which pages of the screen's memory the guest writes.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl, or an error if there is no screen.
    pub fn record_screen(&self, on: bool) -> Result<(), HostError> {
        self.slots.record_screen(&self.vm, on)
    }

    /// Returns the pages of the screen's memory that were written since the last call: a bit for each, the lowest first.
    ///
    /// # Errors
    /// As [`record_screen`](Self::record_screen).
    pub fn screen_writes(&self) -> Result<Vec<u64>, HostError> {
        self.slots.screen_writes(&self.vm)
    }

    /// Returns which interrupt controllers KVM emulates.
    pub fn irqchip(&self) -> Irqchip {
        self.irqchip
    }

    /// Returns `true` if the local APICs have the TSC deadline timer.
    pub fn has_tsc_deadline(&self) -> bool {
        self.tsc_deadline
    }

    /// Returns `true` if KVM implements Hyper-V's MSRs, even if Viridian answers the guest's accesses.
    pub fn has_hyperv(&self) -> bool {
        self.hyperv
    }

    /// Creates the VP with this APIC id. Create VPs in VP-index order, so that KVM's look-ups are direct.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn create_vp(&self, apic_id: u32) -> Result<vp::Vp, HostError> {
        let fd = self.vm.create_vcpu(apic_id.into()).map_err(HostError::call("a new virtual processor"))?;
        vp::Vp::new(fd, self.vm.run_size())
    }

    /// Raises and lowers the interrupt line `line` of KVM's IOAPIC and PICs. For [`Irqchip::Full`].
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn pulse_line(&self, line: u32) -> Result<(), HostError> {
        self.set_line(line, true).and_then(|()| self.set_line(line, false))
    }

    /// Sets the level of an interrupt line as [`pulse_line`](Self::pulse_line) does.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_line(&self, line: u32, active: bool) -> Result<(), HostError> {
        self.vm.set_irq_line(line, active).map_err(HostError::call("an interrupt line"))
    }

    /// Makes KVM return with [`vp::Exit::EndOfInterrupt`] when a processor ends an interrupt of this level-triggered
    /// pin. For [`Irqchip::Split`].
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn watch_level_pin(&self, pin: u32, message: Message) -> Result<(), HostError> {
        self.routes.set(&self.vm, pin, Route::Message(message))
    }

    /// Makes `event` raise a SINT of a VP on KVM's own SynIC, inside KVM, and returns the GSI.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn connect_sint(&self, event: &EventFd, vp: u32, sint: u32) -> Result<u32, HostError> {
        let gsi = self.routes.add(&self.vm, Route::Sint { vp, sint })?;
        self.vm.register_irqfd(event.as_eventfd(), gsi).map_err(HostError::call("a SINT's eventfd"))?;
        Ok(gsi)
    }

    /// Makes the guest's accesses to these ranges of MSRs (first, count) exit to this process, even if KVM implements
    /// the MSRs.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn filter_msrs(&self, ranges: &[(u32, u32)]) -> Result<(), HostError> {
        let args = [KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0];
        let exits = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, args, ..Default::default() };
        self.vm.enable_cap(&exits).map_err(HostError::call("MSR exits"))?;
        // A cleared bit denies KVM the MSR.
        let longest = ranges.iter().map(|(_, count)| count.div_ceil(8) as usize).max().unwrap_or(0);
        let bitmap = vec![0; longest];
        let flags = MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE;
        let range = |(base, msr_count)| MsrFilterRange { flags, base, msr_count, bitmap: &bitmap };
        let ranges: Vec<_> = ranges.iter().copied().map(range).collect();
        self.vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &ranges).map_err(HostError::call("an MSR filter"))
    }

    /// Returns KVM's clock of this machine. On the kernel engine, Hyper-V's reference time follows it.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn clock(&self) -> Result<u64, HostError> {
        self.vm.get_clock().map(|data| data.clock).map_err(HostError::call("the machine's clock"))
    }

    /// Sets KVM's clock of this machine, in nanoseconds.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_clock(&self, clock: u64) -> Result<(), HostError> {
        let data = kvm_clock_data { clock, ..Default::default() };
        self.vm.set_clock(&data).map_err(HostError::call("the machine's new clock"))
    }

    /// Makes a guest's write to I/O port `port` signal `event` inside KVM, without an exit.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn connect_port(&self, event: &EventFd, port: u16, value: Option<u32>) -> Result<(), HostError> {
        let address = IoEventAddress::Pio(port.into());
        match value {
            Some(value) => self.vm.register_ioevent(event.as_eventfd(), &address, value),
            None => self.vm.register_ioevent(event.as_eventfd(), &address, NoDatamatch),
        }
        .map_err(HostError::call("a doorbell"))
    }

    /// Undoes [`connect_port`](Self::connect_port); takes the same arguments.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn disconnect_port(&self, event: &EventFd, port: u16, value: Option<u32>) -> Result<(), HostError> {
        let address = IoEventAddress::Pio(port.into());
        match value {
            Some(value) => self.vm.unregister_ioevent(event.as_eventfd(), &address, value),
            None => self.vm.unregister_ioevent(event.as_eventfd(), &address, NoDatamatch),
        }
        .map_err(HostError::call("a doorbell back"))
    }

    /// Sends an interrupt message.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn send(&self, message: Message) -> Result<(), HostError> {
        let msi = kvm_msi { address_lo: message.address, data: message.data, ..Default::default() };
        self.vm.signal_msi(msi).map(drop).map_err(HostError::call("an interrupt message"))
    }
}

fn create_irqchip(vm: &VmFd, irqchip: Irqchip) -> Result<Irqchip, HostError> {
    if irqchip == Irqchip::Full {
        match vm.create_irq_chip() {
            Ok(()) => {
                if let Err(error) = pc_chips::initialise_pics(vm) {
                    limited::info!(
                        "this KVM does not accept a state for the PICs ({error}): they stay in their reset state"
                    );
                }
                let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
                match vm.create_pit2(pit).map(|()| pc_chips::start_timer(vm)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        limited::info!("this KVM does not accept a state for its timer ({error}): it does not run");
                    }
                    Err(error) => limited::info!("this KVM has no interval timer ({error}): the guest gets none"),
                }
                return Ok(Irqchip::Full);
            }
            Err(error) => limited::info!("this KVM has no IOAPIC and PICs ({error}): Viridian emulates the IOAPIC"),
        }
    }
    let split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, args: [PINS.into(), 0, 0, 0], ..Default::default() };
    vm.enable_cap(&split).map(|()| Irqchip::Split).map_err(HostError::call("local APICs"))
}
