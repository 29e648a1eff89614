use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{Backing, HOLE_END, Ram};

/// Returns the bytes of a memory that are resident.
fn resident(memory: &GuestMemory) -> u64 {
    let mut pages = 0;
    for region in memory.iter() {
        let count = (region.len() / PAGE_SIZE) as usize;
        let mut vector = vec![0_u8; count];
        // SAFETY: the vector has a byte for each page of the mapping.
        let result = unsafe { libc::mincore(region.as_ptr().cast(), region.len() as usize, vector.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages += vector.iter().filter(|page| **page & 1 != 0).count() as u64;
    }
    pages * PAGE_SIZE
}

#[test]
fn discarded_pages_are_released_and_read_as_zeros() {
    for backing in [Backing::Private, Backing::Shared] {
        let ram = Ram::new(8 << 20, 16 << 20, backing).unwrap();
        let window = ram.window.start;
        assert_eq!(window, HOLE_END);
        for start in [0, window] {
            ram.all.write_slice(&vec![7; 8 << 20], GuestAddress(start)).unwrap();
        }
        let before = resident(&ram.all);
        discard(&ram.all, (4 << 20)..window + (4 << 20)).unwrap();
        let freed = before - resident(&ram.all);
        assert!(freed >= 8 << 20, "{backing:?}: {freed} bytes of {before}");
        let byte = |address| ram.all.read_obj::<u8>(GuestAddress(address)).unwrap();
        assert_eq!([byte((4 << 20) - 1), byte(4 << 20), byte((8 << 20) - 1)], [7, 0, 0], "{backing:?}");
        assert_eq!([byte(window), byte(window + (4 << 20) - 1), byte(window + (4 << 20))], [0, 0, 7], "{backing:?}");
        ram.all.write_obj(9_u8, GuestAddress(5 << 20)).unwrap();
        assert_eq!(byte(5 << 20), 9, "it can be used again");
    }
}

#[test]
fn pages_that_are_discarded_in_part_are_kept() {
    let ram = Ram::new(1 << 20, 1 << 20, Backing::Private).unwrap();
    ram.all.write_slice(&[1; 3 * 4096], GuestAddress(0)).unwrap();
    discard(&ram.all, 1..3 * 4096 - 1).unwrap();
    let bytes = [0, 4095, 4096, 8191, 8192].map(|address| ram.all.read_obj::<u8>(GuestAddress(address)).unwrap());
    assert_eq!(bytes, [1, 1, 0, 0, 1]);
    discard(&ram.all, 1..2).unwrap();
    discard(&ram.all, 1 << 40..1 << 41).unwrap();
}
