//! The two implementations of the Hyper-V interface, and their traits.
//!
//! A VP's thread passes its exits to an [`Engine`]. Every engine is also a [`Child`], through which the service providers of
//! the parent partition, on VMBus, exchange messages and signals with the guest.

use std::sync::Arc;

mod alarm;
mod auto_eoi;
mod calls;
mod common;
mod deadlines;
mod inbox;
mod kernel;
mod live_trace;
mod setup;
mod shell;
mod start;
mod trace;
mod trace_kind;
mod user;

pub use live_trace::{TraceFollower, Traced, Wanted};
pub use setup::{Setup, SetupError, create, offer};
pub use trace::{Output, TraceFormat, TraceWriter};
pub use trace_kind::TraceKind;

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

/// The reason why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The connection id is in use or invalid.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// KVM refuses.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A child partition, as the parent's service providers see it. Methods may be called from any thread.
pub trait Child: Send + Sync {
    /// Returns the guest's memory.
    fn memory(&self) -> &GuestMemory;

    /// Returns the number of VPs.
    fn vp_count(&self) -> u32;

    /// Posts a message to a SINT of a VP. While the guest's slot is occupied, the message waits in a bounded queue.
    ///
    /// # Errors
    /// Returns an error if the VP's SynIC is not enabled or the queue is full. In the latter case,
    /// [`announce_room`](Self::announce_room) reports when to try again.
    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()>;

    /// Drops messages of a type that wait for a SINT's slot, on all VPs, because they are for a previous guest.
    ///
    /// A message that is in a slot stays: the guest may be reading it, and would lose a message that replaced it.
    fn withdraw_messages(&self, sint: SintIndex, message_type: MessageType);

    /// Sets the eventfd to signal when [`post_message`](Self::post_message) should be tried again: after it returned
    /// `INSUFFICIENT_BUFFERS`, a queue of the VP has room again. `None` removes it.
    fn announce_room(&self, event: Option<EventFd>);

    /// Sets an event flag of a SINT of a VP, and interrupts the VP if the flag was clear.
    ///
    /// # Errors
    /// Returns an error if there is no such flag or the VP's SynIC is not enabled.
    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()>;

    /// Interrupts a VP through a SINT, without a message or flag.
    ///
    /// # Errors
    /// Returns an error if there is no such VP.
    fn raise_sint(&self, vp: VpIndex, sint: SintIndex) -> HvResult<()>;

    /// Returns the guest's reference time, in units of 100 ns, or `None` if the host cannot read it.
    fn reference_time(&self) -> Option<u64> {
        None
    }

    /// Opens a port for messages that the guest posts with HvCallPostMessage.
    ///
    /// # Errors
    /// Returns an error if the id is in use or invalid.
    fn connect_messages(&self, id: ConnectionId, port: Arc<dyn MessagePort>) -> Result<(), PortError>;

    /// Opens a port whose flag 0 the guest can signal with HvCallSignalEvent, which signals `event`. For a fast call, KVM does
    /// that itself, without an exit to user space.
    ///
    /// # Errors
    /// Returns an error if the id is in use or invalid, or if KVM refuses the ioeventfd.
    fn connect_events(&self, id: ConnectionId, event: EventFd) -> Result<(), PortError>;

    /// Closes a port. Later calls of the guest for it fail.
    fn disconnect(&self, id: ConnectionId);
}

impl EngineKind {
    /// Returns `true` if Viridian keeps the state of the MSR, and not KVM.
    pub(crate) fn keeps(self, msr: Msr) -> bool {
        match self {
            Self::User => true,
            Self::Kernel => kernel::is_ours(msr),
        }
    }
}

/// A request of the guest to its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestRequest {
    /// RESET: the guest requests a reset.
    Reset,
    /// CRASH_CTL: the guest's kernel has crashed.
    Crash(Box<CrashReport>),
}

/// An implementation of the Hyper-V interface. Unless documented otherwise, a method is called on the thread of its VP.
pub trait Engine: Child {
    /// Returns the CPUID leaves from 0x40000000 on.
    fn leaves(&self) -> Vec<Leaf>;

    /// Prepares a VP, after its CPUID leaves are set and before it runs. May be called from any thread.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn adopt(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Records that the calling thread runs the VP from now on. Called before the VP first enters the guest.
    fn enter(&self, index: VpIndex);

    /// Returns `true` if [`attend`](Self::attend) has something to do. This is two loads.
    fn needs_attention(&self, index: VpIndex) -> bool;

    /// Performs what other threads have requested for the VP, before it enters the guest.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn attend(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Handles the exit for an interrupt window that the engine had requested: the VP can take interrupts again.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn interrupt_window(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Handles an RDMSR of the guest. Returns the value, or `None` for #GP.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn read_msr(&self, index: VpIndex, vp: &mut Vp, number: u32) -> Result<Option<u64>, HostError>;

    /// Handles a WRMSR of the guest. Returns `None` for #GP.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn write_msr(
        &self,
        index: VpIndex,
        vp: &mut Vp,
        number: u32,
        value: u64,
    ) -> Result<Option<Option<GuestRequest>>, HostError>;

    /// Handles a write to [`crate::hyperv::page::HYPERCALL_PORT`].
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn hypercall(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError>;

    /// Handles a write to [`crate::hyperv::page::SIGNAL_PORT`] for a connection without an ioeventfd.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    fn doorbell(&self, index: VpIndex, vp: &mut Vp, connection: u32) -> Result<(), HostError>;

    /// Stops the guest's time. May be called from any thread, when no VP is in the guest.
    fn pause(&self);

    /// Continues the guest's time. May be called from any thread, before any VP enters the guest.
    fn resume(&self);

    /// Ends the engine's own threads. May be called from any thread, when no VP runs any more.
    fn shut_down(&self);
}
