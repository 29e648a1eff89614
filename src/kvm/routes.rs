//! Interrupt routing: the message or the pin of KVM's interrupt controllers that each GSI raises.
//!
//! KVM takes the whole table at once. The first [`PINS`] GSIs are the interrupt lines. The others are allocated here to
//! irqfds that raise SINTs of KVM's own SynIC. (KVM documentation, 4.52 `KVM_SET_GSI_ROUTING`.)

use std::collections::BTreeMap;

use kvm_bindings::{
    KVM_IRQ_ROUTING_HV_SINT, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_hv_sint, kvm_irq_routing_irqchip, kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;

use super::Irqchip;
use super::host::HostError;
use crate::host::lock::Mutex;

/// Interrupt lines: the pins of an IOAPIC.
pub const PINS: u32 = 24;
/// KVM's limit on GSIs.
const MAX_GSI: u32 = 4096;

/// An interrupt message to local APICs (Intel SDM volume 3, "Message Signalled Interrupts").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address: it selects the processors.
    pub address: u32,
    /// The data: vector, delivery mode, trigger mode.
    pub data: u32,
}

impl Message {
    /// Returns a fixed, edge-triggered interrupt for the processor with this APIC id (below 256).
    pub fn fixed(apic_id: u32, vector: u8) -> Self {
        Self { address: 0xfee0_0000 | (apic_id & 0xff) << 12, data: vector.into() }
    }
}

/// What an allocated GSI raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// An interrupt message.
    Message(Message),
    /// A SINT of a VP, on KVM's own SynIC.
    Sint { vp: u32, sint: u32 },
}

/// The routing table of one partition.
pub(super) struct Routes {
    irqchip: Irqchip,
    routes: Mutex<BTreeMap<u32, Route>>,
}

impl Routes {
    /// Creates a table with the lines of [`pin_entries`] and no messages.
    pub(super) fn new(vm: &VmFd, irqchip: Irqchip) -> Result<Self, HostError> {
        let routes = Self { irqchip, routes: Mutex::default() };
        if irqchip == Irqchip::Full {
            routes.install(vm, &BTreeMap::new())?;
        }
        Ok(routes)
    }

    /// Routes a free GSI to `route`, and returns the GSI.
    pub(super) fn add(&self, vm: &VmFd, route: Route) -> Result<u32, HostError> {
        let mut routes = self.routes.lock();
        let free = (PINS..MAX_GSI).find(|gsi| !routes.contains_key(gsi));
        let gsi =
            free.ok_or_else(|| HostError::call("one more interrupt route")(kvm_ioctls::Error::new(libc::ENOSPC)))?;
        routes.insert(gsi, route);
        self.install(vm, &routes).inspect_err(|_| _ = routes.remove(&gsi)).map(|()| gsi)
    }

    /// Changes the route of `gsi`.
    pub(super) fn set(&self, vm: &VmFd, gsi: u32, route: Route) -> Result<(), HostError> {
        let mut routes = self.routes.lock();
        match routes.insert(gsi, route) {
            Some(before) if before == route => Ok(()),
            _ => self.install(vm, &routes),
        }
    }

    fn install(&self, vm: &VmFd, routes: &BTreeMap<u32, Route>) -> Result<(), HostError> {
        let failed = HostError::call("interrupt routes");
        let mut entries = if self.irqchip == Irqchip::Full { pin_entries() } else { Vec::new() };
        entries.extend(routes.iter().map(|(gsi, route)| route_entry(*gsi, *route)));
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG));
        table.and_then(|table| vm.set_gsi_routing(&table)).map_err(failed)
    }
}

/// Returns routes from each line to its pin of the IOAPIC, and from the first sixteen also to the PICs. Line 0, the
/// interval timer's, goes to the IOAPIC's pin 2, as in PCs and in the MADT.
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

fn route_entry(gsi: u32, route: Route) -> kvm_irq_routing_entry {
    let (type_, u) = match route {
        Route::Message(message) => {
            let msi = kvm_irq_routing_msi { address_lo: message.address, data: message.data, ..Default::default() };
            (KVM_IRQ_ROUTING_MSI, kvm_irq_routing_entry__bindgen_ty_1 { msi })
        }
        Route::Sint { vp, sint } => {
            let hv_sint = kvm_irq_routing_hv_sint { vcpu: vp, sint };
            (KVM_IRQ_ROUTING_HV_SINT, kvm_irq_routing_entry__bindgen_ty_1 { hv_sint })
        }
    };
    kvm_irq_routing_entry { gsi, type_, u, ..Default::default() }
}
