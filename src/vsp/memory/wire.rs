//! Messages of the dynamic memory protocol, as plain data.
//!
//! Guest and host send packets of one message each, at most [`MAX_MESSAGE`] bytes long. (Linux: `drivers/hv/hv_balloon.c`.)

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::{open_enum, wire};

/// Maximum length of a message: Linux receives into a page.
pub const MAX_MESSAGE: usize = 4096;

/// Number of ranges in the longest message.
pub const MAX_RANGES: usize =
    (MAX_MESSAGE - size_of::<Header>() - size_of::<UnballoonRequest>()) / size_of::<PageRange>();

open_enum! {
/// The type of a message.
MessageType: u16, "message type {}";
    VERSION_REQUEST = 1, "version request";
    VERSION_RESPONSE = 2, "version response";
    CAPABILITIES_REPORT = 3, "capabilities report";
    CAPABILITIES_RESPONSE = 4, "capabilities response";
    STATUS_REPORT = 5, "status report";
    BALLOON_REQUEST = 6, "balloon request";
    BALLOON_RESPONSE = 7, "balloon response";
    UNBALLOON_REQUEST = 8, "unballoon request";
    UNBALLOON_RESPONSE = 9, "unballoon response";
    HOT_ADD_REQUEST = 10, "hot add request";
    HOT_ADD_RESPONSE = 11, "hot add response";
    /// From version 1.0 on.
    INFORMATION = 12, "information";
}

wire! { 8,
/// The start of each message.
pub struct Header {
    /// The type.
    pub message_type: MessageType,
    /// Length of the message with its header, in bytes.
    pub length: u16,
    /// The sender's number of the message. Nobody compares it.
    pub transaction_id: u32,
}}

open_enum! {
/// A version of the protocol: the major version in the high 16 bits.
Version: u32, "version {:#x}";
    /// Windows 7.
    V0_3 = 0x0000_0003, "0.3";
    /// Windows 8.
    V1_0 = 0x0001_0000, "1.0";
    /// Windows 10.
    V2_0 = 0x0002_0000, "2.0";
}

wire! { 8,
/// The guest proposes a version.
pub struct VersionRequest {
    /// The version.
    pub version: Version,
    /// Bit 0: the guest proposes no further version.
    pub is_last_attempt: u32,
}}

wire! { 8,
/// The answer to a version and to the capabilities.
pub struct Verdict {
    /// Bit 0: the host accepts.
    pub is_accepted: u64,
}}

wire! { 24,
/// The capabilities of the guest.
pub struct Capabilities {
    /// [`BALLOON`](Self::BALLOON), [`HOT_ADD`](Self::HOT_ADD) and the alignment in bits 2 to 5.
    pub bits: u64,
    /// Minimum size of the guest in pages. Linux sends 0.
    pub min_pages: u64,
    /// The highest page number. Linux sends all ones.
    pub max_page_number: u64,
}}

impl Capabilities {
    /// The guest can give pages back.
    pub const BALLOON: u64 = 1;
    /// The guest can take more pages than it had at its start.
    pub const HOT_ADD: u64 = 2;

    /// Returns the alignment of memory that is added, in pages.
    pub const fn alignment(&self) -> u64 {
        1 << (self.bits >> 2 & 15) << 8
    }
}

wire! { 40,
/// The guest's need of memory. Counts are in pages.
pub struct StatusReport {
    /// Available memory.
    pub available: u64,
    /// Committed memory, ballooned pages included.
    pub committed: u64,
    /// Size of the page files.
    pub page_file_size: u64,
    /// Pages that are zero and free.
    pub zero_free: u64,
    /// Writes to the page files.
    pub page_file_writes: u32,
    /// Efficiency of the file cache.
    pub io_difference: u32,
}}

wire! { 8,
/// Asks the guest for pages.
pub struct BalloonRequest {
    /// Number of pages.
    pub pages: u32,
    /// Must be zero.
    pub reserved: u32,
}}

wire! { 8,
/// The guest gives pages; ranges follow.
pub struct BalloonResponse {
    /// Must be zero. Not checked.
    pub reserved: u32,
    /// Bit 0: another message follows. The other bits are the number of ranges.
    pub more_and_count: u32,
}}

wire! { 8,
/// Returns pages to the guest; ranges follow.
pub struct UnballoonRequest {
    /// Bit 0: another message follows.
    pub more: u32,
    /// Number of ranges.
    pub range_count: u32,
}}

wire! { 16,
/// The host adds new pages.
pub struct HotAddRequest {
    /// The pages that the guest gets.
    pub range: PageRange,
    /// The aligned range around them for which the guest may create structures.
    pub region: PageRange,
}}

wire! { 8,
/// The answer to a hot add.
pub struct HotAddResponse {
    /// Number of pages that the guest has added.
    pub pages: u32,
    /// 1 with pages: done. 1 without: never again. 0 without: try again later.
    pub result: u32,
}}

wire! { 24,
/// The host announces the maximum size.
pub struct Information {
    /// Must be zero.
    pub reserved: u32,
    /// Length of what follows.
    pub length: u32,
    /// 0: the maximum size.
    pub information_type: u32,
    /// Length of the value.
    pub value_length: u32,
    /// The size in pages.
    pub max_pages: u64,
}}

/// A range of pages: the first page's number in the low 40 bits, the number of pages in the high 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PageRange(pub u64);

impl PageRange {
    /// Maximum number of pages in a range.
    pub const MAX_PAGES: u64 = (1 << 24) - 1;

    /// Creates a range. It must be shorter than 2^24 pages and below page 2^40.
    pub const fn new(pages: &Range<u64>) -> Self {
        Self(pages.start & ((1 << 40) - 1) | (pages.end - pages.start) << 40)
    }

    /// Returns the page numbers.
    pub const fn pages(self) -> Range<u64> {
        let start = self.0 & ((1 << 40) - 1);
        start..start + (self.0 >> 40)
    }
}

/// Creates a message.
pub fn message(
    message_type: MessageType,
    transaction_id: u32,
    body: &(impl IntoBytes + Immutable + ?Sized),
    ranges: &[PageRange],
) -> Vec<u8> {
    let length = size_of::<Header>() + body.as_bytes().len() + ranges.as_bytes().len();
    let header = Header { message_type, length: length as u16, transaction_id };
    [header.as_bytes(), body.as_bytes(), ranges.as_bytes()].concat()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
