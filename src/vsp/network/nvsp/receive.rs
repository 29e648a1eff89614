//! Frames to the guest.
//!
//! Each frame goes into a section of the receive buffer, after an RNDIS header with per-packet information. A TCP
//! segment that is longer than the MTU goes into as many sections as it needs if the driver supports that; otherwise it
//! is segmented. One packet announces several sections to the guest. The number of free sections limits what can wait
//! for the guest.

use super::path::{Path, ReceiveBuffer};
use super::sections::{Sections, Transaction};
use super::wire::{MessageType, SendRndisPacket, message};
use crate::memory::buffer::BufferError;
use crate::net::frame::{Checksum, ETHERNET_HEADER, FrameBuffer};
use crate::net::offload::headers::{Headers, IpVersion, protocol};
use crate::net::offload::segment::Segmenter;
use crate::net::offload::transmit::complete_for_guest;
use crate::net::offload::vlan;
use crate::vmbus::packet::TransferRange;
use crate::vsp::network::rndis::info::{Information, PacketId, ReceiveChecksum};
use crate::vsp::network::rndis::packet::{MAX_PACKET_HEADER, header};

/// Maximum number of ranges in a transfer-pages packet for drivers of NDIS 6.
pub const MAX_RANGES: usize = 375;

/// A packet with this many ranges is sent before the next frame is added. Up to [`MAX_RANGES`], this leaves room for
/// the longest segment.
const ENOUGH_RANGES: usize = 256;

/// Number of sections that are reserved for control messages.
pub const RESERVED: usize = 8;

/// The reason why a frame does not reach the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The guest has not returned any sections.
    #[error("no section of the receive buffer is free")]
    Full,
    /// The frame is longer than the MTU allows.
    #[error("a frame has an invalid length of {0} bytes")]
    Length(usize),
    /// There is no receive buffer.
    #[error("there is no receive buffer")]
    NoBuffer,
    /// The section exceeds the buffer.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// A transfer-pages packet for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferPacket {
    /// The packet's transaction id. A completion is required.
    pub transaction: Transaction,
    /// The packet's page set: the guest's id for the buffer.
    pub page_set: u16,
    /// The used parts of the sections.
    pub ranges: Vec<TransferRange>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// The receive side of one channel: collects frames for the next packet.
#[derive(Debug)]
pub struct Receiver {
    channel: u16,
    message_length: usize,
    transaction: Option<Transaction>,
    ranges: Vec<TransferRange>,
    piece: FrameBuffer,
}

impl Receiver {
    /// Creates the receiver of channel number `channel`. Messages are padded to `message_length`.
    pub fn new(channel: u16, message_length: usize) -> Self {
        Self { channel, message_length, transaction: None, ranges: Vec::new(), piece: FrameBuffer::default() }
    }

    /// Returns `true` if the packet should be sent before more frames are added.
    pub fn is_full(&self) -> bool {
        self.ranges.len() >= ENOUGH_RANGES
    }

    /// Returns `true` if there is nothing to send.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Puts a frame into sections. The frame is modified.
    ///
    /// # Errors
    /// Returns an error if the frame does not fit, or if not all pieces of a segmented frame fit.
    pub fn add(
        &mut self,
        path: &Path,
        sections: &mut Sections,
        frame: &mut FrameBuffer,
        hash: Option<u32>,
    ) -> Result<(), ReceiveError> {
        let buffer = path.receive.as_ref().ok_or(ReceiveError::NoBuffer)?;
        if frame.bytes.len() < ETHERNET_HEADER {
            return Err(ReceiveError::Length(frame.bytes.len()));
        }
        let tag = if path.vlan_beside { vlan::remove(frame) } else { None };
        let mut information = Information { vlan: tag.map(Into::into), hash, ..Information::default() };
        let Some(segmentation) = frame.offload.segmentation else {
            return self.add_one(path, buffer, sections, frame, information);
        };
        let coalescing = match segmentation.version {
            IpVersion::V4 => path.offloads.coalescing4,
            IpVersion::V6 => path.offloads.coalescing6,
        };
        if coalescing {
            information.checksum = finish_checksum(path, frame);
            return self.add_coalesced(buffer, sections, &frame.bytes, information);
        }
        let mut segmenter = Segmenter::new(&frame.frame()).ok_or(ReceiveError::Length(frame.bytes.len()))?;
        let mut piece = std::mem::take(&mut self.piece);
        let mut result = Ok(());
        while result.is_ok() && segmenter.next_into(&mut piece) {
            result = self.add_one(path, buffer, sections, &mut piece, information);
        }
        self.piece = piece;
        result
    }

    fn add_one(
        &mut self,
        path: &Path,
        buffer: &ReceiveBuffer,
        sections: &mut Sections,
        frame: &mut FrameBuffer,
        mut information: Information,
    ) -> Result<(), ReceiveError> {
        let longest = if information.vlan.is_some() { path.max_frame() } else { path.max_tagged_frame() };
        if frame.bytes.len() > longest {
            return Err(ReceiveError::Length(frame.bytes.len()));
        }
        if sections.free() <= RESERVED || self.ranges.len() >= MAX_RANGES {
            return Err(ReceiveError::Full);
        }
        information.checksum = finish_checksum(path, frame);
        self.write(buffer, sections, &information, &frame.bytes)
    }

    /// Distributes a long segment over sections of one packet (NVSP 6.1, RSC over VMBus).
    fn add_coalesced(
        &mut self,
        buffer: &ReceiveBuffer,
        sections: &mut Sections,
        frame: &[u8],
        information: Information,
    ) -> Result<(), ReceiveError> {
        let room = buffer.section_size as usize - MAX_PACKET_HEADER;
        let pieces = frame.len().div_ceil(room);
        if sections.free() < pieces + RESERVED || self.ranges.len() + pieces > MAX_RANGES {
            return Err(ReceiveError::Full);
        }
        for (index, piece) in frame.chunks(room).enumerate() {
            let first = if index == 0 { PacketId::FIRST } else { 0 };
            let last = if index + 1 == pieces { PacketId::LAST } else { 0 };
            let packet_id = PacketId { version: 1, flags: PacketId::PART | first | last, id: 0 };
            // Only the first message's per-packet information is evaluated.
            let others = if index == 0 { information } else { Information::default() };
            self.write(buffer, sections, &Information { packet_id: Some(packet_id), ..others }, piece)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        buffer: &ReceiveBuffer,
        sections: &mut Sections,
        information: &Information,
        bytes: &[u8],
    ) -> Result<(), ReceiveError> {
        let (head, length) = header(information, bytes.len());
        self.take(buffer, sections, &[&head[..length], bytes])
    }

    /// Takes a section and writes into it.
    fn take(&mut self, buffer: &ReceiveBuffer, sections: &mut Sections, parts: &[&[u8]]) -> Result<(), ReceiveError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > buffer.section_size as usize {
            return Err(ReceiveError::Length(length));
        }
        let section = sections.take(self.channel, self.transaction).ok_or(ReceiveError::Full)?;
        self.transaction.get_or_insert(Transaction(section.into()));
        let start = section * buffer.section_size;
        let mut offset = start as usize;
        for part in parts {
            buffer.memory.write(offset, part)?;
            offset += part.len();
        }
        self.ranges.push(TransferRange { byte_count: length as u32, byte_offset: start });
        Ok(())
    }

    /// Returns the packet with all frames since the last one, or `None` if there are none.
    pub fn finish(&mut self, path: &Path) -> Option<TransferPacket> {
        self.packet(path, SendRndisPacket::DATA)
    }

    /// Returns a packet with one control message. The caller first sends the frames that were added.
    ///
    /// # Errors
    /// Returns an error if no section is free; try again when the guest has returned some.
    pub fn control(
        &mut self,
        path: &Path,
        sections: &mut Sections,
        control: &[u8],
    ) -> Result<TransferPacket, ReceiveError> {
        let buffer = path.receive.as_ref().ok_or(ReceiveError::NoBuffer)?;
        self.take(buffer, sections, &[control])?;
        self.packet(path, SendRndisPacket::CONTROL).ok_or(ReceiveError::NoBuffer)
    }

    fn packet(&mut self, path: &Path, channel_type: u32) -> Option<TransferPacket> {
        let transaction = self.transaction.take()?;
        let ranges = std::mem::take(&mut self.ranges);
        let page_set = path.receive.as_ref()?.id;
        let body = SendRndisPacket { channel_type, section: SendRndisPacket::NO_SECTION, section_length: 0 };
        let payload = message(MessageType::SEND_RNDIS_PACKET, &body, self.message_length);
        Some(TransferPacket { transaction, page_set, ranges, payload })
    }
}

/// Completes a partial checksum, and returns the per-packet information about verified checksums if the
/// guest has enabled it.
///
/// RNDIS can mark a checksum as incomplete, but Linux ignores that when it verifies checksums itself or forwards the
/// frame, and the host cannot know when it does.
fn finish_checksum(path: &Path, frame: &mut FrameBuffer) -> Option<u32> {
    let is_local = match frame.offload.checksum {
        Checksum::Unverified => return None,
        Checksum::Verified => false,
        Checksum::Partial { .. } => true,
    };
    if is_local {
        complete_for_guest(frame);
    }
    let headers = Headers::parse(&frame.bytes)?;
    let offloads = &path.offloads;
    let (on, note) = match (headers.version, headers.protocol) {
        (IpVersion::V4, protocol::TCP) => (offloads.tcp4.receive, ReceiveChecksum::TCP_SUCCEEDED),
        (IpVersion::V6, protocol::TCP) => (offloads.tcp6.receive, ReceiveChecksum::TCP_SUCCEEDED),
        (IpVersion::V4, protocol::UDP) => (offloads.udp4.receive, ReceiveChecksum::UDP_SUCCEEDED),
        (IpVersion::V6, protocol::UDP) => (offloads.udp6.receive, ReceiveChecksum::UDP_SUCCEEDED),
        _ => return None,
    };
    // The IP header of a frame from another host has not been checked.
    let ip = headers.version == IpVersion::V4 && offloads.ipv4.receive && is_local;
    on.then_some(note | if ip { ReceiveChecksum::IP_SUCCEEDED } else { 0 })
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
