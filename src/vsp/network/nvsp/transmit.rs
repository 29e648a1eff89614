//! Frames from the guest.
//!
//! A packet's RNDIS messages are in a section of the send buffer, in guest pages that the packet lists, or begin in the
//! section and continue in the pages. They are all copied once; after that, the guest cannot change what is checked and
//! sent.

use zerocopy::FromBytes;

use super::path::Path;
use super::wire::{MessageType, SendRndisPacket, Status, split};
use crate::memory::buffer::{BufferError, GuestBuffer};
use crate::net::counters::NetCounters;
use crate::net::frame::{ETHERNET_HEADER, Frame, FrameBuffer, MAX_FRAME, Offload};
use crate::net::offload::transmit::{TransmitError, prepare_checksum, prepare_large_send};
use crate::net::offload::vlan;
use crate::vsp::network::rndis::adapter::{MAX_CONTROL, MAX_TRANSFER};
use crate::vsp::network::rndis::info::TransmitChecksum;
use crate::vsp::network::rndis::packet::{DataMessage, DataMessages, PacketError};

/// The reason why a packet's RNDIS messages cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// The packet names a section, but there is no send buffer.
    #[error("it refers to section {0}, but there is no send buffer")]
    NoSendBuffer(u32),
    /// The packet's data is longer than a section.
    #[error("it has {length} bytes in a section of {size} bytes")]
    SectionLength {
        /// The length that it uses.
        length: u32,
        /// Size of a section.
        size: u32,
    },
    /// The messages are too long.
    #[error("it transfers {length} bytes, but at most {most} are allowed")]
    TooLong {
        /// Their length.
        length: usize,
        /// Maximum length.
        most: usize,
    },
    /// The section exceeds the buffer.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// Parses a `SEND_RNDIS_PACKET` message.
pub fn read_request(payload: &[u8]) -> Option<SendRndisPacket> {
    match split(payload)? {
        (MessageType::SEND_RNDIS_PACKET, body) => SendRndisPacket::read_from_prefix(body).ok().map(|(body, _)| body),
        _ => None,
    }
}

/// The reason why a frame from the guest was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is shorter than an Ethernet header, or longer than allowed.
    #[error("its length of {0} bytes is invalid")]
    Length(usize),
    /// It does not match its per-packet information.
    #[error(transparent)]
    Offload(#[from] TransmitError),
}

/// The transmit side of one channel. It keeps only reusable buffers.
#[derive(Debug, Default)]
pub struct Transmitter {
    transfer: Vec<u8>,
    frame: FrameBuffer,
}

impl Transmitter {
    /// Copies a packet's messages out of guest memory.
    ///
    /// # Errors
    /// Returns an error if the guest names memory that it does not have, or too much of it.
    pub fn gather(
        &mut self,
        path: &Path,
        request: &SendRndisPacket,
        ranges: &[GuestBuffer],
    ) -> Result<&[u8], GatherError> {
        let SendRndisPacket { section, section_length, channel_type } = *request;
        let section_used = if section == SendRndisPacket::NO_SECTION { 0 } else { section_length as usize };
        let most = if channel_type == SendRndisPacket::DATA { MAX_TRANSFER } else { MAX_CONTROL };
        let length = ranges.iter().map(GuestBuffer::len).fold(section_used, usize::saturating_add);
        if length > most {
            return Err(GatherError::TooLong { length, most });
        }
        self.transfer.resize(length, 0);
        let (first, mut rest) = self.transfer.split_at_mut(section_used);
        if section != SendRndisPacket::NO_SECTION {
            let buffer = path.send.as_ref().ok_or(GatherError::NoSendBuffer(section))?;
            let size = buffer.section_size;
            if section_length > size {
                return Err(GatherError::SectionLength { length: section_length, size });
            }
            buffer.memory.read((section as usize).saturating_mul(size as usize), first)?;
        }
        for range in ranges {
            let (now, later) = rest.split_at_mut(range.len());
            range.read(0, now)?;
            rest = later;
        }
        Ok(&self.transfer)
    }

    /// Returns the messages that were gathered last.
    pub fn transfer(&self) -> &[u8] {
        &self.transfer
    }

    /// Sends the frames of a packet and returns the status for its completion.
    ///
    /// `send` is called with each frame and its pending offloads, and returns `false` if there was no room for it.
    pub fn send(
        &mut self,
        path: &Path,
        request: &SendRndisPacket,
        ranges: &[GuestBuffer],
        counters: &NetCounters,
        mut send: impl FnMut(Frame<'_>) -> bool,
    ) -> Status {
        if let Err(error) = self.gather(path, request, ranges) {
            log::debug!("a network packet was refused: {error}");
            counters.transmit.count_error();
            return Status::INVALID_RNDIS_PACKET;
        }
        let Self { transfer, frame } = self;
        for message in DataMessages::new(transfer) {
            match message.map_err(|error: PacketError| error.to_string()) {
                Ok(message) if path.running => match prepare(frame, path, &message) {
                    Ok(()) if send(frame.frame()) => counters.transmit.count(&frame.bytes),
                    Ok(()) => counters.transmit.count_dropped(1),
                    Err(error) => {
                        log::debug!("a frame from the guest was dropped: {error}");
                        counters.transmit.count_error();
                    }
                },
                Ok(_) => counters.transmit.count_dropped(1),
                Err(error) => {
                    log::debug!("a network packet was refused: {error}");
                    counters.transmit.count_error();
                    return Status::INVALID_RNDIS_PACKET;
                }
            }
        }
        Status::SUCCESS
    }
}

/// Converts a message to a frame for the backend.
fn prepare(buffer: &mut FrameBuffer, path: &Path, message: &DataMessage<'_>) -> Result<(), FrameError> {
    let length = message.frame.len();
    let longest = if message.information.large_send.is_some() { MAX_FRAME } else { path.max_tagged_frame() };
    if !(ETHERNET_HEADER..=longest).contains(&length) {
        return Err(FrameError::Length(length));
    }
    buffer.bytes.clear();
    buffer.bytes.extend_from_slice(message.frame);
    buffer.offload = Offload::default();
    // Only version 2 of the offload was offered.
    match message.information.large_send.filter(|large_send| large_send.is_version_2()) {
        Some(large_send) => prepare_large_send(buffer, large_send.into())?,
        None => {
            if let Some(checksum) = message.information.checksum.filter(|checksum| *checksum != 0) {
                prepare_checksum(buffer, TransmitChecksum(checksum).into())?;
            }
            if length > path.max_tagged_frame() {
                return Err(FrameError::Length(length));
            }
        }
    }
    if let Some(tag) = message.information.vlan {
        vlan::insert(buffer, tag.into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "transmit_tests.rs"]
mod tests;
