//! Guest memory: where it lies and what backs it.
//!
//! RAM starts at guest physical address (GPA) 0 and is one memfd, mapped sparsely: a page that neither
//! guest nor loader touched costs the host nothing. What does not fit below [`HOLE_START`] continues
//! at [`HOLE_END`]; the hole between carries the interrupt controllers and the VMBus MMIO range.

use std::fs::File;
use std::ops::Range;

use rustix::fs::MemfdFlags;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

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
    /// The host has no room for what the kernel must remember of so much memory.
    #[error(
        "{size} bytes of guest memory are more than this host can serve: KVM alone would need {overhead} bytes \
         to keep account of it, and {available} are free; give a smaller --memory"
    )]
    Overhead {
        /// The size asked for, in bytes.
        size: u64,
        /// What KVM would take, in bytes.
        overhead: u64,
        /// What the host has left, in bytes.
        available: u64,
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
    #[error("cannot map {size} bytes of guest memory: {source}{advice}")]
    Map {
        /// The size asked for, in bytes.
        size: u64,
        /// What to do about it.
        advice: &'static str,
        /// The host's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
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
    // KVM allocates a reverse map, 8 bytes for each page of 4 KiB, as soon as it hears of the memory.
    let (overhead, available) = (size / 512, available());
    if overhead > available / 2 {
        return Err(MemoryError::Overhead { size, overhead, available });
    }
    let advice = if hugepages { "; is there room in /proc/sys/vm/nr_hugepages?" } else { "; give a smaller --memory" };
    let failed = |source: std::io::Error| MemoryError::Create { size, advice, source };
    let kind = if hugepages { MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB } else { MemfdFlags::empty() };
    let file = rustix::fs::memfd_create("guest-memory", MemfdFlags::CLOEXEC | kind);
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    file.set_len(size).map_err(failed)?;

    // Huge pages are reserved now: a guest that touches one that is not there would end the process by SIGBUS.
    let flags = libc::MAP_SHARED | if hugepages { 0 } else { libc::MAP_NORESERVE };
    let unmapped = |source: Box<dyn std::error::Error + Send + Sync>| MemoryError::Map { size, advice, source };
    let mut offset = 0;
    let mut regions = Vec::new();
    for range in ranges(size) {
        let length = range.end - range.start;
        let backing = FileOffset::new(file.try_clone().map_err(failed)?, offset);
        let mapping = MmapRegion::build(Some(backing), length as usize, libc::PROT_READ | libc::PROT_WRITE, flags)
            .map_err(|error| unmapped(error.into()))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(range.start));
        regions.push(region.ok_or_else(|| unmapped("it reaches beyond the last address".into()))?);
        offset += length;
    }
    GuestMemory::from_regions(regions).map_err(|error| unmapped(error.into()))
}

/// Memory that the host could still give, in bytes. Where it does not say, there is no bound.
fn available() -> u64 {
    let kibibytes = |line: &str| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines().find_map(kibibytes).map_or(u64::MAX, |kibibytes| kibibytes.saturating_mul(1024))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
