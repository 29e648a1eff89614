//! What lies in a channel's rings: packets, as plain data.
//!
//! A packet is a [`PacketHeader`], more header as its kind wants it, the payload up to the next multiple of
//! eight bytes, and a [`PacketFooter`]. Lengths and offsets in the header count units of eight bytes
//! and leave out the footer. (Linux: `struct vmpacket_descriptor` and what follows it in `include/linux/hyperv.h`.)

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An open enum of packet kinds.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PacketKind(pub u16);

impl PacketKind {
    /// The payload is in the packet.
    pub const IN_BAND: Self = Self(6);
    /// The payload describes data that lies in pages of a GPADL that both sides know: [`TransferPagesHeader`].
    pub const TRANSFER_PAGES: Self = Self(7);
    /// The payload describes data that lies in pages named by the packet: [`GpaDirectHeader`].
    pub const GPA_DIRECT: Self = Self(9);
    /// The request of that transaction is to be cancelled.
    pub const CANCEL: Self = Self(0xa);
    /// The answer to a packet with [`PacketHeader::COMPLETION_REQUESTED`].
    pub const COMPLETION: Self = Self(0xb);

    /// Returns what people call the kind.
    pub fn name(self) -> Option<&'static str> {
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

/// What every packet starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketHeader {
    /// How to read the rest.
    pub kind: PacketKind,
    /// Where the payload starts, in units of eight bytes from the start of this header.
    pub payload_offset8: u16,
    /// Where it ends, in the same units.
    pub length8: u16,
    /// See [`COMPLETION_REQUESTED`](Self::COMPLETION_REQUESTED).
    pub flags: u16,
    /// Chosen by who asks; comes back in the completion.
    pub transaction_id: u64,
}
const _: () = assert!(size_of::<PacketHeader>() == 16);

impl PacketHeader {
    /// In [`flags`](Self::flags): the sender waits for a completion.
    pub const COMPLETION_REQUESTED: u16 = 1;

    /// Length of the packet without its footer, in bytes.
    pub fn length(&self) -> u32 {
        u32::from(self.length8) * 8
    }

    /// Returns where the payload starts, in bytes.
    pub fn payload_offset(&self) -> u32 {
        u32::from(self.payload_offset8) * 8
    }

    /// Returns `true` if the sender waits for a completion.
    pub fn wants_completion(&self) -> bool {
        self.flags & Self::COMPLETION_REQUESTED != 0
    }
}

/// What every packet ends with. Nobody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketFooter {
    /// 0.
    pub reserved: u32,
    /// Where this packet starts in the ring.
    pub packet_offset: u32,
}
const _: () = assert!(size_of::<PacketFooter>() == 8);

/// Follows the header of a [`GPA_DIRECT`](PacketKind::GPA_DIRECT) packet. The ranges follow, each a [`GpaRangeHeader`] and its page numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GpaDirectHeader {
    /// 0.
    pub reserved: u32,
    /// How many ranges follow.
    pub range_count: u32,
}
const _: () = assert!(size_of::<GpaDirectHeader>() == 8);

/// Starts a range of guest memory, in GPADLs and in GPA-direct packets. As many page numbers follow as the range touches.
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
    /// Which buffer the ranges lie in, by agreement between device and driver.
    pub page_set: u16,
    /// Whether the sender owns the buffer.
    pub sender_owns_set: u8,
    /// 0.
    pub reserved: u8,
    /// How many ranges follow.
    pub range_count: u32,
}
const _: () = assert!(size_of::<TransferPagesHeader>() == 8);

/// A range of the buffer that a [`TransferPagesHeader`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransferRange {
    /// Length in bytes.
    pub byte_count: u32,
    /// Offset into the buffer.
    pub byte_offset: u32,
}
const _: () = assert!(size_of::<TransferRange>() == 8);
