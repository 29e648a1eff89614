//! Scattered pages of guest memory as one buffer.
//!
//! Addresses are translated once, when the buffer is created. Each run of pages that are contiguous in the host's
//! mapping keeps that mapping alive and stores its position in it. An access then costs a bounds check and a copy. The
//! guest can change its memory at any time, so copy data before checking it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use smallvec::SmallVec;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MmapRegion, VolatileMemory, VolatileSlice};
use zerocopy::{FromBytes, IntoBytes};

use crate::memory::{GuestMemory, PAGE_SIZE};

/// An invalid buffer, or an access outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// The guest named a page that is not in its memory.
    #[error("page {frame:#x} is not in guest memory")]
    NoSuchPage {
        /// The page's number: its address divided by the page size.
        frame: u64,
    },
    /// The access exceeds the buffer.
    #[error("{length} bytes at offset {offset} go beyond the end of a buffer of {size}")]
    OutOfBounds {
        /// Start of the access.
        offset: usize,
        /// Length of the access.
        length: usize,
        /// Length of the buffer.
        size: usize,
    },
    /// The number of pages does not match the length of the buffer.
    #[error("{pages} pages do not hold {length} bytes from offset {offset} of the first")]
    WrongPageCount {
        /// Number of pages.
        pages: usize,
        /// Start of the buffer in the first page.
        offset: usize,
        /// Length of the buffer.
        length: usize,
    },
}

/// Pages that are contiguous for both the guest and the host.
#[derive(Clone, Debug)]
struct Run {
    /// Start of the run in the buffer.
    start: usize,
    length: usize,
    address: GuestAddress,
    mapping: Arc<MmapRegion<()>>,
    /// Start of the run in the mapping.
    offset: usize,
}

/// References to the mappings of some guest pages. Usually there is only one.
pub type Mappings = SmallVec<[Arc<MmapRegion<()>>; 1]>;

/// Scattered pages of guest memory; see the module's description.
#[derive(Clone, Debug, Default)]
pub struct GuestBuffer {
    /// In order, without gaps. Most buffers are one run.
    runs: SmallVec<[Run; 1]>,
    length: usize,
}

impl Run {
    /// Returns `true` if the page at this guest address follows the run directly in the same mapping.
    fn is_followed_by(&self, page: u64) -> bool {
        self.address.0 + self.length as u64 == page
            && self.mapping.size() - self.offset - self.length >= PAGE_SIZE as usize
    }
}

impl GuestBuffer {
    /// Creates a buffer of `length` bytes that starts at byte `offset` of the first page. `frames` are the page
    /// numbers.
    ///
    /// # Errors
    /// Returns an error if a page is not in guest memory, or if there are more or fewer pages than the bytes need.
    pub(crate) fn new(
        memory: &GuestMemory,
        frames: impl ExactSizeIterator<Item = u64>,
        offset: usize,
        length: usize,
    ) -> Result<Self, BufferError> {
        const PAGE: usize = PAGE_SIZE as usize;
        let pages = frames.len();
        let end = offset.checked_add(length).filter(|end| offset < PAGE && end.div_ceil(PAGE) == pages);
        let end = end.ok_or(BufferError::WrongPageCount { pages, offset, length })?;
        let mut buffer = Self::default();
        for (index, frame) in frames.enumerate() {
            let first = if index == 0 { offset } else { 0 };
            let last = (end - index * PAGE).min(PAGE);
            buffer.append(memory, frame, first..last)?;
        }
        Ok(buffer)
    }

    fn append(&mut self, memory: &GuestMemory, frame: u64, bytes: Range<usize>) -> Result<(), BufferError> {
        let nowhere = BufferError::NoSuchPage { frame };
        let page = frame.checked_mul(PAGE_SIZE).ok_or(nowhere)?;
        if let Some(run) = self.runs.last_mut().filter(|run| run.is_followed_by(page)) {
            run.length += bytes.len();
            self.length += bytes.len();
            return Ok(());
        }
        let region = memory.find_region(GuestAddress(page)).ok_or(nowhere)?;
        let in_region = page - region.start_addr().0;
        if region.len() - in_region < PAGE_SIZE {
            return Err(nowhere);
        }
        let address = GuestAddress(page + bytes.start as u64);
        let offset = in_region as usize + bytes.start;
        let mapping = region.get_mmap();
        self.runs.push(Run { start: self.length, length: bytes.len(), address, mapping, offset });
        self.length += bytes.len();
        Ok(())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns `true` if the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the part of the buffer from `offset`, `length` bytes long.
    ///
    /// # Errors
    /// Returns an error if the part exceeds the buffer.
    pub fn part(&self, offset: usize, length: usize) -> Result<Self, BufferError> {
        let mut part = Self { runs: SmallVec::new(), length };
        let mut start = 0;
        for (run, within) in self.touched(offset, length)? {
            part.runs.push(Run {
                start,
                length: within.len(),
                address: GuestAddress(run.address.0 + within.start as u64),
                mapping: run.mapping.clone(),
                offset: run.offset + within.start,
            });
            start += within.len();
        }
        Ok(part)
    }

    /// Returns the first `length` bytes of the buffer.
    ///
    /// # Errors
    /// Returns an error if the buffer is shorter.
    pub(crate) fn shortened(self, length: usize) -> Result<Self, BufferError> {
        if length == self.length { Ok(self) } else { self.part(0, length) }
    }

    /// Returns references that keep the whole buffer mapped.
    pub(crate) fn mappings(&self) -> Mappings {
        let mut mappings = Mappings::new();
        for run in &self.runs {
            if mappings.last().is_none_or(|last| !Arc::ptr_eq(last, &run.mapping)) {
                mappings.push(run.mapping.clone());
            }
        }
        mappings
    }

    /// Copies out of the buffer.
    ///
    /// # Errors
    /// Returns an error, and copies nothing, if the access exceeds the buffer.
    #[inline]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), BufferError> {
        let mut rest = bytes;
        for slice in self.slices(offset, rest.len())? {
            let (now, later) = rest.split_at_mut(slice.len());
            slice.copy_to(now);
            rest = later;
        }
        Ok(())
    }

    /// Copies into the buffer.
    ///
    /// # Errors
    /// Returns an error, and copies nothing, if the access exceeds the buffer.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), BufferError> {
        let mut rest = bytes;
        for slice in self.slices(offset, rest.len())? {
            let (now, later) = rest.split_at(slice.len());
            slice.copy_from(now);
            rest = later;
        }
        Ok(())
    }

    /// Copies a value out of the buffer.
    ///
    /// # Errors
    /// Returns an error if the access exceeds the buffer.
    #[inline]
    pub fn read_value<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, BufferError> {
        let mut value = T::new_zeroed();
        self.read(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Returns the slices of host memory that make up a part of the buffer, for vectored I/O.
    ///
    /// # Errors
    /// Returns an error if the part exceeds the buffer.
    #[inline]
    pub(crate) fn slices(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<impl Iterator<Item = VolatileSlice<'_, ()>>, BufferError> {
        // A run is inside its mapping, so get_slice succeeds.
        Ok(self
            .touched(offset, length)?
            .filter_map(|(run, within)| run.mapping.get_slice(run.offset + within.start, within.len()).ok()))
    }

    /// Returns the same part as guest addresses and lengths.
    ///
    /// # Errors
    /// Returns an error if the part exceeds the buffer.
    pub(crate) fn segments(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<impl Iterator<Item = (GuestAddress, usize)>, BufferError> {
        let segment =
            |(run, within): (&Run, Range<usize>)| (GuestAddress(run.address.0 + within.start as u64), within.len());
        Ok(self.touched(offset, length)?.map(segment))
    }

    /// Returns the 32-bit word at `offset`, which is shared with the guest.
    ///
    /// # Errors
    /// Returns an error if the word exceeds the buffer, spans two runs, or is not aligned.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> Result<&AtomicU32, BufferError> {
        let length = size_of::<u32>();
        let found = self.touched(offset, length)?.next().filter(|(_, within)| within.len() == length);
        found
            .and_then(|(run, within)| run.mapping.get_atomic_ref(run.offset + within.start).ok())
            .ok_or(BufferError::OutOfBounds { offset, length, size: self.length })
    }

    /// Returns the runs that `offset..offset + length` touches, each with the range inside it.
    #[inline]
    fn touched(&self, offset: usize, length: usize) -> Result<impl Iterator<Item = (&Run, Range<usize>)>, BufferError> {
        let size = self.length;
        let end = offset.checked_add(length).filter(|end| *end <= size);
        let end = end.ok_or(BufferError::OutOfBounds { offset, length, size })?;
        let first = match self.runs.len() {
            0 | 1 => 0,
            _ => self.runs.partition_point(|run| run.start + run.length <= offset),
        };
        let runs = self.runs[first..].iter().take_while(move |run| run.start < end && offset < end);
        Ok(runs.map(move |run| {
            let from = offset.saturating_sub(run.start);
            let to = (end - run.start).min(run.length);
            (run, from..to)
        }))
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
