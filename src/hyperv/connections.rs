//! Connections: the guest's ids for ports of the parent partition (TLFS, "Ports and Connections").
//!
//! A service provider opens a port under a connection id that the guest knows, and receives what the guest posts or
//! signals there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::message::MessageType;
use super::status::{HvResult, HvStatus};
use super::types::ConnectionId;

/// Maximum number of connections of a partition: one for each VMBus channel, and a few for VMBus itself.
pub const MAX_CONNECTIONS: usize = 4096;

/// Receives messages that the guest posts. Called on the posting VP's thread.
pub trait MessagePort: Send + Sync {
    /// Receives one message of at most 240 bytes.
    ///
    /// # Errors
    /// Returns an error if there is no room ([`HvStatus::INSUFFICIENT_BUFFERS`]), or if the message is refused.
    fn post(&self, message_type: MessageType, payload: &[u8]) -> HvResult<()>;
}

/// Receives events that the guest signals. Called on the signalling VP's thread.
pub trait EventPort: Send + Sync {
    /// Returns the number of flags, which are numbered from 0.
    fn flag_count(&self) -> u16;
    /// Handles a signal on flag `flag`, which is below [`flag_count`](Self::flag_count).
    fn signal(&self, flag: u16);
}

/// A port of the parent partition.
#[derive(Clone)]
pub enum Port {
    /// Receives messages.
    Message(Arc<dyn MessagePort>),
    /// Receives events.
    Event(Arc<dyn EventPort>),
}

/// The reason why a connection cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The id has reserved bits set.
    #[error("{0} is not a connection id: it has more than 24 bits")]
    Invalid(ConnectionId),
    /// The id is in use.
    #[error("{0} is in use")]
    InUse(ConnectionId),
    /// There are already [`MAX_CONNECTIONS`].
    #[error("there are {MAX_CONNECTIONS} connections already")]
    TooMany,
}

/// The connections of a partition.
#[derive(Default)]
pub struct Connections {
    ports: BTreeMap<ConnectionId, Port>,
}

impl Connections {
    /// Opens a port under `id`.
    ///
    /// # Errors
    /// Returns an error if the id is invalid or in use, or if there are too many connections.
    pub fn connect(&mut self, id: ConnectionId, port: Port) -> Result<(), ConnectError> {
        if !id.is_valid() {
            return Err(ConnectError::Invalid(id));
        }
        if self.ports.contains_key(&id) {
            return Err(ConnectError::InUse(id));
        }
        if self.ports.len() >= MAX_CONNECTIONS {
            return Err(ConnectError::TooMany);
        }
        self.ports.insert(id, port);
        Ok(())
    }

    /// Closes the port under `id`, and returns it.
    pub fn disconnect(&mut self, id: ConnectionId) -> Option<Port> {
        self.ports.remove(&id)
    }

    /// Returns the message port under `id`.
    ///
    /// # Errors
    /// Returns the status for HvCallPostMessage.
    pub fn message_port(&self, id: ConnectionId) -> HvResult<Arc<dyn MessagePort>> {
        match self.ports.get(&id) {
            Some(Port::Message(port)) => Ok(port.clone()),
            Some(Port::Event(_)) => Err(HvStatus::INVALID_PORT_ID),
            None => Err(HvStatus::INVALID_CONNECTION_ID),
        }
    }

    /// Returns the event port under `id`, if it has `flag`.
    ///
    /// # Errors
    /// Returns the status for HvCallSignalEvent.
    pub fn event_port(&self, id: ConnectionId, flag: u16) -> HvResult<Arc<dyn EventPort>> {
        match self.ports.get(&id) {
            Some(Port::Event(port)) if flag < port.flag_count() => Ok(port.clone()),
            Some(Port::Event(_)) => Err(HvStatus::INVALID_PARAMETER),
            Some(Port::Message(_)) => Err(HvStatus::INVALID_PORT_ID),
            None => Err(HvStatus::INVALID_CONNECTION_ID),
        }
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
