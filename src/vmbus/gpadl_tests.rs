use super::*;
use proptest::prelude::*;
use vm_memory::GuestAddress;
use zerocopy::IntoBytes;

const PAGE: u32 = PAGE_SIZE as u32;

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), 64 * PAGE as usize)]).unwrap()
}

fn range(byte_count: u32, byte_offset: u32, frames: &[u64]) -> Vec<u8> {
    let mut bytes = GpaRangeHeader { byte_count, byte_offset }.as_bytes().to_vec();
    bytes.extend_from_slice(frames.as_bytes());
    bytes
}

#[test]
fn a_list_of_several_ranges_becomes_several_buffers() {
    let list = [range(PAGE, 8, &[1, 2]), range(3 * PAGE, 0, &[9, 8, 7]), range(1, 4095, &[63])].concat();
    let gpadl = Gpadl::parse(&memory(), 3, &list).unwrap();
    let lengths: Vec<_> = gpadl.ranges().iter().map(GuestBuffer::len).collect();
    assert_eq!(lengths, [PAGE as usize, 3 * PAGE as usize, 1]);
    assert_eq!((gpadl.pages(), gpadl.len()), (6, 4 * PAGE as usize + 1));
    assert!(gpadl.single().is_none());
    let last: Vec<_> = gpadl.ranges()[2].segments(0, 1).unwrap().collect();
    assert_eq!(last, [(GuestAddress(64 * PAGE_SIZE - 1), 1)]);
}

#[test]
fn a_gpadl_that_names_more_pages_than_it_carries_is_refused() {
    let parse = |count, list: &[u8]| Gpadl::parse(&memory(), count, list).unwrap_err();
    assert_eq!(parse(1, &range(2 * PAGE, 0, &[1])), RangeError::TooShort);
    assert_eq!(parse(1, &range(PAGE, 1, &[1])), RangeError::TooShort);
    assert_eq!(parse(2, &range(PAGE, 0, &[1])), RangeError::TooShort);
    assert_eq!(parse(usize::MAX, &range(PAGE, 0, &[1])), RangeError::TooShort);
    assert_eq!(parse(1, &range(u32::MAX, 4095, &[1])), RangeError::TooShort);
    assert_eq!(parse(1, &[0; 7]), RangeError::TooShort);
}

#[test]
fn an_invalid_list_of_ranges_is_refused() {
    let parse = |count, list: &[u8]| Gpadl::parse(&memory(), count, list).unwrap_err();
    assert_eq!(parse(0, &[]), RangeError::Empty);
    assert_eq!(parse(1, &range(0, 0, &[])), RangeError::Range { byte_count: 0, byte_offset: 0 });
    assert_eq!(parse(1, &range(8, PAGE, &[1, 2])), RangeError::Range { byte_count: 8, byte_offset: PAGE });
    assert_eq!(parse(1, &range(PAGE, 0, &[1, 2])), RangeError::TooLong(8));
    assert_eq!(parse(1, &range(PAGE, 0, &[64])), RangeError::Buffer(BufferError::NoSuchPage { frame: 64 }));
}

#[test]
fn bodies_beyond_the_announced_length_are_refused() {
    let mut builder = GpadlBuilder::new(1, 32).unwrap();
    assert_eq!(builder.append(&[0; 24]), Ok(false));
    assert_eq!(builder.append(&[0; 4]), Err(RangeError::Unaligned(4)));
    assert_eq!(builder.append(&[0; 16]), Err(RangeError::Overrun { announced: 32, received: 40 }));
    assert_eq!(builder.append(&[0; 8]), Ok(true));
    assert_eq!(GpadlBuilder::new(0, 16).unwrap_err(), RangeError::Empty);
    assert_eq!(GpadlBuilder::new(1, 17).unwrap_err(), RangeError::Unaligned(17));
}

#[test]
fn the_largest_gpadl_carries_31_mebibytes() {
    const { assert!(MAX_PAGES >= 31 << 8) };
    let frames = vec![5u64; 31 << 8];
    let list = range(31 << 20, 0, &frames);
    let mut builder = GpadlBuilder::new(1, list.len().try_into().unwrap()).unwrap();
    let done: Vec<bool> = list.chunks(224).map(|part| builder.append(part).unwrap()).collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert!(done.last().unwrap());
    assert_eq!(builder.finish(&memory()).unwrap().single().unwrap().len(), 31 << 20);
}

proptest! {
    #[test]
    fn random_lists_never_panic_and_never_reach_beyond_memory(
        count in 0usize..4,
        words in prop::collection::vec(prop_oneof![0u64..80, any::<u64>(), (0u64..70000).prop_map(|n| n | 16 << 32)], 0..24),
    ) {
        if let Ok(gpadl) = Gpadl::parse(&memory(), count, words.as_bytes()) {
            prop_assert_eq!(gpadl.ranges().len(), count);
            for buffer in gpadl.ranges() {
                for (address, length) in buffer.segments(0, buffer.len()).unwrap() {
                    prop_assert!(length > 0 && address.0 + length as u64 <= 64 * PAGE_SIZE);
                }
            }
        }
    }
}
