//! The two implementations of the guest interface, and what the rest of Viridian sees of them.
//!
//! [`Engine`] is what a VP's thread hands its exits to. [`Child`] is how the parent partition's service
//! providers, through VMBus, reach the guest and are reached by it; every engine is one.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::connections::{ConnectError, MessagePort};
use super::message::Message;
use super::status::HvResult;
use super::types::{ConnectionId, SintIndex, VpIndex};
use crate::partition::host::HostError;
use crate::partition::memory::GuestMemory;

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
    /// The VP has no SynIC enabled, or too many messages wait.
    fn post_message(&self, vp: VpIndex, sint: SintIndex, message: Message) -> HvResult<()>;

    /// Sets an event flag of a SINT of a VP, and interrupts the VP if the flag was clear.
    ///
    /// # Errors
    /// No such flag, or the VP has no SynIC enabled.
    fn signal_event(&self, vp: VpIndex, sint: SintIndex, flag: u16) -> HvResult<()>;

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
