//! Guest memory: its layout and what backs it.
//!
//! RAM starts at guest physical address (GPA) 0 and is mapped sparsely: memory that neither guest nor loader has
//! touched costs the host nothing. RAM that does not fit below [`HOLE_START`] continues at [`HOLE_END`]. The hole in
//! between contains the interrupt controllers and the VMBus MMIO range.
//!
//! [`Backing`] decides which pages the host allocates. Their size dominates the cost of a boot, apart from the guest's
//! own work, because each first touch of a page exits the guest. Linux touches 17,000 pages of 4 KiB on its way to user
//! space, and takes half as long again with them as with huge pages. Hosts give huge pages to private memory but, by
//! default, never to a memfd (`/sys/kernel/mm/transparent_hugepage/shmem_enabled`).
#![allow(unsafe_code)]

pub mod buffer;
mod discard;
mod ram;
mod resident;
pub(crate) mod stream;

pub use discard::discard;
pub use ram::Ram;
pub use resident::{is_touched, visit_resident};

use std::fs::File;
use std::ops::Range;

use rustix::fs::MemfdFlags;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion};

/// Guest memory.
pub type GuestMemory = GuestMemoryMmap<()>;

/// First GPA of the hole below 4 GiB.
pub const HOLE_START: u64 = 0xc000_0000;
/// First GPA after the hole below 4 GiB.
pub const HOLE_END: u64 = 0x1_0000_0000;
/// Minimum size of guest memory: the real-mode address space.
pub const MIN_SIZE: u64 = 1 << 20;
/// Page size in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// Size of a huge page, in bytes.
pub const HUGE_PAGE: u64 = 2 << 20;

/// The backing of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Anonymous memory of this process, with transparent huge pages if the host has them. The first 2 MiB use small
    /// pages, so that a small guest stays small, unless the guest is known to be [large](prefer_huge_pages).
    Private,
    /// A memfd, which can be passed to other processes. It uses small pages.
    Shared,
    /// A memfd in the host's reserved 2 MiB pages.
    HugePages,
}

/// The reason why guest memory cannot be allocated.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size is below [`MIN_SIZE`] or not a multiple of the page size.
    #[error("guest memory of {size} bytes is {problem}")]
    Size {
        /// The requested size, in bytes.
        size: u64,
        /// The problem with the size, and a valid size.
        problem: &'static str,
    },
    /// The host lacks memory for the kernel's own data about guest memory of this size.
    #[error(
        "{size} bytes of guest memory are more than this host can serve: KVM alone would need {overhead} bytes \
         to keep account of it, and {available} are free; give a smaller --memory"
    )]
    Overhead {
        /// The requested size, in bytes.
        size: u64,
        /// The memory that KVM would need, in bytes.
        overhead: u64,
        /// The memory that the host has available, in bytes.
        available: u64,
    },
    /// The memfd cannot be created.
    #[error("cannot create a memory file for {size} bytes of guest memory: {source}{advice}")]
    Create {
        /// The requested size, in bytes.
        size: u64,
        /// A remedy.
        advice: &'static str,
        /// The error of the host.
        source: std::io::Error,
    },
    /// The memfd cannot be mapped.
    #[error("cannot map {size} bytes of guest memory: {source}{advice}")]
    Map {
        /// The requested size, in bytes.
        size: u64,
        /// A remedy.
        advice: &'static str,
        /// The error of the host.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Returns the GPA ranges that `size` bytes of RAM occupy, lowest first.
pub fn ranges(size: u64) -> Vec<Range<u64>> {
    let low = size.min(HOLE_START);
    [0..low, HOLE_END..HOLE_END + (size - low)].into_iter().filter(|range| !range.is_empty()).collect()
}

/// Creates `size` bytes of zeroed guest memory.
///
/// # Errors
/// Returns an error if the size is invalid, or if the host lacks the memory.
#[cfg(any(test, feature = "_internals"))]
pub fn create(size: u64, backing: Backing) -> Result<GuestMemory, MemoryError> {
    Ok(Ram::new(size, size, backing)?.boot)
}

/// Creates the file that backs the memory, if the backing has one.
fn file(size: u64, backing: Backing) -> std::io::Result<Option<File>> {
    let kind = match backing {
        Backing::Private => return Ok(None),
        Backing::Shared => MemfdFlags::empty(),
        Backing::HugePages => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
    };
    let file = File::from(rustix::fs::memfd_create("guest-memory", MemfdFlags::CLOEXEC | kind)?);
    file.set_len(size)?;
    Ok(Some(file))
}

const READ_AND_WRITE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

fn map_file(file: &File, offset: u64, length: u64, backing: Backing) -> Result<MmapRegion, MmapRegionError> {
    // Reserved pages are allocated now. Otherwise a guest that touches a page that is not available would end the
    // process by SIGBUS.
    let flags = libc::MAP_SHARED | if backing == Backing::HugePages { 0 } else { libc::MAP_NORESERVE };
    let file = file.try_clone().map_err(MmapRegionError::Mmap)?;
    MmapRegion::build(Some(FileOffset::new(file, offset)), length as usize, READ_AND_WRITE, flags)
}

/// Maps private memory for the guest addresses from `start` on, at a host address that allows huge pages: KVM maps a
/// huge page only if it is aligned on both sides.
fn map_private(length: u64, start: u64) -> Result<MmapRegion, MmapRegionError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let small = HUGE_PAGE.saturating_sub(start).min(length);
    let plug = if small < length { Plug::above_aligned_room(length) } else { None };
    let mapping = MmapRegion::build(None, length as usize, READ_AND_WRITE, flags)?;
    drop(plug);
    advise(&mapping, 0..small, libc::MADV_NOHUGEPAGE);
    advise(&mapping, small..length, libc::MADV_HUGEPAGE);
    Ok(mapping)
}

/// Enables huge pages from the first page on, for a guest that is known to need many.
pub fn prefer_huge_pages(memory: &GuestMemory) {
    let private = |region: &&GuestRegionMmap| region.file_offset().is_none();
    for region in memory.iter().filter(private) {
        advise(region, 0..region.len(), libc::MADV_HUGEPAGE);
    }
}

/// An inaccessible mapping that reserves address space.
///
/// Linux places a mapping at the top of the highest gap that is large enough. If this mapping occupies what is above an
/// aligned gap, the next mapping of that length goes into the gap. If another thread maps memory in between, only the
/// alignment is lost.
struct Plug {
    address: usize,
    length: usize,
}

impl Plug {
    /// Finds room for `length` bytes at a multiple of [`HUGE_PAGE`], and occupies the space above it.
    fn above_aligned_room(length: u64) -> Option<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let whole = length.checked_add(HUGE_PAGE)? as usize;
        // SAFETY: a new mapping, at an address that the kernel chooses. Nothing else refers to it.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let (start, room) = (start as usize, length as usize);
        let end = start.next_multiple_of(HUGE_PAGE as usize) + room;
        // SAFETY: this is the first part of the mapping above, page-aligned and not beyond its end.
        unsafe { libc::munmap(start as *mut _, end - start) };
        Some(Self { address: end, length: start + whole - end })
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the rest of the mapping that `above_aligned_room` made. Nothing else refers to it.
            unsafe { libc::munmap(self.address as *mut _, self.length) };
        }
    }
}

/// Advises the host about part of a mapping. A host without huge pages refuses; then there are none.
fn advise(mapping: &MmapRegion, part: Range<u64>, advice: libc::c_int) {
    let length = (part.end - part.start) as usize;
    if length > 0 && part.end <= mapping.size() as u64 {
        // SAFETY: the part is inside the mapping, and this advice does not change the content of the memory.
        unsafe { libc::madvise(mapping.as_ptr().wrapping_add(part.start as usize).cast(), length, advice) };
    }
}

/// Returns the host's free memory in bytes. It does not include caches.
fn free() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.freeram)
}

/// Returns the memory that the host has available, in bytes, or the maximum if it is unknown.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kibibytes(&text, "MemAvailable:").map_or(u64::MAX, |kibibytes| kibibytes.saturating_mul(1024))
}

/// Returns the value of a line of `/proc/meminfo`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
}

/// Returns a warning if the host cannot provide all of `size` bytes of memory. It begins with `owners`, such as "the guest can use".
pub fn excess(owners: &str, size: u64) -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let read_limit = |group: &str| std::fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.max")).ok();
    let (limit, whose) = match (host_limit(), group_limit(&groups, read_limit)) {
        (host, Some(group)) if group < host => (group, "this process's control group may use"),
        (host, _) => (host, "this host has, swap space included"),
    };
    (size > limit).then(|| {
        let (size, limit) = (size.div_ceil(1 << 20), limit >> 20);
        format!(
            "{owners} {size} MiB of memory, more than the {limit} MiB that {whose}: if they are used, the host ends this \
             process; give a smaller --memory"
        )
    })
}

/// Returns the host's memory and swap space in bytes.
fn host_limit() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram.saturating_add(info.totalswap))
}

/// Returns the lowest limit of a control group and its ancestors, in bytes. `groups` is the content of
/// `/proc/self/cgroup`; `read` returns the `memory.max` of a group.
fn group_limit(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let ancestors = std::path::Path::new(group).ancestors().filter_map(|group| group.to_str());
    // A group without a limit says "max".
    ancestors.filter_map(|group| read(group)?.trim().parse().ok()).min()
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
