//! An adapter as a VMBus device: connects a [`Nic`] to its channels' rings.
//!
//! `channel` is the thread of one channel: it reads the guest's packets, and takes the device's actions. `outgoing` is
//! the direction to the guest: unsent messages, and frames.

use std::sync::Arc;

use super::nic::Nic;
use super::trace::ChannelTrace;
use crate::vmbus::trace::Tracer;
use crate::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use crate::wire::guid::{Guid, interface};
use channel::NetworkChannel;

mod channel;
mod outgoing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// The instance GUID of a machine's adapters, "viridian net" in ASCII; the last byte is the adapter's number.
const INSTANCE: u128 = 0x76697269_6469_616e_6e65_740000000000;

/// A network adapter as a VMBus device.
pub struct NetworkVsp {
    nic: Arc<Nic>,
    instance: Guid,
    tracer: Option<Tracer>,
}

impl NetworkVsp {
    /// Creates a machine's adapter with this number.
    pub fn numbered(nic: Arc<Nic>, number: u8) -> Self {
        Self::new(nic, Self::instance(number))
    }

    /// Creates the adapter, under an instance GUID that no other device of the machine has.
    pub fn new(nic: Arc<Nic>, instance: Guid) -> Self {
        Self { nic, instance, tracer: None }
    }

    /// Returns the instance GUID of a machine's adapter with this number.
    pub fn instance(number: u8) -> Guid {
        Guid::new(INSTANCE | u128::from(number))
    }

    /// Traces every message.
    pub fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }
}

impl Vsp for NetworkVsp {
    fn offer(&self) -> Offer {
        Offer::new(interface::NETWORK, self.instance)
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        let number = channel.subchannel_index();
        if self.nic.lane(number).is_none() {
            return Err(ServiceError::Protocol(format!("a network adapter without channel {number}")));
        }
        self.nic.open(number, channel.port().clone());
        let trace = ChannelTrace::new(self.tracer.clone(), channel.id());
        Ok(Box::new(NetworkChannel::new(self.nic.clone(), number, trace)))
    }
}
