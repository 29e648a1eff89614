//! Ethernet frames between a guest and a backend, and what is still to be done to them.
//!
//! A guest hands over frames whose checksum it left open, and TCP segments of up to 64 KiB that are to be cut
//! into many. A backend that can pass such frames on as they are, does; for the others the work is done in [`offload`](super::offload).

use super::offload::headers::IpVersion;

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;

/// Length of an 802.1Q tag.
pub const VLAN_TAG: usize = 4;

/// The longest frame that travels inside of this program: an IP packet of the greatest length with an Ethernet header and two tags.
pub const MAX_FRAME: usize = u16::MAX as usize + ETHERNET_HEADER + 2 * VLAN_TAG;

/// A frame and what is still to be done to it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The frame from its destination address on, without frame check sequence.
    pub bytes: &'a [u8],
    /// What is to be done.
    pub offload: Offload,
}

impl<'a> Frame<'a> {
    /// Returns a frame to which nothing is to be done.
    pub fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, offload: Offload::default() }
    }
}

/// A frame that owns its bytes. Made to be filled again and again.
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

/// What is still to be done to a frame, or need not be done any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The TCP or UDP checksum.
    pub checksum: Checksum,
    /// The frame is longer than the network allows: cut it.
    pub segmentation: Option<Segmentation>,
}

/// The state of a frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It stands in the frame; nobody has verified it.
    #[default]
    Unverified,
    /// It stands in the frame, and somebody has found it right.
    Verified,
    /// It is to be computed: over the bytes from `start` to the end. In its place stands the sum of the pseudo header.
    Partial {
        /// Where the transport header starts.
        start: u16,
        /// Where in the transport header the checksum has its place.
        offset: u16,
    },
}

/// How a TCP segment that is too long is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// The IP version that carries the segment.
    pub version: IpVersion,
    /// How many bytes of payload a segment is to have.
    pub size: u16,
    /// Length of all headers, from the frame's start to the payload's.
    pub headers: u16,
}
