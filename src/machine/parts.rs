//! The parts of one life of a guest.

use std::ops::Range;

use kvm_bindings::kvm_cpuid_entry2;

use super::guest::Guest;
use super::interrupts::IOAPIC_PAGE;
use super::{MachineError, Shared};
use crate::boot::layout::FRAMEBUFFER;
use crate::boot::{self, Framebuffer, KernelSource, acpi};
use crate::config::hyperv::Hv;
use crate::config::{Config, IrqchipKind};
use crate::guest_images::EMBEDDED;
use crate::host::limited;
use crate::host::panics::caught;
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::features::EngineKind;
use crate::hyperv::hypercall::Hypercalls;
use crate::kvm::cpuid::Topology;
use crate::kvm::vp::Vp;
use crate::kvm::{Irqchip, KVM_PAGES, Vm};
use crate::memory::{self, GuestMemory, PAGE_SIZE, Ram};
use crate::vsp::screen::config::ScreenSize;

/// The addresses of the local APICs, and of interrupt messages.
const LOCAL_APICS: Range<u64> = 0xfee0_0000..0xfef0_0000;

/// The calls of a life: the standard ones, and what the library's user adds.
pub(super) fn hypercalls(shared: &Shared, guest: &Guest, memory: &GuestMemory) -> Result<Hypercalls, MachineError> {
    let mut calls = Hypercalls::standard();
    if shared.config.memory.discards() {
        let (memory, name) = (memory.clone(), shared.config.name.clone());
        calls.offer_cold_discard(move |addresses| {
            let failed =
                |error: &std::io::Error| limited::warn!(of: &name, "{name}: free memory is not given back: {error}");
            memory::discard(&memory, addresses).inspect_err(failed)
        });
    }
    for add in &shared.calls {
        caught(|| add(&mut calls, guest)).map_err(|message| MachineError::Own {
            what: "hypercalls".into(),
            problem: format!("adding them panicked: {message}"),
        })?;
    }
    let announcer = shared.announcer.clone();
    calls.on_panic(move |what, message| announcer.panicked(what, message));
    Ok(calls)
}

/// The guest physical addresses that no device can claim.
pub(super) fn reserved(config: &Config, ram: &Ram) -> Vec<(Range<u64>, &'static str)> {
    let memory = memory::ranges(config.memory.size.0).into_iter().map(|range| (range, "memory"));
    let window = (ram.reserved(), "for memory that is added later");
    let others = [
        (KVM_PAGES, "KVM's own"),
        (LOCAL_APICS, "the local APICs'"),
        (ram.screen.clone(), "the screen's"),
        (ram.large_screen.clone(), "the screen's"),
        // The IOAPIC's page is reserved here only if KVM emulates it, because then it is not on the bus.
        (if config.irqchip == IrqchipKind::Pc { IOAPIC_PAGE } else { 0..0 }, "the IOAPIC's"),
    ];
    memory.chain([window]).chain(others).filter(|(range, _)| !range.is_empty()).collect()
}

/// Returns a line about the kernel, the engine and the size of a machine.
pub(super) fn summary(config: &Config, engine: EngineKind) -> String {
    let hypervisor = match config.hv {
        Hv::Off => "plain KVM, without Hyper-V".into(),
        Hv::On(_) => format!("the {engine} engine"),
    };
    let kernel = config.kernel.as_ref().map_or("embedded:vsc".into(), ToString::to_string);
    let (disks, adapters) = (config.machine_disks().len(), config.machine_networks().len());
    let (count, size) = (config.cpus.count, config.memory.size);
    format!(
        "{kernel} on {hypervisor}, with {count} VPs, {size} of memory, {disks} disks and {adapters} network adapters"
    )
}

/// Puts kernel, initrd, command line and ACPI tables into guest memory.
pub(super) fn load(config: &Config, partition: &Vm, topology: Topology) -> Result<boot::Entry, MachineError> {
    let size = config.display.size();
    let early = size.map(ScreenSize::early);
    let framebuffer = early.map(|size| Framebuffer { address: FRAMEBUFFER, width: size.width, height: size.height });
    let apic_ids: Vec<_> = (0..topology.vps()).map(|index| topology.apic_id(index)).collect();
    let large_window = partition.ram().large_screen.clone();
    let (pics, hibernation) = (partition.irqchip() == Irqchip::Full, config.hibernation);
    let tables = acpi::Description { apic_ids, pics, hibernation, screen: size.is_some(), large_window };
    let embedded = KernelSource::Embedded { name: "vsc", bytes: EMBEDDED };
    let kernel = config.kernel.as_ref().unwrap_or(&embedded);
    Ok(boot::load(&partition.ram().boot, kernel, config.initrd.as_deref(), &config.cmdline, &tables, framebuffer)?)
}

/// The whole pages of GPA ranges, counted in pages.
pub(super) fn whole_pages(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let pages = ranges.iter().map(|range| range.start.div_ceil(PAGE_SIZE)..range.end / PAGE_SIZE);
    pages.filter(|pages| !pages.is_empty()).collect()
}

pub(super) fn hypervisor_leaf(leaf: Leaf) -> kvm_cpuid_entry2 {
    let Leaf { function, eax, ebx, ecx, edx } = leaf;
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

/// Puts VP 0 where the kernel starts.
pub(super) fn enter(vp: &Vp, entry: &boot::Entry) -> Result<(), MachineError> {
    let mut registers = vp.system_registers()?;
    entry.apply(&mut registers);
    vp.set_system_registers(&registers)?;
    Ok(vp.set_registers(&entry.registers)?)
}
