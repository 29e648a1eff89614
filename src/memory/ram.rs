//! The memory of a machine: what it has at its start, and the room for what is added later.

use std::ops::Range;

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestRegionMmap};

use crate::host::records::advice_on_size;

use super::{
    Backing, GuestMemory, HOLE_END, HUGE_PAGE, MIN_SIZE, MemoryError, PAGE_SIZE, available, file, free, map_file,
    map_private, ranges,
};

/// The alignment of memory that is added later: the largest block in which Linux adds memory.
const WINDOW_ALIGNMENT: u64 = 2 << 30;

/// The memory of a machine.
///
/// All of it is mapped into this process from the start, which costs nothing until it is touched. So devices can access memory
/// that is added later like the rest. The guest can access it once it is mapped into the virtual machine.
#[derive(Clone, Debug)]
pub struct Ram {
    /// The memory at the start.
    pub boot: GuestMemory,
    /// The memory at the start, and memory that can be added.
    pub all: GuestMemory,
    /// The addresses of memory that can be added. Empty if none can.
    pub window: Range<u64>,
    /// The addresses of the screen's memory. Empty if there is no screen.
    pub screen: Range<u64>,
    /// The addresses of the memory of a screen that is too large for those. Empty if there is no such screen.
    pub large_screen: Range<u64>,
}

impl Ram {
    /// Creates zeroed memory: `size` bytes at the start, and room up to `max` bytes.
    ///
    /// # Errors
    /// Returns an error if the size is invalid, or if the host lacks the memory.
    pub fn new(size: u64, max: u64, backing: Backing) -> Result<Self, MemoryError> {
        let max = max.max(size);
        if size < MIN_SIZE {
            return Err(MemoryError::Size {
                size,
                problem: "less than the 1M that a PC has at least; 512 is in bytes, 512M in MiB",
            });
        }
        if !size.is_multiple_of(PAGE_SIZE) {
            return Err(MemoryError::Size { size, problem: "not a multiple of 4096" });
        }
        if backing == Backing::HugePages && !size.is_multiple_of(HUGE_PAGE) {
            return Err(MemoryError::Size { size, problem: "not a multiple of 2M, as hugepages=on needs" });
        }
        // KVM allocates a reverse map, 8 bytes for each 4 KiB page, as soon as the memory is registered.
        let overhead = max / 512;
        // Free memory is less than the available memory, and much cheaper to ask for.
        let enough = |memory: u64| overhead <= memory / 2;
        let available = if enough(free()) { u64::MAX } else { available() };
        if !enough(available) {
            return Err(MemoryError::Overhead { size: max, overhead, available });
        }
        let advice = match backing {
            Backing::HugePages => "; is there room in /proc/sys/vm/nr_hugepages?",
            _ => "; give a smaller --memory",
        };
        let unmapped =
            |source: Box<dyn std::error::Error + Send + Sync>| MemoryError::Map { size: max, advice, source };
        let file = file(max, backing).map_err(|source| MemoryError::Create {
            size: max,
            advice: Some(advice_on_size(&source)).filter(|advice| !advice.is_empty()).unwrap_or(advice),
            source,
        })?;

        let window = Self::window_of(size, max);
        let mut offset = 0;
        let mut region = |range: Range<u64>| {
            let length = range.end - range.start;
            let mapping = match &file {
                Some(file) => map_file(file, offset, length, backing),
                None => map_private(length, range.start),
            };
            offset += length;
            let region =
                GuestRegionMmap::new(mapping.map_err(|error| unmapped(error.into()))?, GuestAddress(range.start));
            region.map(std::sync::Arc::new).ok_or_else(|| unmapped("it reaches beyond the last address".into()))
        };
        let mut regions = ranges(size).into_iter().map(&mut region).collect::<Result<Vec<_>, _>>()?;
        let collect = |regions| GuestMemory::from_arc_regions(regions).map_err(|error| unmapped(error.into()));
        let boot = collect(regions.clone())?;
        if window.is_empty() {
            return Ok(Self { all: boot.clone(), boot, window, screen: 0..0, large_screen: 0..0 });
        }
        regions.push(region(window.clone())?);
        Ok(Self { boot, all: collect(regions)?, window, screen: 0..0, large_screen: 0..0 })
    }

    /// Adds zeroed memory for a screen, at addresses that are not RAM. It is private to this process.
    ///
    /// # Errors
    /// Returns an error if the addresses are not free, or if the host lacks the memory.
    pub fn with_screen(mut self, range: Range<u64>) -> Result<Self, MemoryError> {
        self.add_private(range.clone())?;
        self.screen = range;
        Ok(self)
    }

    /// Adds zeroed memory for a large screen, above everything else. It is private to this process.
    ///
    /// # Errors
    /// Returns an error if the host lacks the memory.
    pub fn with_large_screen(mut self, size: u64) -> Result<Self, MemoryError> {
        let start = self.reserved().end;
        self.large_screen = start..start + size;
        self.add_private(self.large_screen.clone())?;
        Ok(self)
    }

    fn add_private(&mut self, range: Range<u64>) -> Result<(), MemoryError> {
        let size = range.end - range.start;
        let unmapped = |source: Box<dyn std::error::Error + Send + Sync>| MemoryError::Map { size, advice: "", source };
        let mapping = map_private(size, range.start).map_err(|error| unmapped(error.into()))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(range.start));
        let region = region.ok_or_else(|| unmapped("it reaches beyond the last address".into()))?;
        self.all = self.all.insert_region(std::sync::Arc::new(region)).map_err(|error| unmapped(error.into()))?;
        Ok(())
    }

    /// Returns the mapping of a large screen's memory, if there is one.
    pub fn large_screen_region(&self) -> Option<&GuestRegionMmap> {
        self.all.find_region(GuestAddress(self.large_screen.start)).filter(|_| !self.large_screen.is_empty())
    }

    /// Returns the mapping of the screen's memory, if there is a screen.
    pub fn screen_region(&self) -> Option<&GuestRegionMmap> {
        self.all.find_region(GuestAddress(self.screen.start)).filter(|_| !self.screen.is_empty())
    }

    /// Returns the addresses of what can be added to `size` bytes, up to `max` bytes: above all memory, and clear of the
    /// hole below 4 GiB.
    pub fn window_of(size: u64, max: u64) -> Range<u64> {
        let end = ranges(size).last().map_or(0, |range| range.end).max(HOLE_END);
        let start = end.next_multiple_of(WINDOW_ALIGNMENT);
        start..start + max.saturating_sub(size)
    }

    /// Returns the addresses that nothing else may use: a guest that gets one page of a block knows the whole block.
    pub fn reserved(&self) -> Range<u64> {
        self.window.start..self.window.end.next_multiple_of(WINDOW_ALIGNMENT)
    }

    /// Returns the mapping of the window, if there is one.
    pub fn window_region(&self) -> Option<&GuestRegionMmap> {
        self.all.find_region(GuestAddress(self.window.start)).filter(|_| !self.window.is_empty())
    }
}
