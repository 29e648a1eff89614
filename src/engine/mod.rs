//! The two implementations of the guest interface, and what the rest of Viridian sees of them.
//!
//! [`Engine`] is what a VP's thread hands its exits to. [`Child`] is how the parent partition's service
//! providers, through VMBus, reach the guest and are reached by it; every engine is one.

use std::sync::Arc;

mod alarm;
mod auto_eoi;
mod calls;
mod common;
mod deadlines;
mod inbox;
mod kernel;
mod setup;
mod shell;
mod start;
mod trace;
mod user;

pub use setup::{Setup, SetupError, create, offer};
pub use trace::{TraceFormat, TraceKind, Tracer};

use crate::host::event::EventFd;
use crate::hyperv::connections::{ConnectError, MessagePort};
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::crash::CrashReport;
use crate::hyperv::features::EngineKind;
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::msr::Msr;
use crate::hyperv::status::HvResult;
use crate::hyperv::types::{ConnectionId, SintIndex, VpIndex};
use crate::kvm::host::HostError;
use crate::kvm::vp::Vp;
use crate::memory::GuestMemory;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The connection id.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// KVM.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A child partition, as its parent's service providers see it. Called from any thread.
pub trait Child: Send + Sync {
    /// The guest's memory.
    fn memory(&self) -> &GuestMemory;

    /// How many VPs it has.
    fn vp_count(&self) -> u32;

    /// Posts a message to a SINT of a VP. It waits, in order and bounded, while the guest's slot is busy.
    ///
    /// # Errors
    /// The VP has no SynIC enabled; or too many messages wait, and [`announce_room`](Self::announce_room) says when to try
    /// again.
    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()>;

    /// Drops the messages of a type that wait for a SINT's slot, on all VPs: they are for a guest that is gone.
    ///
    /// One that lies in a slot stays: a guest that is just reading it would lose the one that came into its place.
    fn withdraw_messages(&self, sint: SintIndex, message_type: MessageType);

    /// Has `event` signalled when it is time to try again: a message has found its slot on a VP for which
    /// [`post_message`](Self::post_message) had turned one away with `INSUFFICIENT_BUFFERS`. `None` ends that.
    fn announce_room(&self, event: Option<EventFd>);

    /// Sets an event flag of a SINT of a VP, and interrupts the VP if the flag was clear.
    ///
    /// # Errors
    /// No such flag, or the VP has no SynIC enabled.
    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()>;

    /// Interrupts a VP through a SINT, with no message and no flag.
    ///
    /// # Errors
    /// There is no such VP.
    fn raise_sint(&self, vp: VpIndex, sint: SintIndex) -> HvResult<()>;

    /// Returns the guest's reference time, in units of 100 ns, or `None` if the host cannot read it.
    fn reference_time(&self) -> Option<u64> {
        None
    }

    /// Opens a port for messages that the guest posts with HvCallPostMessage.
    ///
    /// # Errors
    /// The id is in use or invalid.
    fn connect_messages(&self, id: ConnectionId, port: Arc<dyn MessagePort>) -> Result<(), PortError>;

    /// Opens a port for flag 0 that the guest signals with HvCallSignalEvent: `event` is signalled, inside KVM
    /// where the guest calls the fast way.
    ///
    /// # Errors
    /// The id is in use or invalid, or KVM refuses the doorbell.
    fn connect_events(&self, id: ConnectionId, event: EventFd) -> Result<(), PortError>;

    /// Closes a port. What the guest posts or signals there from now on is refused.
    fn disconnect(&self, id: ConnectionId);
}

impl EngineKind {
    /// Whether the MSR's state is with Viridian, and not with KVM.
    pub(crate) fn keeps(self, msr: Msr) -> bool {
        match self {
            Self::User => true,
            Self::Kernel => kernel::is_ours(msr),
        }
    }
}

/// What a guest asked of its machine through the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestRequest {
    /// RESET: start over.
    Reset,
    /// CRASH_CTL: the guest's kernel has crashed.
    Crash(Box<CrashReport>),
}

/// An implementation of the guest interface. Unless it says otherwise, a method is called on the thread of the VP that it names.
pub trait Engine: Child {
    /// The CPUID leaves from 0x40000000 on.
    fn leaves(&self) -> Vec<Leaf>;

    /// Takes a VP on: after its CPUID leaves are set, before it runs. Any thread.
    ///
    /// # Errors
    /// KVM's own.
    fn adopt(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Records that the calling thread runs the VP from now on. Called before the VP first enters the guest.
    fn enter(&self, index: VpIndex);

    /// Returns `true` if [`attend`](Self::attend) has something to do. This is two loads.
    fn needs_attention(&self, index: VpIndex) -> bool;

    /// Does to the VP, before it enters the guest, what others asked for.
    ///
    /// # Errors
    /// KVM's own.
    fn attend(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// The VP can take interrupts again, and somebody waited for that.
    ///
    /// # Errors
    /// KVM's own.
    fn interrupt_window(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Answers RDMSR; `None` is #GP.
    ///
    /// # Errors
    /// KVM's own.
    fn read_msr(&self, index: VpIndex, vp: &mut Vp, number: u32) -> Result<Option<u64>, HostError>;

    /// Answers WRMSR; `None` is #GP.
    ///
    /// # Errors
    /// KVM's own.
    fn write_msr(
        &self,
        index: VpIndex,
        vp: &mut Vp,
        number: u32,
        value: u64,
    ) -> Result<Option<Option<GuestRequest>>, HostError>;

    /// Answers a write to [`crate::hyperv::page::HYPERCALL_PORT`].
    ///
    /// # Errors
    /// KVM's own.
    fn hypercall(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Answers a write to [`crate::hyperv::page::SIGNAL_PORT`] that no eventfd waited for.
    ///
    /// # Errors
    /// KVM's own.
    fn doorbell(&self, index: VpIndex, vp: &mut Vp, connection: u32) -> Result<(), HostError>;

    /// Stops the guest's time. Any thread, when no VP is in the guest.
    fn pause(&self);

    /// Lets the guest's time go on. Any thread, before any VP enters the guest.
    fn resume(&self);

    /// Ends the engine's own threads. Any thread, when no VP runs any more.
    fn shut_down(&self);
}
