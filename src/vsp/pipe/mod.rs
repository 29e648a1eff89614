//! The common parts of devices that exchange messages with the guest: the loop over both rings, pipe headers, and a provider
//! for devices that are one state machine.
//!
//! - [`exchange`]: the loop, for a handler that implements [`Peer`](exchange::Peer).
//! - [`wire`]: the header that most devices put before each message.
//! - [`provider`]: a VMBus device made of a [`Protocol`](provider::Protocol), as keyboard and mouse are.

pub mod exchange;
pub mod provider;
#[cfg(test)]
pub mod testing;
pub mod wire;
