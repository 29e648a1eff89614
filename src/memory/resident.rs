//! Reads all guest memory that the host has pages for.

use std::ops::ControlFlow;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

use super::{GuestMemory, PAGE_SIZE};

/// The part of guest memory that is looked at in one step, in bytes.
const STEP: u64 = 2 << 20;

/// Calls `visit` with the address and a copy of each run of pages, until it breaks. Pages that the host has not allocated, or has swapped
/// out, are left out: they are not allocated by this. Runs are at most 2 MiB long.
pub fn visit_resident(memory: &GuestMemory, mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>) {
    let mut bytes = Vec::new();
    for (region, first) in
        memory.iter().flat_map(|region| (0..region.len()).step_by(STEP as usize).map(move |at| (region, at)))
    {
        let mut at = first;
        let pages = residence(region, first, STEP.min(region.len() - first));
        for run in pages.chunk_by(|one, other| one & 1 == other & 1) {
            let length = (PAGE_SIZE * run.len() as u64).min(region.len() - at);
            if run[0] & 1 == 1 {
                bytes.resize(length as usize, 0);
                let read = region.read_slice(&mut bytes, MemoryRegionAddress(at));
                if read.is_ok() && visit(region.start_addr().0 + at, &bytes).is_break() {
                    return;
                }
            }
            at += length;
        }
    }
}

/// Returns `true` if the host has a page of a range, which is in one region and begins with a page. Pages that were never accessed are
/// not there.
pub fn is_touched(memory: &GuestMemory, start: u64, length: u64) -> bool {
    let Some((region, at)) = memory.to_region_addr(GuestAddress(start)) else { return false };
    let pages = residence(region, at.0, length.min(region.len().saturating_sub(at.0)));
    pages.iter().any(|page| page & 1 == 1)
}

/// Returns a byte for each page of a part of the region. Bit 0 says that the host has it. Returns none if the host does not tell.
fn residence(region: &GuestRegionMmap, at: u64, length: u64) -> Vec<u8> {
    let mut pages = vec![0; length.div_ceil(PAGE_SIZE) as usize];
    let Ok(start) = region.get_host_address(MemoryRegionAddress(at)) else { return Vec::new() };
    // SAFETY: the part is inside the region, which is mapped while it is borrowed, and the vector has a byte for each of its pages.
    let result = unsafe { libc::mincore(start.cast(), length as usize, pages.as_mut_ptr()) };
    if result == 0 { pages } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Backing, create};

    /// Returns the addresses and the lengths of all runs.
    fn runs(memory: &GuestMemory) -> Vec<(u64, usize)> {
        let mut runs = Vec::new();
        visit_resident(memory, |at, bytes| {
            runs.push((at, bytes.len()));
            ControlFlow::Continue(())
        });
        runs
    }

    #[test]
    fn only_pages_that_were_touched_are_read_and_no_others_are_allocated() {
        let memory = create(16 << 20, Backing::Shared).unwrap();
        assert_eq!(runs(&memory), []);
        for at in [0x5000, 0x6fff, 3 << 20] {
            memory.write_slice(&[1], GuestAddress(at)).unwrap();
        }
        assert_eq!(runs(&memory), [(0x5000, 0x2000), (3 << 20, 0x1000)]);
        assert_eq!(runs(&memory), [(0x5000, 0x2000), (3 << 20, 0x1000)]);
    }

    #[test]
    fn a_range_is_touched_once_one_of_its_pages_is() {
        let memory = create(16 << 20, Backing::Private).unwrap();
        memory.write_slice(&[1], GuestAddress(0x8000)).unwrap();
        let touched = |start, length| is_touched(&memory, start, length);
        assert!(touched(0x8000, 1) && touched(0x4000, 0x4001) && !touched(0x4000, 0x4000) && !touched(0x9000, 1 << 20));
        assert!(!touched(15 << 20, u64::MAX) && !touched(16 << 20, 1));
    }

    #[test]
    fn the_bytes_are_those_of_the_pages_and_the_visit_ends_when_it_is_to() {
        let memory = create(8 << 20, Backing::Private).unwrap();
        memory.write_slice(b"here", GuestAddress(0x3ffc)).unwrap();
        memory.write_slice(b"and there", GuestAddress(7 << 20)).unwrap();
        let mut found = Vec::new();
        visit_resident(&memory, |at, bytes| {
            found.push((at, bytes[bytes.len() - 4..].to_vec()));
            ControlFlow::Break(())
        });
        assert_eq!(found, [(0x3000, b"here".to_vec())]);
    }
}
