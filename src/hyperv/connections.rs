//! Connections: the guest's names for ports of the parent (TLFS, "Ports and Connections").
//!
//! A service provider opens a port under a connection id that the guest is told of, and gets what the guest
//! posts or signals there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::message::MessageType;
use super::status::{HvResult, HvStatus};
use super::types::ConnectionId;

/// How many connections a partition may have: one for each VMBus channel, and a few for VMBus itself.
pub const MAX_CONNECTIONS: usize = 4096;

/// Takes messages that the guest posts. Called on the posting VP's thread.
pub trait MessagePort: Send + Sync {
    /// Takes one message of at most 240 bytes.
    ///
    /// # Errors
    /// It has no room now ([`HvStatus::INSUFFICIENT_BUFFERS`]), or does not want it.
    fn post(&self, message_type: MessageType, payload: &[u8]) -> HvResult<()>;
}

/// Takes events that the guest signals. Called on the signalling VP's thread.
pub trait EventPort: Send + Sync {
    /// Returns how many flags it has, from 0 on.
    fn flag_count(&self) -> u16;
    /// Flag `flag`, below [`flag_count`](Self::flag_count), was signalled.
    fn signal(&self, flag: u16);
}

/// A port of the parent.
#[derive(Clone)]
pub enum Port {
    /// Takes messages.
    Message(Arc<dyn MessagePort>),
    /// Takes events.
    Event(Arc<dyn EventPort>),
}

/// Why a connection cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The id has reserved bits set.
    #[error("{0} is no connection id: it has more than 24 bits")]
    Invalid(ConnectionId),
    /// The id names a port already.
    #[error("{0} is in use")]
    InUse(ConnectionId),
    /// There are [`MAX_CONNECTIONS`].
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
    /// The id is invalid or in use, or there are too many.
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

    /// Closes the port under `id`, and gives it back.
    pub fn disconnect(&mut self, id: ConnectionId) -> Option<Port> {
        self.ports.remove(&id)
    }

    /// Returns the port for messages under `id`.
    ///
    /// # Errors
    /// The statuses of HvCallPostMessage.
    pub fn message_port(&self, id: ConnectionId) -> HvResult<Arc<dyn MessagePort>> {
        match self.ports.get(&id) {
            Some(Port::Message(port)) => Ok(port.clone()),
            Some(Port::Event(_)) => Err(HvStatus::INVALID_PORT_ID),
            None => Err(HvStatus::INVALID_CONNECTION_ID),
        }
    }

    /// Returns the port for events under `id`, if it has `flag`.
    ///
    /// # Errors
    /// The statuses of HvCallSignalEvent.
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
