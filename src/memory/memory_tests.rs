#![allow(clippy::single_range_in_vec_init)]
use super::*;
use vm_memory::GuestAddress;
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

#[test]
fn memory_continues_above_the_hole_in_a_second_range() {
    assert_eq!(ranges(1 << 20), [0..1 << 20]);
    assert_eq!(ranges(HOLE_START), [0..HOLE_START]);
    assert_eq!(ranges(4 << 30), [0..HOLE_START, HOLE_END..HOLE_END + (1 << 30)]);
}

#[test]
fn both_ranges_are_backed_and_start_as_zeroes() {
    both_ranges_are_backed(create(4 << 30, Backing::Private).unwrap());
    both_ranges_are_backed(create(4 << 30, Backing::Shared).unwrap());
}

#[test]
fn private_memory_is_aligned_for_huge_pages() {
    // Each mapping must have an address of its own.
    let memories =
        [2 << 20, 6 << 20, 64 << 20, (64 << 20) + 4096, 5 << 30].map(|size| create(size, Backing::Private).unwrap());
    for memory in &memories[1..] {
        for region in memory.iter() {
            assert_eq!(region.as_ptr() as u64 % HUGE_PAGE, region.start_addr().0 % HUGE_PAGE, "{region:?}");
        }
    }
}

fn both_ranges_are_backed(memory: GuestMemory) {
    assert_eq!(memory.iter().map(|region| region.len()).sum::<u64>(), 4 << 30);
    for address in [0, HOLE_START - 8, HOLE_END, HOLE_END + (1 << 30) - 8] {
        assert_eq!(memory.read_obj::<u64>(GuestAddress(address)).unwrap(), 0);
        memory.write_obj(address, GuestAddress(address)).unwrap();
    }
    assert!(memory.read_obj::<u64>(GuestAddress(HOLE_START)).is_err());
    assert_eq!(memory.read_obj::<u64>(GuestAddress(HOLE_END)).unwrap(), HOLE_END);
}

#[test]
fn invalid_memory_sizes_are_refused_with_the_reason() {
    assert!(create(4096, Backing::Private).unwrap_err().to_string().contains("1M"));
    assert!(create((1 << 20) + 1, Backing::Private).unwrap_err().to_string().contains("4096"));
    assert!(create(3 << 20, Backing::HugePages).unwrap_err().to_string().contains("2M"));
}

#[test]
fn a_guest_with_more_memory_than_the_host_causes_a_warning() {
    assert_eq!(excess("the guest has", 1 << 20), None);
    let text = excess("the guest has", 1 << 50).unwrap();
    assert!(text.starts_with("the guest has 1073741824 MiB of memory, more than the "), "{text}");
    assert!(text.ends_with("give a smaller --memory"), "{text}");
}

#[test]
fn the_hosts_limit_is_that_of_its_memory_or_of_a_control_group() {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = kibibytes(&text, "MemTotal:").unwrap() + kibibytes(&text, "SwapTotal:").unwrap();
    assert_eq!(host_limit(), total << 10);
    assert!(free() <= host_limit());
    let read = |group: &str| match group {
        "/a/b" => Some("max\n".to_owned()),
        "/a" => Some("4096\n".to_owned()),
        "/" => None,
        group => panic!("{group}"),
    };
    assert_eq!(group_limit("1:cpu:/x\n0::/a/b\n", read), Some(4096));
    assert_eq!(group_limit("0::/\n", read), None);
    assert_eq!(group_limit("", read), None);
}
