//! Counts the exits of a machine's VPs to Viridian, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::hyperv::page::{HYPERCALL_PORT, SIGNAL_PORT};
use crate::kvm::vp::Exit;

macro_rules! exits {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Numbers of exits to Viridian by reason, of all VPs of a machine and all boots of the guest.
        ///
        /// Exits that KVM handles itself, such as doorbells and the timers of the local APICs, are not included.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Exits {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Exits {
            /// Returns the total number of exits.
            pub fn total(&self) -> u64 {
                [$(self.$field),*].iter().sum()
            }
        }

        /// The exits of one VP, counted on its own thread. Aligned, so that no two VPs write to the same cache line.
        #[derive(Default)]
        #[repr(align(64))]
        pub(super) struct Counters {
            $($field: AtomicU64,)*
        }

        impl Counters {
            fn add_to(&self, exits: &mut Exits) {
                $(exits.$field += self.$field.load(Ordering::Relaxed);)*
            }
        }
    };
}

exits! {
    /// Hypercalls through the hypercall page.
    hypercalls,
    /// Signals for connections without an eventfd.
    doorbells,
    /// Reads of I/O ports; a string instruction that fits into one exit counts once.
    port_reads,
    /// Writes to other I/O ports.
    port_writes,
    /// Reads of guest physical addresses without memory.
    mmio_reads,
    /// Writes to such addresses.
    mmio_writes,
    /// Reads of MSRs.
    msr_reads,
    /// Writes to MSRs.
    msr_writes,
    /// Ends of level-triggered interrupts.
    ends_of_interrupt,
    /// Exits that Viridian requested: for pauses, waiting interrupts, and single-stepping.
    own,
    /// Triple faults.
    triple_faults,
}

impl Counters {
    /// Counts an exit. Only the VP's own thread calls it.
    pub fn count(&self, exit: &Exit<'_>) {
        let counter = match exit {
            Exit::PortWrite { port: HYPERCALL_PORT, .. } => &self.hypercalls,
            Exit::PortWrite { port: SIGNAL_PORT, .. } => &self.doorbells,
            Exit::PortRead { .. } => &self.port_reads,
            Exit::PortWrite { .. } => &self.port_writes,
            Exit::MmioRead { .. } => &self.mmio_reads,
            Exit::MmioWrite { .. } => &self.mmio_writes,
            Exit::MsrRead { .. } => &self.msr_reads,
            Exit::MsrWrite { .. } => &self.msr_writes,
            Exit::EndOfInterrupt { .. } => &self.ends_of_interrupt,
            Exit::InterruptWindow | Exit::Stepped | Exit::Kicked => &self.own,
            Exit::Shutdown => &self.triple_faults,
        };
        // Only one thread writes, so no locked instruction is needed.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Returns the sum of the exits of all VPs.
pub(super) fn sum(counters: &[Counters]) -> Exits {
    let mut exits = Exits::default();
    counters.iter().for_each(|counters| counters.add_to(&mut exits));
    exits
}
