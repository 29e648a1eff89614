//! Reports of failed devices.

use std::fmt;
use std::sync::Arc;

use crate::vmbus::ids::ChannelId;
use crate::vmbus::vsp::{Offer, ServiceError};
use crate::wire::guid::Guid;

/// The failure of a device: one of its channels cannot be opened, or is no longer served until the guest reopens it.
/// The device's code panicked or returned an error, or the guest violated the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ChannelFailure {
    /// The kind of the device.
    pub interface: Guid,
    /// Its instance.
    pub instance: Guid,
    /// The channel, if the failure concerns one.
    pub channel: Option<ChannelId>,
    /// The consequence for the channel.
    what: &'static str,
    /// The reason.
    pub error: ServiceError,
}

impl ChannelFailure {
    pub(super) fn new(offer: &Offer, channel: Option<ChannelId>, what: &'static str, error: ServiceError) -> Self {
        Self { interface: offer.interface, instance: offer.instance, channel, what, error }
    }
}

impl fmt::Display for ChannelFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, instance, channel, what, error } = self;
        match channel {
            Some(channel) => {
                write!(formatter, "VMBus channel {channel} (device {interface}, {instance}) {what}: {error}")
            }
            None => write!(formatter, "the VMBus device {interface}, {instance} {what}: {error}"),
        }
    }
}

/// Receives the failures of a bus's devices, on any thread.
#[derive(Clone, Default)]
pub struct FailureSink(Option<Arc<dyn Fn(ChannelFailure) + Send + Sync>>);

impl FailureSink {
    /// Creates a sink that calls `take` for each failure.
    pub fn new(take: impl Fn(ChannelFailure) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    pub(super) fn take(&self, failure: ChannelFailure) {
        self.0.iter().for_each(|take| take(failure.clone()));
    }
}

impl fmt::Debug for FailureSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FailureSink")
    }
}
