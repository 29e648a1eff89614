//! What the primary channel's negotiation means for frames.
//!
//! A [`Path`] does not change; a new one takes its place. So the channels' threads share it without a lock, and a frame is
//! treated by one set of rules from start to end.

use crate::memory::buffer::GuestBuffer;
use crate::net::frame::{ETHERNET_HEADER, VLAN_TAG};
use crate::net::mac::MacAddress;
use crate::net::rss::Scaling;
use crate::vmbus::ids::GpadlId;
use crate::vsp::network::rndis::adapter::Adapter;
use crate::vsp::network::rndis::offload::Offloads;
use crate::vsp::network::rndis::oid::packet_filter;
use crate::vsp::network::rndis::packet::MAX_PACKET_HEADER;

/// How the receive buffer is divided.
#[derive(Clone, Debug)]
pub struct ReceiveBuffer {
    /// The guest's memory.
    pub memory: GuestBuffer,
    /// The pages that it lies in.
    pub gpadl: GpadlId,
    /// The guest's name for it.
    pub id: u16,
    /// Size of a section.
    pub section_size: u32,
    /// How many sections there are.
    pub section_count: u32,
    /// Tells this buffer from one that was revoked before.
    pub generation: u64,
}

/// Returns the size of a section of the receive buffer: a frame of the greatest length with its notes, in whole cache lines.
pub fn receive_section(mtu: u16) -> u32 {
    const CACHE_LINE: usize = 64;
    // Every control message has to fit, too; the friendly name makes the longest.
    const LEAST: usize = 1024;
    let length = usize::from(mtu) + ETHERNET_HEADER + VLAN_TAG + MAX_PACKET_HEADER;
    length.max(LEAST).next_multiple_of(CACHE_LINE) as u32
}

/// How the send buffer is divided.
#[derive(Clone, Debug)]
pub struct SendBuffer {
    /// The guest's memory.
    pub memory: GuestBuffer,
    /// The pages that it lies in.
    pub gpadl: GpadlId,
    /// The guest's name for it.
    pub id: u16,
    /// Size of a section.
    pub section_size: u32,
}

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Whether frames travel at all.
    pub running: bool,
    /// Where frames to the guest go.
    pub receive: Option<ReceiveBuffer>,
    /// Where frames from the guest may lie.
    pub send: Option<SendBuffer>,
    /// What the guest has switched on.
    pub offloads: Offloads,
    /// How frames are spread over channels.
    pub scaling: Option<Scaling>,
    /// How many channels there are, the primary one included.
    pub channels: u16,
    /// Whether VLAN tags travel beside the frame.
    pub vlan_beside: bool,
    /// The longest IP packet.
    pub mtu: u16,
    packet_filter: u32,
    address: MacAddress,
    multicast: Vec<MacAddress>,
}

impl Path {
    /// Takes over what the adapter has been told.
    pub(super) fn follow(&mut self, adapter: &Adapter) {
        let (packet_filter, address, multicast) = adapter.filter();
        self.running = adapter.is_running();
        self.offloads = adapter.offloads();
        self.scaling = adapter.scaling().cloned();
        self.mtu = adapter.mtu();
        (self.packet_filter, self.address, self.multicast) = (packet_filter, address, multicast.to_vec());
    }

    /// Returns `true` if the guest wants a frame.
    pub fn wants(&self, frame: &[u8]) -> bool {
        let Some(destination) = MacAddress::destination(frame) else { return false };
        let bits = match destination {
            MacAddress::BROADCAST => packet_filter::BROADCAST,
            group if group.is_group() && self.multicast.contains(&group) => {
                packet_filter::MULTICAST | packet_filter::ALL_MULTICAST
            }
            group if group.is_group() => packet_filter::ALL_MULTICAST,
            station if station == self.address => packet_filter::DIRECTED,
            _ => 0,
        };
        self.running && self.packet_filter & (bits | packet_filter::PROMISCUOUS) != 0
    }

    /// Returns the longest frame, without a VLAN tag, that is not to be cut.
    pub fn max_frame(&self) -> usize {
        usize::from(self.mtu) + ETHERNET_HEADER
    }

    /// Returns the longest frame that the guest gets in one section, its tag included.
    pub fn max_tagged_frame(&self) -> usize {
        self.max_frame() + VLAN_TAG
    }

    /// Returns the channel that a frame goes to, and its hash if there is one.
    pub fn channel(&self, frame: &[u8]) -> (u16, Option<u32>) {
        let Some(scaling) = self.scaling.as_ref().filter(|_| self.channels > 1) else { return (0, None) };
        match scaling.hash(frame) {
            // The table may name channels that are not open any more.
            Some(hash) => (scaling.channel(hash) % self.channels, Some(hash)),
            None => (0, None),
        }
    }
}
