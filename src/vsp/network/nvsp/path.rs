//! The result of the primary channel's negotiation, as it concerns frames.
//!
//! A [`Path`] is immutable; changes create a new one. So the channels' threads share it without a lock, and a frame is
//! processed by one set of rules from start to end.

use crate::memory::buffer::GuestBuffer;
use crate::net::frame::{ETHERNET_HEADER, VLAN_TAG};
use crate::net::mac::MacAddress;
use crate::net::rss::Scaling;
use crate::vmbus::ids::GpadlId;
use crate::vsp::network::rndis::adapter::Adapter;
use crate::vsp::network::rndis::offload::Offloads;
use crate::vsp::network::rndis::oid::packet_filter;
use crate::vsp::network::rndis::packet::MAX_PACKET_HEADER;

/// The division of the receive buffer.
#[derive(Clone, Debug)]
pub struct ReceiveBuffer {
    /// The guest's memory.
    pub memory: GuestBuffer,
    /// The GPADL of that memory.
    pub gpadl: GpadlId,
    /// The guest's id for it.
    pub id: u16,
    /// Size of a section in bytes.
    pub section_size: u32,
    /// Number of sections.
    pub section_count: u32,
    /// Distinguishes this buffer from one that was revoked earlier.
    pub generation: u64,
}

/// Returns the section size of the receive buffer: a frame of maximum length with its RNDIS header, in whole cache
/// lines.
pub fn receive_section(mtu: u16) -> u32 {
    const CACHE_LINE: usize = 64;
    // Every control message must fit, too; the longest is the one with the friendly name.
    const LEAST: usize = 1024;
    let length = usize::from(mtu) + ETHERNET_HEADER + VLAN_TAG + MAX_PACKET_HEADER;
    length.max(LEAST).next_multiple_of(CACHE_LINE) as u32
}

/// The division of the send buffer.
#[derive(Clone, Debug)]
pub struct SendBuffer {
    /// The guest's memory.
    pub memory: GuestBuffer,
    /// The GPADL of that memory.
    pub gpadl: GpadlId,
    /// Size of a section in bytes.
    pub section_size: u32,
}

/// The rules for frames; see the module's description.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Whether frames are transferred at all.
    pub running: bool,
    /// The buffer for frames to the guest.
    pub receive: Option<ReceiveBuffer>,
    /// The buffer for frames from the guest.
    pub send: Option<SendBuffer>,
    /// The offloads that the guest has enabled.
    pub offloads: Offloads,
    /// The distribution of frames over channels.
    pub scaling: Option<Scaling>,
    /// Number of channels, including the primary one.
    pub channels: u16,
    /// Whether VLAN tags are in the per-packet information.
    pub vlan_beside: bool,
    /// Maximum length of an IP packet.
    pub mtu: u16,
    packet_filter: u32,
    address: MacAddress,
    multicast: Vec<MacAddress>,
}

impl Path {
    /// Copies the settings of the adapter.
    pub(super) fn follow(&mut self, adapter: &Adapter) {
        let (packet_filter, address, multicast) = adapter.filter();
        self.running = adapter.is_running();
        self.offloads = adapter.offloads();
        self.scaling = adapter.scaling().cloned();
        self.mtu = adapter.mtu();
        (self.packet_filter, self.address, self.multicast) = (packet_filter, address, multicast.to_vec());
    }

    /// Returns `true` if the guest's packet filter accepts a frame.
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

    /// Returns the length of the longest frame, without a VLAN tag, that is not segmented.
    pub fn max_frame(&self) -> usize {
        usize::from(self.mtu) + ETHERNET_HEADER
    }

    /// Returns the length of the longest frame that fits in one section, including its tag.
    pub fn max_tagged_frame(&self) -> usize {
        self.max_frame() + VLAN_TAG
    }

    /// Returns the channel for a frame, and its hash if there is one.
    pub fn channel(&self, frame: &[u8]) -> (u16, Option<u32>) {
        let Some(scaling) = self.scaling.as_ref().filter(|_| self.channels > 1) else { return (0, None) };
        match scaling.hash(frame) {
            // The table may contain channels that have been closed.
            Some(hash) => (scaling.channel(hash) % self.channels, Some(hash)),
            None => (0, None),
        }
    }
}
