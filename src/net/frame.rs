//! Ethernet frames between a guest and a backend, and their pending offloads.
//!
//! A guest sends frames with incomplete checksums, and TCP segments of up to 64 KiB that must be segmented. A backend
//! that supports such frames gets them unchanged. For the others, [`offload`](super::offload) does the work.

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;

/// Length of an 802.1Q tag.
pub const VLAN_TAG: usize = 4;

/// Maximum length of a frame in this program: an IP packet of maximum length with an Ethernet header and two tags.
pub const MAX_FRAME: usize = u16::MAX as usize + ETHERNET_HEADER + 2 * VLAN_TAG;

/// A frame and its pending offloads.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The frame, starting with its destination address, without frame check sequence.
    pub bytes: &'a [u8],
    /// The pending offloads.
    pub offload: Offload,
}

impl<'a> Frame<'a> {
    /// Creates a frame without pending offloads.
    #[cfg(test)]
    pub fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, offload: Offload::default() }
    }
}

/// A frame that owns its bytes. It is meant to be reused.
#[derive(Clone, Debug, Default)]
pub struct FrameBuffer {
    /// As in [`Frame::bytes`].
    pub bytes: Vec<u8>,
    /// As in [`Frame::offload`].
    pub offload: Offload,
}

impl FrameBuffer {
    /// Returns the frame in the buffer.
    pub fn frame(&self) -> Frame<'_> {
        Frame { bytes: &self.bytes, offload: self.offload }
    }

    /// Replaces the frame in the buffer.
    pub fn set(&mut self, frame: Frame<'_>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(frame.bytes);
        self.offload = frame.offload;
    }
}

/// The offloads that are pending for a frame, or already done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The TCP or UDP checksum.
    pub checksum: Checksum,
    /// Set if the frame is longer than the network allows and must be segmented.
    pub segmentation: Option<Segmentation>,
}

/// The state of a frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum is complete, but not verified.
    #[default]
    Unverified,
    /// The checksum is complete and verified.
    Verified,
    /// The checksum must be computed over the bytes from `start` to the end. The field contains the sum of the pseudo
    /// header.
    Partial {
        /// Offset of the transport header.
        start: u16,
        /// Offset of the checksum in the transport header.
        offset: u16,
    },
}

/// How to segment a TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// The IP version of the packet.
    pub version: IpVersion,
    /// Number of payload bytes per segment.
    pub size: u16,
    /// Length of all headers, from the frame's start to the payload.
    pub headers: u16,
}

/// The version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}
