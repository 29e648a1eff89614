//! Guest memory: where it lies and what backs it.
//!
//! RAM starts at guest physical address (GPA) 0 and is one memfd, mapped sparsely: a page that neither
//! guest nor loader touched costs the host nothing. What does not fit below [`HOLE_START`] continues
//! at [`HOLE_END`]; the hole between carries the interrupt controllers and the VMBus MMIO range.

use std::fs::File;
use std::ops::Range;

use rustix::fs::MemfdFlags;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

/// Guest memory as every floor sees it.
pub type GuestMemory = GuestMemoryMmap<()>;

/// First GPA of the hole below 4 GiB.
pub const HOLE_START: u64 = 0xc000_0000;
/// First GPA after the hole below 4 GiB.
pub const HOLE_END: u64 = 0x1_0000_0000;
/// The least memory that a machine can have: the real-mode address space.
pub const MIN_SIZE: u64 = 1 << 20;
/// The memory's granularity.
pub const PAGE_SIZE: u64 = 4096;

/// Why guest memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size is below [`MIN_SIZE`] or not a multiple of the page size.
    #[error("guest memory of {size} bytes is {problem}")]
    Size {
        /// The size asked for, in bytes.
        size: u64,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// The host has no memfd for us.
    #[error("cannot create a memory file for {size} bytes of guest memory: {source}{advice}")]
    Create {
        /// The size asked for, in bytes.
        size: u64,
        /// What to do about it.
        advice: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
    /// The memfd cannot be mapped.
    #[error("cannot map {size} bytes of guest memory: {source}; give a smaller --memory")]
    Map {
        /// The size asked for, in bytes.
        size: u64,
        /// The host's answer.
        source: vm_memory::mmap::FromRangesError,
    },
}

/// The GPA ranges that `size` bytes of RAM occupy, lowest first.
pub fn ranges(size: u64) -> Vec<Range<u64>> {
    let low = size.min(HOLE_START);
    [0..low, HOLE_END..HOLE_END + (size - low)].into_iter().filter(|range| !range.is_empty()).collect()
}

/// Creates `size` bytes of zeroed guest memory.
///
/// # Errors
/// A size that no machine can have, or a host without room for it.
pub fn create(size: u64, hugepages: bool) -> Result<GuestMemory, MemoryError> {
    const HUGE_PAGE: u64 = 2 << 20;
    if size < MIN_SIZE {
        return Err(MemoryError::Size { size, problem: "less than the 1M that a PC has at least" });
    }
    if !size.is_multiple_of(PAGE_SIZE) {
        return Err(MemoryError::Size { size, problem: "not a multiple of 4096" });
    }
    if hugepages && !size.is_multiple_of(HUGE_PAGE) {
        return Err(MemoryError::Size { size, problem: "not a multiple of 2M, as hugepages=on needs" });
    }
    let advice = if hugepages { "; is there room in /proc/sys/vm/nr_hugepages?" } else { "" };
    let failed = |source: std::io::Error| MemoryError::Create { size, advice, source };
    let kind = if hugepages { MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB } else { MemfdFlags::empty() };
    let file =
        rustix::fs::memfd_create("guest-memory", MemfdFlags::CLOEXEC | kind).map_err(|error| failed(error.into()))?;
    let file = File::from(file);
    file.set_len(size).map_err(failed)?;

    let mut offset = 0;
    let mut regions = Vec::new();
    for range in ranges(size) {
        let length = range.end - range.start;
        let backing = FileOffset::new(file.try_clone().map_err(failed)?, offset);
        regions.push((GuestAddress(range.start), length as usize, Some(backing)));
        offset += length;
    }
    GuestMemory::from_ranges_with_files(regions).map_err(|source| MemoryError::Map { size, source })
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
