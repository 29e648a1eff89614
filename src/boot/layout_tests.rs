use super::*;
use proptest::prelude::*;

fn usable(range: Range<u64>) -> MapEntry {
    MapEntry { range, kind: MemoryKind::Usable }
}

fn hole() -> MapEntry {
    MapEntry { range: 0x9fc00..0x100000, kind: MemoryKind::Reserved }
}

#[test]
fn the_smallest_machine_has_only_conventional_memory() {
    assert_eq!(memory_map(1 << 20), [usable(0..0x9fc00), hole()]);
}

#[test]
fn memory_continues_above_the_first_mebibyte_and_above_four_gibibytes() {
    assert_eq!(memory_map(256 << 20), [usable(0..0x9fc00), hole(), usable(1 << 20..256 << 20)]);
    let large = [usable(0..0x9fc00), hole(), usable(1 << 20..3 << 30), usable(4 << 30..6 << 30)];
    assert_eq!(memory_map(5 << 30), large);
}

#[test]
fn boot_structures_lie_in_conventional_memory_and_do_not_overlap() {
    let mut ranges = vec![GDT..PAGE_TABLES, PAGE_TABLES..PAGE_TABLES + 6 * 4096, BOOT_INFORMATION, COMMAND_LINE];
    ranges.extend(STACKS);
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(ranges.last().unwrap().end <= 0x9d000);
}

#[test]
fn a_memory_size_is_suggested_for_every_address_that_a_machine_can_have() {
    assert_eq!(size_reaching(1), Some(1 << 20));
    assert_eq!(size_reaching((1 << 20) + 1), Some(2 << 20));
    assert_eq!(size_reaching(HOLE_START), Some(3 << 30));
    assert_eq!(size_reaching(HOLE_START + 1), None);
    assert_eq!(size_reaching(HOLE_END), None);
    assert_eq!(size_reaching(HOLE_END + 1), Some((3 << 30) + (1 << 20)));
    assert_eq!(size_reaching(u64::MAX), None);
}

proptest! {
    #[test]
    fn the_map_is_sorted_and_covers_exactly_the_memory(pages in 256u64..(64 << 18)) {
        let size = pages * 4096;
        let map = memory_map(size);
        prop_assert!(map.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        prop_assert!(map.iter().all(|entry| !entry.range.is_empty()));
        prop_assert_eq!(map.iter().map(|entry| entry.range.end - entry.range.start).sum::<u64>(), size);
    }

    #[test]
    fn memory_of_the_suggested_size_reaches_the_address(end in 1u64..(1 << 40)) {
        if let Some(size) = size_reaching(end) {
            prop_assert!(memory::ranges(size).iter().any(|range| range.start < end && end <= range.end));
        }
    }
}
