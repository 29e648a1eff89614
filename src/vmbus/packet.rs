//! The packets in a channel's rings, as plain data.
//!
//! A packet consists of a [`PacketHeader`], a further header that depends on its kind, the payload padded to a multiple
//! of eight bytes, and a [`PacketFooter`]. Lengths and offsets in the header are in units of eight bytes and do not
//! include the footer. (Linux: `struct vmpacket_descriptor` and the following structures in `include/linux/hyperv.h`.)

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kind of a packet. Unknown kinds are kept.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PacketKind(pub u16);

impl PacketKind {
    /// The payload is in the packet.
    pub const IN_BAND: Self = Self(6);
    /// The payload describes data in pages of a shared GPADL: [`TransferPagesHeader`].
    pub const TRANSFER_PAGES: Self = Self(7);
    /// The payload describes data in pages that the packet lists: `GpaDirectHeader`.
    pub const GPA_DIRECT: Self = Self(9);
    /// Cancels the request with that transaction id.
    pub const CANCEL: Self = Self(0xa);
    /// The reply to a packet with `PacketHeader::COMPLETION_REQUESTED`.
    pub const COMPLETION: Self = Self(0xb);

    /// Returns the usual name of the kind.
    pub(crate) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::IN_BAND => "in-band",
            Self::TRANSFER_PAGES => "transfer-pages",
            Self::GPA_DIRECT => "GPA-direct",
            Self::CANCEL => "cancel",
            Self::COMPLETION => "completion",
            _ => return None,
        })
    }
}

impl fmt::Debug for PacketKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "packet kind {}", self.0),
        }
    }
}

/// The start of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketHeader {
    /// The kind of the packet.
    pub kind: PacketKind,
    /// Start of the payload, in units of eight bytes from the start of this header.
    pub payload_offset8: u16,
    /// End of the payload, in the same units.
    pub length8: u16,
    /// See `COMPLETION_REQUESTED`.
    pub flags: u16,
    /// Chosen by the requester; returned in the completion.
    pub transaction_id: u64,
}
const _: () = assert!(size_of::<PacketHeader>() == 16);

impl PacketHeader {
    /// In [`flags`](Self::flags): the sender waits for a completion.
    pub(crate) const COMPLETION_REQUESTED: u16 = 1;

    /// Length of the packet without its footer, in bytes.
    pub(crate) fn length(&self) -> u32 {
        u32::from(self.length8) * 8
    }

    /// Returns the offset of the payload in bytes.
    pub(crate) fn payload_offset(&self) -> u32 {
        u32::from(self.payload_offset8) * 8
    }

    /// Returns `true` if the sender waits for a completion.
    pub fn wants_completion(&self) -> bool {
        self.flags & Self::COMPLETION_REQUESTED != 0
    }
}

/// The end of every packet. It is not evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketFooter {
    /// 0.
    pub reserved: u32,
    /// The packet's offset in the ring.
    pub packet_offset: u32,
}
const _: () = assert!(size_of::<PacketFooter>() == 8);

/// Follows the header of a [`GPA_DIRECT`](PacketKind::GPA_DIRECT) packet. The ranges follow, each a [`GpaRangeHeader`]
/// and its page numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GpaDirectHeader {
    /// 0.
    pub reserved: u32,
    /// Number of ranges that follow.
    pub range_count: u32,
}
const _: () = assert!(size_of::<GpaDirectHeader>() == 8);

/// The start of a range of guest memory in GPADLs and in GPA-direct packets. One page number follows for each page that
/// the range touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GpaRangeHeader {
    /// Length in bytes.
    pub byte_count: u32,
    /// Offset into the first page.
    pub byte_offset: u32,
}
const _: () = assert!(size_of::<GpaRangeHeader>() == 8);

/// Follows the header of a [`TRANSFER_PAGES`](PacketKind::TRANSFER_PAGES) packet. The ranges follow, each a [`TransferRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransferPagesHeader {
    /// The buffer that contains the ranges, as device and driver have agreed.
    pub page_set: u16,
    /// Whether the sender owns the buffer.
    pub sender_owns_set: u8,
    /// 0.
    pub reserved: u8,
    /// Number of ranges that follow.
    pub range_count: u32,
}
const _: () = assert!(size_of::<TransferPagesHeader>() == 8);

/// A range of the buffer that a [`TransferPagesHeader`] refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransferRange {
    /// Length in bytes.
    pub byte_count: u32,
    /// Offset into the buffer.
    pub byte_offset: u32,
}
const _: () = assert!(size_of::<TransferRange>() == 8);
