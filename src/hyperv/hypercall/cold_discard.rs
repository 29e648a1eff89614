//! HvExtCallMemoryHeatHint: the guest tells which of its pages are free.
//!
//! Linux's `hv_balloon` calls it for blocks of 2 MiB that are free for a few seconds. The TLFS does not describe it; see
//! `hv_free_page_report` in Linux's `drivers/hv/hv_balloon.c`.

use std::ops::Range;

use crate::hyperv::status::{HvResult, HvStatus};

/// HvExtCallQueryCapabilities, bit 8.
pub const CAN_DISCARD: u64 = 1 << 8;

/// The hint that the content of pages is not needed any more. It is the only one that is implemented.
const COLD_DISCARD: u64 = 2;

/// Returns the guest physical addresses that a range of the call discards.
///
/// Only large pages can be discarded, because releasing less would split the host's huge pages. If Linux reports smaller
/// pages and is refused, it falls back to large ones.
pub fn addresses(hint: u64, range: u64) -> HvResult<Range<u64>> {
    let large = large_pages(range).filter(|_| hint == COLD_DISCARD);
    large.ok_or(HvStatus::INVALID_PARAMETER)
}

/// Returns the addresses of an `HV_GPA_PAGE_RANGE` of large pages, or `None` for small pages or impossible addresses.
///
/// Bits 0 to 10 are the number of pages after the first, bit 11 says that they are large, bit 12 that they have 1 GiB and
/// not 2 MiB. The address is in the bits from 21 on.
fn large_pages(range: u64) -> Option<Range<u64>> {
    const LARGE: u64 = 1 << 11;
    const GIGABYTE: u64 = 1 << 12;
    let size: u64 = if range & GIGABYTE == 0 { 2 << 20 } else { 1 << 30 };
    let start = range & !((2 << 20) - 1);
    let is_large = range & LARGE != 0 && start.is_multiple_of(size);
    let end = start.checked_add(((range & 0x7ff) + 1) * size)?;
    is_large.then_some(start..end)
}
