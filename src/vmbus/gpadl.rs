//! GPADLs: lists of guest pages that the guest shares with a channel.
//!
//! A GPADL consists of one or more ranges. Each has a length, an offset into its first page, and the numbers of the
//! pages that it touches. A control message has room for 26 page numbers, so a large GPADL arrives in pieces: a header
//! with the length of the list, and bodies that continue it. GPA-direct packets contain the same list in one piece.

use smallvec::SmallVec;
use zerocopy::{FromBytes, little_endian};

use super::packet::{GpaDirectHeader, GpaRangeHeader};
use crate::memory::buffer::{BufferError, GuestBuffer};
use crate::memory::{GuestMemory, PAGE_SIZE};

/// Maximum number of page numbers of a GPADL: its header gives their length in 16 bits. That is 32 MiB minus a few
/// pages, so Linux's network driver limits its buffers to 31 MiB.
#[cfg(test)]
pub const MAX_PAGES: usize = (u16::MAX as usize - size_of::<GpaRangeHeader>()) / size_of::<u64>();

/// The reason why a list of ranges is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The list is empty.
    #[error("the list has no ranges")]
    Empty,
    /// The length is not a multiple of eight bytes.
    #[error("{0} bytes are not a multiple of 64-bit words")]
    Unaligned(usize),
    /// A range is empty, or starts beyond its first page.
    #[error("a range of {byte_count} bytes from offset {byte_offset} of its first page is invalid")]
    Range {
        /// The range's length.
        byte_count: u32,
        /// The offset into its first page.
        byte_offset: u32,
    },
    /// The list is shorter than its ranges.
    #[error("the ranges need more page numbers than the list contains")]
    TooShort,
    /// The list is longer than its ranges.
    #[error("the list is {0} bytes longer than its ranges")]
    TooLong(usize),
    /// More bytes arrived than the header announced.
    #[error("{announced} bytes were announced, {received} were received")]
    Overrun {
        /// The announced length.
        announced: usize,
        /// The received length.
        received: usize,
    },
    /// A page is not in guest memory.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// The ranges of a GPADL or of a packet, each as a buffer.
#[derive(Clone, Debug, Default)]
pub struct Gpadl {
    ranges: SmallVec<[GuestBuffer; 1]>,
    pages: usize,
}

impl Gpadl {
    /// Parses `count` ranges, which must fill `list` exactly.
    ///
    /// # Errors
    /// Returns a [`RangeError`].
    pub(crate) fn parse(memory: &GuestMemory, count: usize, list: &[u8]) -> Result<Self, RangeError> {
        if count == 0 {
            return Err(RangeError::Empty);
        }
        let mut gpadl = Self::default();
        let mut rest = list;
        for _ in 0..count {
            let (header, after) = GpaRangeHeader::read_from_prefix(rest).map_err(|_| RangeError::TooShort)?;
            let GpaRangeHeader { byte_count, byte_offset } = header;
            if byte_count == 0 || u64::from(byte_offset) >= PAGE_SIZE {
                return Err(RangeError::Range { byte_count, byte_offset });
            }
            let pages = (u64::from(byte_offset) + u64::from(byte_count)).div_ceil(PAGE_SIZE) as usize;
            let (frames, after) =
                <[little_endian::U64]>::ref_from_prefix_with_elems(after, pages).map_err(|_| RangeError::TooShort)?;
            let frames = frames.iter().map(|frame| frame.get());
            gpadl.ranges.push(GuestBuffer::new(memory, frames, byte_offset as usize, byte_count as usize)?);
            gpadl.pages += pages;
            rest = after;
        }
        if rest.is_empty() { Ok(gpadl) } else { Err(RangeError::TooLong(rest.len())) }
    }

    /// Parses the ranges of a GPA-direct packet, which are between its header and its payload.
    ///
    /// # Errors
    /// Returns a [`RangeError`].
    pub fn from_packet(memory: &GuestMemory, extra: &[u8]) -> Result<Self, RangeError> {
        let (header, list) = GpaDirectHeader::read_from_prefix(extra).map_err(|_| RangeError::TooShort)?;
        Self::parse(memory, header.range_count as usize, list)
    }

    /// Returns the ranges. There is at least one, and none is empty.
    pub fn ranges(&self) -> &[GuestBuffer] {
        &self.ranges
    }

    /// Returns the range of a GPADL that has exactly one, as those of rings and of network buffers do.
    pub fn single(&self) -> Option<&GuestBuffer> {
        match &self.ranges[..] {
            [range] => Some(range),
            _ => None,
        }
    }

    /// Returns the number of page numbers in the list.
    #[cfg(test)]
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the total length of the ranges, in bytes.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(GuestBuffer::len).sum()
    }

    /// Returns `true` if there are no ranges, as in a default value.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// A GPADL whose messages have not all arrived.
#[derive(Clone, Debug)]
pub struct GpadlBuilder {
    range_count: usize,
    announced: usize,
    list: Vec<u8>,
}

impl GpadlBuilder {
    /// Begins the GPADL that a header announces. Allocates `range_bytes`, which [`MAX_PAGES`] limits.
    ///
    /// # Errors
    /// Returns an error if the announced list cannot be valid.
    pub fn new(range_count: u16, range_bytes: u16) -> Result<Self, RangeError> {
        let announced = usize::from(range_bytes);
        if range_count == 0 {
            return Err(RangeError::Empty);
        }
        if !announced.is_multiple_of(size_of::<u64>()) {
            return Err(RangeError::Unaligned(announced));
        }
        Ok(Self { range_count: range_count.into(), announced, list: Vec::with_capacity(announced) })
    }

    /// Adds the part of the list in a header or body. Returns `true` when the list is complete.
    ///
    /// # Errors
    /// Returns an error if the part exceeds the announced length, or is not a multiple of eight bytes.
    pub fn append(&mut self, part: &[u8]) -> Result<bool, RangeError> {
        let received = self.list.len() + part.len();
        if !part.len().is_multiple_of(size_of::<u64>()) {
            return Err(RangeError::Unaligned(part.len()));
        }
        if received > self.announced {
            return Err(RangeError::Overrun { announced: self.announced, received });
        }
        self.list.extend_from_slice(part);
        Ok(received == self.announced)
    }

    /// Returns the size that the host stores for it, in 64-bit words.
    pub fn words(&self) -> usize {
        self.announced / size_of::<u64>()
    }

    /// Checks the complete list and converts it to a GPADL.
    ///
    /// # Errors
    /// Returns a [`RangeError`].
    pub fn finish(&self, memory: &GuestMemory) -> Result<Gpadl, RangeError> {
        Gpadl::parse(memory, self.range_count, &self.list)
    }
}

#[cfg(test)]
#[path = "gpadl_tests.rs"]
mod tests;
