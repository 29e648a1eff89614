//! The offloads that a guest requests for a frame that it sends.

use super::checksum;
#[cfg(test)]
use super::headers::be16;
use super::headers::{Headers, IpVersion, protocol, set_be16};
use crate::net::frame::{Checksum, FrameBuffer, Segmentation};

/// The reason why a frame does not match the guest's statements. It is dropped, which affects only the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransmitError {
    /// The frame has no IP packet, or one with invalid headers.
    #[error("an offload is requested for a frame without a complete IP packet")]
    NotIp,
    /// The frame has the other version of IP.
    #[error("the frame does not have the IP version that the guest states")]
    OtherVersion,
    /// The frame has no TCP or UDP header.
    #[error("the frame has no complete TCP or UDP header")]
    NoTransport,
    /// The segments would have no payload.
    #[error("a maximum segment size of {0} is invalid")]
    SegmentSize(u32),
}

/// The checksums that a guest leaves to the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// The IP version, as stated by the guest.
    pub version: IpVersion,
    /// Whether the IPv4 header's checksum is incomplete.
    pub ip_header: bool,
    /// The protocol whose checksum is incomplete: TCP or UDP of [`protocol`].
    pub transport: Option<u8>,
}

/// The segmentation that a guest requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The IP version, as stated by the guest.
    pub version: IpVersion,
    /// Payload bytes per segment.
    pub size: u32,
}

/// Prepares a frame with an incomplete checksum.
///
/// The guest states the offset of the TCP header, and writes the sum of the pseudo header into the checksum field
/// (MS-DOC `NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`). The offset is computed here instead, which costs little, so
/// that no later code needs to trust the guest.
///
/// # Errors
/// Returns an error if the frame does not match the guest's statements.
pub fn prepare_checksum(buffer: &mut FrameBuffer, wanted: Checksums) -> Result<(), TransmitError> {
    let headers = Headers::parse(&buffer.bytes).ok_or(TransmitError::NotIp)?;
    if headers.version != wanted.version {
        return Err(TransmitError::OtherVersion);
    }
    if wanted.ip_header {
        checksum::complete_ipv4_header(&mut buffer.bytes, &headers);
    }
    if let Some(named) = wanted.transport {
        if headers.protocol != named {
            return Err(TransmitError::NoTransport);
        }
        let open = checksum::leave_open(&mut buffer.bytes, &headers).ok_or(TransmitError::NoTransport)?;
        buffer.offload.checksum = open;
    }
    Ok(())
}

/// Prepares a TCP packet for segmentation (large send offload, version 2).
///
/// The guest sets the IP packet's length to 0 and leaves the checksums incomplete. They are set for the whole packet.
///
/// # Errors
/// Returns an error if the frame does not match the guest's statements.
pub fn prepare_large_send(buffer: &mut FrameBuffer, wanted: Cut) -> Result<(), TransmitError> {
    let size = u16::try_from(wanted.size).ok().filter(|size| *size > 0);
    let size = size.ok_or(TransmitError::SegmentSize(wanted.size))?;
    let bytes = &mut buffer.bytes;
    let headers = Headers::parse(bytes).ok_or(TransmitError::NotIp)?;
    if headers.version != wanted.version {
        return Err(TransmitError::OtherVersion);
    }
    if headers.protocol != protocol::TCP || headers.checksum_offset().is_none() {
        return Err(TransmitError::NoTransport);
    }
    let data = usize::from(bytes[headers.transport + 12] >> 4) * 4;
    let payload = headers.transport + data;
    if data < 20 || payload > headers.end {
        return Err(TransmitError::NoTransport);
    }
    let length = u16::try_from(headers.end - headers.network).map_err(|_| TransmitError::NotIp)?;
    match headers.version {
        IpVersion::V4 => set_be16(bytes, headers.network + 2, length),
        IpVersion::V6 => set_be16(bytes, headers.network + 4, length.saturating_sub(40)),
    }
    checksum::complete_ipv4_header(bytes, &headers);
    buffer.offload.checksum = checksum::leave_open(bytes, &headers).ok_or(TransmitError::NoTransport)?;
    // A packet that fits in one segment is an ordinary one; the kernel refuses to segment it.
    if headers.end - payload > usize::from(size) {
        let headers = u16::try_from(payload).map_err(|_| TransmitError::NotIp)?;
        buffer.offload.segmentation = Some(Segmentation { version: wanted.version, size, headers });
    }
    Ok(())
}

/// Returns `true` if the IP packet in a frame has its length set.
#[cfg(test)]
pub fn has_length(frame: &[u8], headers: &Headers) -> bool {
    let offset = if headers.version == IpVersion::V4 { 2 } else { 4 };
    be16(frame, headers.network + offset).is_some_and(|length| length != 0)
}

/// Completes the checksums of a frame for a guest that has not enabled the offload.
pub fn complete_for_guest(buffer: &mut FrameBuffer) {
    checksum::complete(&mut buffer.bytes, buffer.offload.checksum);
    buffer.offload.checksum = Checksum::Verified;
}

#[cfg(test)]
#[path = "transmit_tests.rs"]
mod tests;
