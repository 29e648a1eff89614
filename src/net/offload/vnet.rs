//! The header of tap devices: `struct virtio_net_hdr` (VIRTIO 1.2, 5.1.6; Linux: `include/uapi/linux/virtio_net.h`).

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::headers::{Headers, IpVersion};
use crate::net::frame::{Checksum, Frame, Offload, Segmentation};

/// The header before each frame, in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VnetHeader {
    /// See the constants.
    pub flags: u8,
    /// See the constants.
    pub segmentation_type: u8,
    /// Length of all headers.
    pub header_length: u16,
    /// Payload length of a segment.
    pub segment_size: u16,
    /// Start of the bytes to sum.
    pub checksum_start: u16,
    /// Offset of the checksum from `checksum_start`.
    pub checksum_offset: u16,
}
const _: () = assert!(size_of::<VnetHeader>() == 10);

/// Length of the header.
pub const VNET_HEADER: usize = size_of::<VnetHeader>();

impl VnetHeader {
    /// In [`flags`](Self::flags): the checksum must be computed.
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// In [`flags`](Self::flags): the checksum has been verified.
    pub const CHECKSUM_VALID: u8 = 2;
    /// In [`segmentation_type`](Self::segmentation_type): TCP over IPv4.
    pub const TCP4: u8 = 1;
    /// In [`segmentation_type`](Self::segmentation_type): TCP over IPv6.
    pub const TCP6: u8 = 4;
    /// Bit of [`segmentation_type`](Self::segmentation_type): the packet marks congestion (ECN).
    pub const CONGESTION: u8 = 0x80;

    /// Returns the header for a frame.
    pub fn of(frame: &Frame<'_>) -> Self {
        let mut header = Self::new_zeroed();
        match frame.offload.checksum {
            Checksum::Unverified => {}
            Checksum::Verified => header.flags = Self::CHECKSUM_VALID,
            Checksum::Partial { start, offset } => {
                header.flags = Self::NEEDS_CHECKSUM;
                (header.checksum_start, header.checksum_offset) = (start, offset);
            }
        }
        if let Some(Segmentation { version, size, headers }) = frame.offload.segmentation {
            header.segmentation_type = match version {
                IpVersion::V4 => Self::TCP4,
                IpVersion::V6 => Self::TCP6,
            };
            (header.segment_size, header.header_length) = (size, headers);
        }
        header
    }

    /// Returns the offloads that the header states for `frame`, or `None` if they were not negotiated or do not match
    /// the frame.
    pub fn offload(&self, frame: &[u8]) -> Option<Offload> {
        let checksum = if self.flags & Self::NEEDS_CHECKSUM != 0 {
            let place = usize::from(self.checksum_start) + usize::from(self.checksum_offset);
            if place + 2 > frame.len() {
                return None;
            }
            Checksum::Partial { start: self.checksum_start, offset: self.checksum_offset }
        } else if self.flags & Self::CHECKSUM_VALID != 0 {
            Checksum::Verified
        } else {
            Checksum::Unverified
        };
        let version = match self.segmentation_type & !Self::CONGESTION {
            0 => return Some(Offload { checksum, segmentation: None }),
            Self::TCP4 => IpVersion::V4,
            Self::TCP6 => IpVersion::V6,
            _ => return None,
        };
        let headers = Headers::parse(frame).filter(|headers| headers.version == version)?;
        // The kernel's header_length is only a hint, so it is computed here.
        let data = frame.get(headers.transport + 12)? >> 4;
        let end = headers.transport + usize::from(data) * 4;
        if self.segment_size == 0 || end > headers.end {
            return None;
        }
        let segmentation = Segmentation { version, size: self.segment_size, headers: u16::try_from(end).ok()? };
        Some(Offload { checksum, segmentation: Some(segmentation) })
    }
}

#[cfg(test)]
#[path = "vnet_tests.rs"]
mod tests;
