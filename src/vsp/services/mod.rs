//! Integration services: the host and the guest's operating system work together.
//!
//! There are six, each a VMBus device of its own ([`table`]): shutdown, time synchronization, heartbeat, key-value pair exchange
//! (KVP), freezing of file systems (VSS), and file copy ("Guest Service Interface"). Linux's driver for all is `hv_utils`; the last
//! three also need a daemon in the guest.
//!
//! The protocols are pure: a [`Service`](service::Service) gets packets, requests of the host and the time, and returns packets
//! and [events](Event). It reads no clock and starts no thread. Its only effect is to read the source of a file that it copies.
//!
//! - [`wire`], [`service`]: what the services have in common: headers, negotiation, transactions.
//! - [`provider`]: connects a service to a VMBus channel; [`set`]: the services of a machine; [`config`]: its settings.
//! - [`shutdown`], [`time`], [`heartbeat`], [`kvp`], [`vss`], [`file_copy`]: a [`Protocol`](protocol::Protocol) each.

use serde::Serialize;
use serde_json::{Value, json};

pub mod config;
mod device;
pub mod file_copy;
pub mod heartbeat;
pub mod kvp;
pub mod protocol;
pub mod provider;
pub mod service;
pub mod set;
pub mod shutdown;
pub mod table;
#[cfg(test)]
mod testing;
mod text;
pub mod time;
pub mod vss;
pub mod wire;

use protocol::{Failure, Outcome, Ticket};
use service::{Forced, Service};
use table::Kind;
use wire::Version;

/// A request of the host to a service.
#[derive(Debug)]
pub enum Request {
    /// Shuts the guest down.
    Shutdown(shutdown::Shutdown),
    /// Sets the guest's clock.
    SyncTime,
    /// Reads or changes items and addresses.
    KeyValue(kvp::KeyValue),
    /// Freezes the guest's file systems.
    Freeze(vss::Freeze),
    /// Thaws them.
    Thaw,
    /// Copies a file into the guest.
    Copy(file_copy::Copy),
}

impl std::fmt::Display for Event {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connected { framework, version } => write!(formatter, "version {version}, framework {framework}"),
            Self::NoVersion => formatter.write_str("the guest supports none of the offered versions"),
            Self::Disconnected => formatter.write_str("the guest does not use it any more"),
            Self::Finished(_, Ok(_)) => formatter.write_str("a request is finished"),
            Self::Finished(_, Err(failure)) => failure.fmt(formatter),
            Self::Health(health) => formatter.write_str(&health.words()),
            Self::Disabled => formatter.write_str("Disabled"),
            Self::Intrinsic(addresses) => write!(formatter, "the guest's addresses are {}", addresses.join(", ")),
            Self::FreezeExpired => formatter.write_str("the guest was frozen for too long, and is thawed"),
            Self::Thawed => formatter.write_str("the guest has thawed its file systems"),
            Self::StaysFrozen => formatter.write_str("the guest has not thawed its file systems; it is asked again"),
        }
    }
}

impl Event {
    /// Returns the event's details, for programs.
    pub fn details(&self) -> Value {
        match self {
            Self::Connected { framework, version } => json!({ "framework": framework, "version": version }),
            Self::Health(health) => json!({ "health": health }),
            Self::Disabled => json!({ "health": "Disabled" }),
            Self::Intrinsic(addresses) => json!({ "addresses": addresses }),
            _ => Value::Null,
        }
    }
}

impl Request {
    /// Returns the failure of a request that is another service's.
    fn is_misplaced(&self) -> Failure {
        Failure::Invalid(format!("the service does not know this request: {self:?}"))
    }
}

/// The result of a request that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The guest has done it; for a shutdown: it is about to.
    Done,
    /// The value of an item, `None` if there is no such item.
    Value(Option<kvp::Value>),
    /// The items of a pool.
    Items(Vec<kvp::Item>),
    /// The network configuration of an adapter.
    Adapter(kvp::Adapter),
    /// The file systems are frozen.
    Frozen,
    /// Number of bytes that were copied.
    Copied(u64),
}

/// Something that happened to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The versions are negotiated: the service can be used.
    Connected {
        /// The version of the framework.
        framework: Version,
        /// The version of the messages.
        version: Version,
    },
    /// The guest supports none of the offered versions.
    NoVersion,
    /// The service can no longer be used.
    Disconnected,
    /// A request is finished.
    Finished(Ticket, Outcome),
    /// The guest is alive, or not.
    Health(heartbeat::Health),
    /// The guest's items about itself have changed. These are its addresses.
    Intrinsic(Vec<String>),
    /// The guest was frozen for the maximum time, and is thawed.
    FreezeExpired,
    /// The guest has thawed its file systems.
    Thawed,
    /// The guest has not thawed its file systems. It is asked again.
    StaysFrozen,
    /// The host has turned the service off.
    Disabled,
}

/// The part of a status that differs between services.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Details {
    /// Shutdown.
    Shutdown(shutdown::Facts),
    /// Time synchronization.
    Time(time::Facts),
    /// Heartbeat.
    Heartbeat(heartbeat::Facts),
    /// KVP.
    KeyValue(kvp::Facts),
    /// VSS.
    Vss(vss::Facts),
    /// File copy.
    FileCopy(file_copy::Facts),
}

/// Creates a service. KVP tells the guest the items `facts`.
pub fn create(kind: Kind, forced: Forced, facts: &[kvp::Item]) -> Service {
    let protocol: Box<dyn protocol::Protocol> = match kind {
        Kind::Shutdown => Box::<shutdown::ShutdownService>::default(),
        Kind::Time => Box::<time::TimeService>::default(),
        Kind::Heartbeat => Box::<heartbeat::HeartbeatService>::default(),
        Kind::KeyValue => Box::new(kvp::KvpService::new(facts)),
        Kind::Vss => Box::<vss::VssService>::default(),
        Kind::FileCopy => Box::<file_copy::FileCopyService>::default(),
    };
    Service::new(kind, protocol, forced)
}
