//! The common parts of devices that exchange messages with the guest: the loop over both rings, pipe headers, and a provider
//! for devices that are one state machine.
//!
//! - [`exchange`]: the loop, for a handler that implements [`Peer`](exchange::Peer).
//! - [`wire`]: the header that most devices put before each message.
//! - [`provider`]: a VMBus device made of a [`Protocol`](provider::Protocol), as keyboard and mouse are.

use serde::Serialize;

pub mod exchange;
pub mod provider;
#[cfg(any(test, feature = "_internals"))]
pub mod testing;
pub mod wire;

/// The state of a channel whose driver negotiates a version, and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The guest has not opened the channel.
    #[default]
    Closed,
    /// The guest has not asked for a version that exists.
    Negotiating,
    /// The device can be used.
    Ready,
}
