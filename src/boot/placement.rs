//! The layout of guest memory during loading: every range that is written is claimed first, so that none overlap.

use std::ops::Range;

use super::error::{BootError, Occupant};
use super::layout::{self, MemoryKind};
use crate::memory::{self, HOLE_START, PAGE_SIZE};

/// The claimed ranges of one machine's memory.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    size: u64,
    /// The remedy for overlaps, which depends on who chose the addresses.
    advice: &'static str,
    claims: Vec<Occupant>,
}

impl Placement {
    /// Creates a layout without claims, for a machine with `size` bytes of memory.
    pub(super) fn new(size: u64, advice: &'static str) -> Self {
        Self { size, advice, claims: Vec::new() }
    }

    /// Returns the machine's memory in bytes.
    pub(super) fn memory_size(&self) -> u64 {
        self.size
    }

    /// Claims `length` bytes from `start`. Returns an error if the range is occupied, or outside of memory.
    pub(super) fn claim(&mut self, what: impl Into<String>, start: u64, length: u64) -> Result<Occupant, BootError> {
        let claim = Occupant { what: what.into(), range: start..start.saturating_add(length) };
        self.require_memory(&claim)?;
        if let Some(other) = self.occupant(&claim.range) {
            return Err(BootError::Overlap { first: claim, second: other.clone(), advice: self.advice });
        }
        self.claims.push(claim.clone());
        Ok(claim)
    }

    /// Returns an error if any part of the range is outside of memory.
    pub(super) fn require_memory(&self, claim: &Occupant) -> Result<(), BootError> {
        let Range { start, end } = claim.range;
        if memory::ranges(self.size).iter().any(|ram| ram.start <= start && end <= ram.end) {
            return Ok(());
        }
        // More memory does not help a range across the hole.
        let across = start < HOLE_START && end > HOLE_START;
        let needed = layout::size_reaching(end).filter(|_| !across);
        Err(BootError::OutsideMemory { what: claim.clone(), memory: self.size, needed })
    }

    /// Returns the claim that overlaps `range`.
    pub(super) fn occupant(&self, range: &Range<u64>) -> Option<&Occupant> {
        self.claims.iter().find(|claim| claim.range.start < range.end && range.start < claim.range.end)
    }

    /// Returns the highest page-aligned address for `length` bytes of usable memory that end at or below `limit`.
    pub(super) fn highest(&self, length: u64, limit: u64) -> Option<u64> {
        self.usable().into_iter().rev().find_map(|ram| {
            let mut end = ram.end.min(limit);
            loop {
                let start = end.checked_sub(length)? / PAGE_SIZE * PAGE_SIZE;
                if start < ram.start {
                    return None;
                }
                match self.occupant(&(start..start + length)) {
                    None => return Some(start),
                    Some(other) => end = other.range.start,
                }
            }
        })
    }

    /// Returns the lowest page-aligned address for `length` bytes of usable memory at or above `from`, below 4 GiB.
    pub(super) fn lowest(&self, length: u64, from: u64) -> Option<u64> {
        self.usable().into_iter().filter(|ram| ram.end <= HOLE_START).find_map(|ram| {
            let mut start = ram.start.max(from).next_multiple_of(PAGE_SIZE);
            loop {
                let end = start.checked_add(length).filter(|end| *end <= ram.end)?;
                match self.occupant(&(start..end)) {
                    None => return Some(start),
                    Some(other) => start = other.range.end.next_multiple_of(PAGE_SIZE),
                }
            }
        })
    }

    /// Returns the usable ranges that are not claimed, lowest first.
    pub(super) fn free(&self) -> Vec<Range<u64>> {
        let mut free = Vec::new();
        for ram in self.usable() {
            let mut start = ram.start;
            while start < ram.end {
                let next = self.claims.iter().filter(|claim| claim.range.end > start && claim.range.start < ram.end);
                let next = next.min_by_key(|claim| claim.range.start).map(|claim| &claim.range);
                let end = next.map_or(ram.end, |claim| claim.start);
                if start < end {
                    free.push(start..end);
                }
                start = next.map_or(ram.end, |claim| claim.end);
            }
        }
        free
    }

    fn usable(&self) -> Vec<Range<u64>> {
        let map = layout::memory_map(self.size);
        map.into_iter().filter(|entry| entry.kind == MemoryKind::Usable).map(|entry| entry.range).collect()
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
