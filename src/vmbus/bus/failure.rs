//! Failures of devices, for who wants to know of them.

use std::fmt;
use std::sync::Arc;

use crate::vmbus::ids::ChannelId;
use crate::vmbus::vsp::{Offer, ServiceError};
use crate::wire::guid::Guid;

/// The failure of a device: a channel of it does not open, or is served no more until the guest opens it again. Either the device's
/// code panicked or says so, or the guest broke the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ChannelFailure {
    /// What kind of device it is.
    pub interface: Guid,
    /// Which of its kind.
    pub instance: Guid,
    /// The channel, if it is about one.
    pub channel: Option<ChannelId>,
    /// What becomes of the channel.
    what: &'static str,
    /// Why.
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

/// Takes the failures of a bus's devices, on any thread.
#[derive(Clone, Default)]
pub struct FailureSink(Option<Arc<dyn Fn(ChannelFailure) + Send + Sync>>);

impl FailureSink {
    /// Has `take` called for each failure.
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
