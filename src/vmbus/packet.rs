//! The packets in a channel's rings, as plain data.
//!
//! A packet consists of a [`PacketHeader`], a further header that depends on its kind, the payload padded to a multiple
//! of eight bytes, and a [`PacketFooter`]. Lengths and offsets in the header are in units of eight bytes and do not
//! include the footer. (Linux: `struct vmpacket_descriptor` and the following structures in `include/linux/hyperv.h`.)

use crate::wire::{open_enum, wire};

open_enum! {
/// The kind of a packet. Unknown kinds are kept.
PacketKind: u16, "packet kind {}";
    /// The payload is in the packet.
    IN_BAND = 6, "in-band";
    /// The payload describes data in pages of a shared GPADL: [`TransferPagesHeader`].
    TRANSFER_PAGES = 7, "transfer-pages";
    /// The payload describes data in pages that the packet lists: `GpaDirectHeader`.
    GPA_DIRECT = 9, "GPA-direct";
    /// Cancels the request with that transaction id.
    CANCEL = 0xa, "cancel";
    /// The reply to a packet with `PacketHeader::COMPLETION_REQUESTED`.
    COMPLETION = 0xb, "completion";
}

wire! { 16,
/// The start of every packet.
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
}}

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

wire! { 8,
/// The end of every packet. It is not evaluated.
pub struct PacketFooter {
    /// 0.
    pub reserved: u32,
    /// The packet's offset in the ring.
    pub packet_offset: u32,
}}

wire! { 8,
/// Follows the header of a [`GPA_DIRECT`](PacketKind::GPA_DIRECT) packet. The ranges follow, each a [`GpaRangeHeader`]
/// and its page numbers.
pub struct GpaDirectHeader {
    /// 0.
    pub reserved: u32,
    /// Number of ranges that follow.
    pub range_count: u32,
}}

wire! { 8,
/// The start of a range of guest memory in GPADLs and in GPA-direct packets. One page number follows for each page that
/// the range touches.
pub struct GpaRangeHeader {
    /// Length in bytes.
    pub byte_count: u32,
    /// Offset into the first page.
    pub byte_offset: u32,
}}

wire! { 8,
/// Follows the header of a [`TRANSFER_PAGES`](PacketKind::TRANSFER_PAGES) packet. The ranges follow, each a [`TransferRange`].
pub struct TransferPagesHeader {
    /// The buffer that contains the ranges, as device and driver have agreed.
    pub page_set: u16,
    /// Whether the sender owns the buffer.
    pub sender_owns_set: u8,
    /// 0.
    pub reserved: u8,
    /// Number of ranges that follow.
    pub range_count: u32,
}}

wire! { 8,
/// A range of the buffer that a [`TransferPagesHeader`] refers to.
pub struct TransferRange {
    /// Length in bytes.
    pub byte_count: u32,
    /// Offset into the buffer.
    pub byte_offset: u32,
}}
