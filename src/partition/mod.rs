//! KVM itself: virtual machines, their memory, virtual processors (VPs), interrupts, exits.
//!
//! Unsafe code lives here and nowhere else.
#![allow(unsafe_code)]

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_enable_cap, kvm_msi, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::EventFd;

pub mod cpuid;
pub mod gate;
pub mod host;
pub mod memory;
pub mod vp;

use host::{Host, HostError};
use memory::GuestMemory;

/// Where Intel processors without unrestricted guest mode keep three pages for KVM: below the BIOS, in the hole.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// Interrupt lines of the IOAPIC.
const IOAPIC_LINES: u64 = 24;

/// Which interrupt controllers KVM emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irqchip {
    /// Local APICs, IOAPIC and PIC.
    Full,
    /// Local APICs only: a kernel built without `CONFIG_KVM_IOAPIC`. Interrupt lines are not there.
    Split,
}

/// One KVM virtual machine: a child partition.
pub struct Partition {
    vm: VmFd,
    memory: GuestMemory,
    irqchip: Irqchip,
    tsc_deadline: bool,
}

impl Partition {
    /// Creates a virtual machine with `memory` and interrupt controllers, and no VP yet.
    ///
    /// # Errors
    /// KVM's own, or that it lacks what no machine can do without.
    pub fn new(host: &Host, memory: GuestMemory) -> Result<Self, HostError> {
        let vm = host.kvm().create_vm().map_err(HostError::call("a new virtual machine"))?;
        vm.set_tss_address(TSS_ADDRESS).map_err(HostError::call("the task state segment's address"))?;
        // Not every KVM knows this one, and one that does not, does not need it.
        if vm.check_extension(Cap::SetIdentityMapAddr) {
            vm.set_identity_map_address(IDENTITY_MAP_ADDRESS).map_err(HostError::call("the identity map's address"))?;
        }
        for (slot, region) in memory.iter().enumerate() {
            let host_address =
                region.get_host_address(MemoryRegionAddress(0)).map_err(|_| HostError::UnmappedMemory)? as u64;
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host_address,
                flags: 0,
            };
            // SAFETY: the region is mapped for as long as `memory` lives, which `self` keeps next to the VM.
            unsafe { vm.set_user_memory_region(region) }.map_err(HostError::call("the guest's memory"))?;
        }
        let irqchip = create_irqchip(&vm)?;
        let tsc_deadline = vm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self { vm, memory, irqchip, tsc_deadline })
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Which interrupt controllers KVM emulates here.
    pub fn irqchip(&self) -> Irqchip {
        self.irqchip
    }

    /// Whether the local APICs have the TSC deadline timer.
    pub fn has_tsc_deadline(&self) -> bool {
        self.tsc_deadline
    }

    /// Creates the VP with this APIC id. Call it in VP-index order: KVM's own look-ups are then direct.
    ///
    /// # Errors
    /// KVM's own.
    pub fn create_vp(&self, apic_id: u32) -> Result<vp::Vp, HostError> {
        let fd = self.vm.create_vcpu(apic_id.into()).map_err(HostError::call("a new virtual processor"))?;
        vp::Vp::new(fd, self.vm.run_size())
    }

    /// Has `event` raise the edge-triggered interrupt line `line` of the IOAPIC and the PIC, inside KVM.
    ///
    /// # Errors
    /// KVM's own.
    pub fn connect_line(&self, event: &EventFd, line: u32) -> Result<(), HostError> {
        self.vm.register_irqfd(event, line).map_err(HostError::call("an interrupt line's eventfd"))
    }

    /// Has a guest's write to I/O port `port` signal `event` inside KVM, without an exit.
    ///
    /// # Errors
    /// KVM's own.
    pub fn connect_port(&self, event: &EventFd, port: u16, value: Option<u32>) -> Result<(), HostError> {
        let address = IoEventAddress::Pio(port.into());
        match value {
            Some(value) => self.vm.register_ioevent(event, &address, value),
            None => self.vm.register_ioevent(event, &address, NoDatamatch),
        }
        .map_err(HostError::call("a doorbell"))
    }

    /// Sends a fixed, edge-triggered interrupt `vector` to the processor with this APIC id.
    ///
    /// # Errors
    /// KVM's own.
    pub fn signal_msi(&self, apic_id: u32, vector: u8) -> Result<(), HostError> {
        let msi = kvm_msi {
            address_lo: 0xfee0_0000 | (apic_id & 0xff) << 12,
            address_hi: apic_id & !0xff,
            data: vector.into(),
            ..Default::default()
        };
        self.vm.signal_msi(msi).map(drop).map_err(HostError::call("an interrupt message"))
    }
}

fn create_irqchip(vm: &VmFd) -> Result<Irqchip, HostError> {
    if let Err(error) = vm.create_irq_chip() {
        log::info!("this KVM has no IOAPIC and PIC ({error}): the guest gets none, and serial input is polled");
        let split =
            kvm_enable_cap { cap: Cap::SplitIrqchip as u32, args: [IOAPIC_LINES, 0, 0, 0], ..Default::default() };
        vm.enable_cap(&split).map_err(HostError::call("local APICs"))?;
        return Ok(Irqchip::Split);
    }
    if let Err(error) = vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() }) {
        log::info!("this KVM has no interval timer ({error}): the guest gets none");
    }
    Ok(Irqchip::Full)
}
