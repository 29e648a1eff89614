//! Guest memory, and a device that a driver has set up, for tests.

use std::collections::HashMap;
use std::sync::Arc;

use vm_memory::GuestAddress;
use zerocopy::{Immutable, IntoBytes};

use super::device::{Gpadls, NvspAction, NvspDevice, NvspOutcome};
use super::path::Path;
use super::wire::{Init, MessageType, NdisConfig, SendBuffer, Version, message};
use crate::memory::buffer::GuestBuffer;
use crate::memory::{GuestMemory, PAGE_SIZE};
use crate::net::mac::MacAddress;
use crate::vmbus::gpadl::Gpadl;
use crate::vmbus::ids::GpadlId;
use crate::vsp::network::rndis::adapter::{Adapter, Settings};
use crate::vsp::network::rndis::oid::Oid;
use crate::vsp::network::rndis::wire::{Initialize, MessageType as RndisType, Request, message as rndis};

pub const ADDRESS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub const RECEIVE: GpadlId = GpadlId(0xe1e10);
pub const SEND: GpadlId = GpadlId(0xe1e11);
pub const RECEIVE_ID: u16 = 0xcafe;

/// Guest memory: 4 MiB, of which the first is the receive buffer and the second the send buffer.
pub struct Guest {
    pub memory: GuestMemory,
    gpadls: HashMap<GpadlId, Arc<Gpadl>>,
}

impl Gpadls for Guest {
    fn find(&self, id: GpadlId) -> Option<Arc<Gpadl>> {
        self.gpadls.get(&id).cloned()
    }
}

impl Guest {
    pub fn new() -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let mut guest = Self { memory, gpadls: HashMap::new() };
        guest.add(RECEIVE, 0, 256);
        guest.add(SEND, 256, 256);
        guest
    }

    /// Creates a GPADL.
    pub fn add(&mut self, id: GpadlId, first: u64, pages: u64) {
        let mut list = ((pages * PAGE_SIZE) as u32).to_le_bytes().to_vec();
        list.extend_from_slice(&[0; 4]);
        (first..first + pages).for_each(|page| list.extend_from_slice(&page.to_le_bytes()));
        self.gpadls.insert(id, Arc::new(Gpadl::parse(&self.memory, 1, &list).unwrap()));
    }

    /// Returns a piece of guest memory at an address.
    pub fn buffer(&self, address: u64, length: usize) -> GuestBuffer {
        let offset = (address % PAGE_SIZE) as usize;
        let pages = (offset + length).div_ceil(PAGE_SIZE as usize) as u64;
        let first = address / PAGE_SIZE;
        let frames: Vec<u64> = (first..first + pages).collect();
        GuestBuffer::new(&self.memory, frames.into_iter(), offset, length).unwrap()
    }
}

pub fn device(queues: u16) -> NvspDevice {
    device_of(Version::V6_1, queues)
}

pub fn device_of(newest: Version, queues: u16) -> NvspDevice {
    let settings = Settings { address: ADDRESS, mtu: 9000, queues, link_speed: 1 << 30, name: String::new() };
    NvspDevice::new(newest, Adapter::new(settings, Arc::default()))
}

/// Sends a message to the device, padded as by Linux.
pub fn send(
    device: &mut NvspDevice,
    guest: &Guest,
    kind: MessageType,
    body: &(impl IntoBytes + Immutable),
) -> NvspOutcome {
    device.receive(&message(kind, body, 40), guest)
}

pub fn init(version: u32) -> Init {
    Init { minimum: version, maximum: version }
}

/// Initializes a device until frames are transferred, in promiscuous mode and with an MTU of `mtu`.
pub fn set_up(device: &mut NvspDevice, guest: &Guest, version: Version, mtu: u32, capabilities: u32) {
    send(device, guest, MessageType::INIT, &init(version.number()));
    assert_eq!(device.version(), Some(version));
    if version >= Version::V2 {
        let config = NdisConfig { frame_length: mtu + 14, reserved: 0, capabilities: [capabilities, 0] };
        send(device, guest, MessageType::SEND_NDIS_CONFIG, &config);
    }
    let buffer = SendBuffer { gpadl: RECEIVE, id: RECEIVE_ID, reserved: 0 };
    send(device, guest, MessageType::SEND_RECEIVE_BUFFER, &buffer);
    send(device, guest, MessageType::SEND_SEND_BUFFER, &SendBuffer { gpadl: SEND, id: 0, reserved: 0 });
    let initialize = Initialize { request_id: 1, major_version: 1, minor_version: 0, max_transfer_size: 0x4000 };
    device.receive_control(&rndis(RndisType::INITIALIZE, &initialize, &[]));
    set(device, Oid::GEN_CURRENT_PACKET_FILTER, &0x2d_u32.to_le_bytes());
    assert!(device.path().running);
}

/// Sets an object.
pub fn set(device: &mut NvspDevice, oid: Oid, information: &[u8]) -> NvspOutcome {
    let length = information.len() as u32;
    let request = Request { request_id: 2, oid, information_length: length, information_offset: 20, handle: 0 };
    device.receive_control(&rndis(RndisType::SET, &request, information))
}

/// Returns a device that is set up for frames of 1500 bytes.
pub fn ready(guest: &Guest, capabilities: u32) -> (NvspDevice, Arc<Path>) {
    let mut device = device(4);
    set_up(&mut device, guest, Version::V6_1, 1500, capabilities);
    let path = device.path().clone();
    (device, path)
}

/// Returns the payload of a message's completion.
pub fn completion(outcome: &NvspOutcome) -> &[u8] {
    let complete = outcome.actions.iter().find_map(|action| match action {
        NvspAction::Complete(payload) => Some(payload),
        _ => None,
    });
    complete.unwrap()
}
