//! Private parts that the tests, benches and fuzzers of this package use. They change without notice.
#![allow(missing_docs)]

pub use crate::block::Disk;
pub use crate::engine::{Child, PortError};
pub use crate::host::event::EventFd;
pub use crate::kvm::gate::Kick;

pub mod guest_images {
    pub use crate::guest_images::{EMBEDDED, PEER};
}

pub mod console {
    pub use crate::console::{Console, terminal};
}

pub mod hyperv {
    pub use crate::hyperv::connections::MessagePort;
    pub use crate::hyperv::message::{Message, MessageType};
    pub use crate::hyperv::types::{ConnectionId, SintIndex};
}

pub mod memory {
    use crate::memory::buffer::{BufferError, GuestBuffer};

    pub use crate::memory::{Backing, GuestMemory, PAGE_SIZE, create};

    pub fn buffer(
        memory: &GuestMemory,
        frames: impl ExactSizeIterator<Item = u64>,
        offset: usize,
        length: usize,
    ) -> Result<GuestBuffer, BufferError> {
        GuestBuffer::new(memory, frames, offset, length)
    }
}

pub mod screen {
    pub use crate::vsp::keyboard::protocol::Facts as KeyboardFacts;
    pub use crate::vsp::mouse::protocol::{Facts as MouseFacts, State as MouseState};
    pub use crate::vsp::pipe::State;
    pub use crate::vsp::screen::vnc::trial::send_all as hear_viewer;
}

pub mod services {
    pub use crate::vsp::services::config::ServiceOptions;
    pub use crate::vsp::services::file_copy::Copy;
    pub use crate::vsp::services::kvp::{Adapter, Item, KeyValue, Pool, Value};
    pub use crate::vsp::services::protocol::Failure;
    pub use crate::vsp::services::provider::{Asked, ServiceHandle};
    pub use crate::vsp::services::service::{Forced, State, Status};
    pub use crate::vsp::services::set::Services;
    pub use crate::vsp::services::shutdown::{Kind as ShutdownKind, Shutdown};
    pub use crate::vsp::services::table::Kind;
    pub use crate::vsp::services::vss::{FREEZE_PATIENCE, Freeze};
    pub use crate::vsp::services::{Answer, Request};
}

pub mod storage {
    pub use crate::block::Image;
    pub use crate::vsp::storage::config::controllers;
    pub use crate::vsp::storage::controller::Controller;
    pub use crate::vsp::storage::provider::StorageVsp;
    pub use crate::vsp::storage::scsi::{DeviceKind, Identity};
    pub use crate::vsp::storage::storvsp::wire;
    pub use crate::vsp::storage::unit::{Loaded, Unit};
    pub use crate::vsp::storage::worker::{Answer, Worker};
}

pub mod vmbus {
    use crate::memory::GuestMemory;
    use crate::vmbus::gpadl::{Gpadl, RangeError};
    use crate::vmbus::ring::{IncomingRing, OutgoingRing, RingError};

    pub use crate::vmbus::bus::{Attachment, ConnectError, Settings};
    pub use crate::vmbus::message::message;
    pub use crate::vmbus::packet::{GpaDirectHeader, GpaRangeHeader};
    pub use crate::vmbus::ring::RingMemory;
    pub use crate::vmbus::ring::guest::{GuestReceiver, GuestSender};
    pub use crate::vmbus::trace::Tracer;
    pub use crate::vmbus::wire::*;

    pub fn gpadl(memory: &GuestMemory, count: usize, list: &[u8]) -> Result<Gpadl, RangeError> {
        Gpadl::parse(memory, count, list)
    }

    pub fn incoming(memory: RingMemory) -> Result<IncomingRing, RingError> {
        IncomingRing::new(memory)
    }

    pub fn outgoing(memory: RingMemory) -> Result<OutgoingRing, RingError> {
        OutgoingRing::new(memory)
    }
}
