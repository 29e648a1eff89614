//! Interrupt routing: which message, or which pin of KVM's interrupt controllers, each GSI raises.
//!
//! KVM takes the table as a whole. The first [`PINS`] GSIs are the interrupt lines; those after are ours
//! to give to irqfds that send messages. (KVM documentation, 4.52 `KVM_SET_GSI_ROUTING`.)

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip,
    kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;

use super::Irqchip;
use super::host::HostError;

/// Interrupt lines: the pins of an IOAPIC.
pub const PINS: u32 = 24;
/// KVM's own bound on GSIs.
const MAX_GSI: u32 = 4096;

/// An interrupt message as the local APICs take it (Intel SDM volume 3, "Message Signalled Interrupts").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address: which processors.
    pub address: u32,
    /// The data: vector, delivery mode, trigger mode.
    pub data: u32,
}

impl Message {
    /// A fixed, edge-triggered interrupt for the processor with this APIC id (below 256).
    pub fn fixed(apic_id: u32, vector: u8) -> Self {
        Self { address: 0xfee0_0000 | (apic_id & 0xff) << 12, data: vector.into() }
    }
}

/// The routing table of one partition.
pub(super) struct Routes {
    irqchip: Irqchip,
    messages: Mutex<BTreeMap<u32, Message>>,
}

impl Routes {
    /// The lines as [`pin_entries`] has them, and no message.
    pub(super) fn new(vm: &VmFd, irqchip: Irqchip) -> Result<Self, HostError> {
        let routes = Self { irqchip, messages: Mutex::default() };
        if irqchip == Irqchip::Full {
            routes.install(vm, &BTreeMap::new())?;
        }
        Ok(routes)
    }

    /// Routes a GSI that is free so far to `message`, and says which.
    pub(super) fn add(&self, vm: &VmFd, message: Message) -> Result<u32, HostError> {
        let mut messages = self.lock();
        let free = (PINS..MAX_GSI).find(|gsi| !messages.contains_key(gsi));
        let gsi =
            free.ok_or_else(|| HostError::call("one more interrupt route")(kvm_ioctls::Error::new(libc::ENOSPC)))?;
        messages.insert(gsi, message);
        self.install(vm, &messages).inspect_err(|_| _ = messages.remove(&gsi)).map(|()| gsi)
    }

    /// Routes `gsi` to another message.
    pub(super) fn set(&self, vm: &VmFd, gsi: u32, message: Message) -> Result<(), HostError> {
        let mut messages = self.lock();
        match messages.insert(gsi, message) {
            Some(before) if before == message => Ok(()),
            _ => self.install(vm, &messages),
        }
    }

    /// Makes `gsi` free again.
    pub(super) fn remove(&self, vm: &VmFd, gsi: u32) -> Result<(), HostError> {
        let mut messages = self.lock();
        messages.remove(&gsi);
        self.install(vm, &messages)
    }

    fn install(&self, vm: &VmFd, messages: &BTreeMap<u32, Message>) -> Result<(), HostError> {
        let failed = HostError::call("interrupt routes");
        let mut entries = if self.irqchip == Irqchip::Full { pin_entries() } else { Vec::new() };
        entries.extend(messages.iter().map(|(gsi, message)| message_entry(*gsi, *message)));
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG));
        table.and_then(|table| vm.set_gsi_routing(&table)).map_err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each line to its pin of the IOAPIC and the first sixteen to the PICs too; line 0, the interval timer's, to the
/// IOAPIC's pin 2, as in PCs and in our MADT.
fn pin_entries() -> Vec<kvm_irq_routing_entry> {
    let entry = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } },
        ..Default::default()
    };
    let pics = (0..16).map(|gsi| match gsi {
        0..8 => entry(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => entry(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    let pins = (0..PINS).filter(|gsi| *gsi != 2).map(|gsi| match gsi {
        0 => entry(0, KVM_IRQCHIP_IOAPIC, 2),
        _ => entry(gsi, KVM_IRQCHIP_IOAPIC, gsi),
    });
    pics.chain(pins).collect()
}

fn message_entry(gsi: u32, message: Message) -> kvm_irq_routing_entry {
    let msi = kvm_irq_routing_msi { address_lo: message.address, data: message.data, ..Default::default() };
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}
