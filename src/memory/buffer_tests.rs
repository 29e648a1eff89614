use super::*;
use proptest::prelude::*;
use vm_memory::Bytes;

const PAGE: usize = PAGE_SIZE as usize;

/// Creates memory of two regions with a hole: pages 0 to 15 and 32 to 47.
fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), 16 * PAGE), (GuestAddress(32 * PAGE_SIZE), 16 * PAGE)]).unwrap()
}

fn buffer(memory: &GuestMemory, frames: &[u64], offset: usize, length: usize) -> Result<GuestBuffer, BufferError> {
    GuestBuffer::new(memory, frames.iter().copied(), offset, length)
}

#[test]
fn adjacent_pages_become_one_segment() {
    let memory = memory();
    let buffer = buffer(&memory, &[3, 4, 5, 15, 32, 33, 2], 0x10, 6 * PAGE + 0x20).unwrap();
    let segments: Vec<_> = buffer.segments(0, buffer.len()).unwrap().collect();
    let page = |frame: u64| frame * PAGE_SIZE;
    assert_eq!(
        segments,
        [
            (GuestAddress(page(3) + 0x10), 3 * PAGE - 0x10),
            (GuestAddress(page(15)), PAGE),
            (GuestAddress(page(32)), 2 * PAGE),
            (GuestAddress(page(2)), 0x30),
        ]
    );
    let part: Vec<_> = buffer.segments(3 * PAGE - 0x11, PAGE + 2).unwrap().collect();
    assert_eq!(part, [(GuestAddress(page(6) - 1), 1), (GuestAddress(page(15)), PAGE), (GuestAddress(page(32)), 1)]);
}

#[test]
fn a_shortened_buffer_has_its_first_bytes_and_each_mapping_is_held_once() {
    let buffer = buffer(&memory(), &[3, 5, 32, 34, 2], 0, 5 * PAGE).unwrap();
    assert_eq!(buffer.mappings().len(), 3);
    let first = buffer.clone().shortened(PAGE + 1).unwrap();
    assert_eq!((first.len(), first.segments(0, PAGE + 1).unwrap().count()), (PAGE + 1, 2));
    assert_eq!(buffer.clone().shortened(5 * PAGE).unwrap().len(), 5 * PAGE);
    assert!(buffer.shortened(5 * PAGE + 1).is_err());
}

#[test]
fn pages_that_the_guest_does_not_have_are_refused() {
    let memory = memory();
    for frame in [16, 31, 48, u64::MAX, u64::MAX / PAGE_SIZE, u64::MAX / PAGE_SIZE + 1] {
        let refused = buffer(&memory, &[0, frame], 0, 2 * PAGE).unwrap_err();
        assert_eq!(refused, BufferError::NoSuchPage { frame });
    }
}

#[test]
fn a_wrong_number_of_pages_is_refused() {
    let memory = memory();
    for (frames, offset, length) in [
        (&[1, 2][..], 0, PAGE),
        (&[1], 0, PAGE + 1),
        (&[1], 1, PAGE),
        (&[1, 2], PAGE, PAGE),
        (&[], 0, 1),
        (&[1], 0, usize::MAX),
        (&[1], 8, usize::MAX - 4),
    ] {
        assert!(matches!(buffer(&memory, frames, offset, length), Err(BufferError::WrongPageCount { .. })));
    }
    assert!(buffer(&memory, &[], 0, 0).unwrap().is_empty());
}

#[test]
fn a_word_is_shared_with_the_guest() {
    let memory = memory();
    let buffer = buffer(&memory, &[9, 40], 0, 2 * PAGE).unwrap();
    buffer.word(PAGE + 4).unwrap().store(77, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(memory.read_obj::<u32>(GuestAddress(40 * PAGE_SIZE + 4)).unwrap(), 77);
    assert!(buffer.word(PAGE - 2).is_err());
    assert!(buffer.word(2).is_err());
    assert!(buffer.word(2 * PAGE).is_err());
    assert!(buffer.word(usize::MAX).is_err());
}

#[test]
fn a_buffer_outlives_the_memory_that_it_was_made_from() {
    let memory = memory();
    let buffer = buffer(&memory, &[1], 0, PAGE).unwrap();
    drop(memory);
    buffer.write(5, b"still here").unwrap();
    assert_eq!(buffer.read_value::<[u8; 10]>(5).unwrap(), *b"still here");
}

proptest! {
    #[test]
    fn a_buffer_reads_and_writes_as_a_plain_array_does(
        frames in prop::collection::vec(prop_oneof![0u64..16, 32u64..48], 1..8),
        offset in 0usize..PAGE,
        accesses in prop::collection::vec((any::<bool>(), 0usize..9 * PAGE, 0usize..3 * PAGE), 1..20),
    ) {
        // The pages are distinct: with a repeated page, the buffer would not behave like an array.
        let mut seen = std::collections::HashSet::new();
        let frames: Vec<u64> = frames.into_iter().filter(|frame| seen.insert(*frame)).collect();
        let memory = memory();
        let length = frames.len() * PAGE - offset;
        let buffer = buffer(&memory, &frames, offset, length).unwrap();
        let mut model = vec![0u8; length];
        for (index, (write, at, count)) in accesses.into_iter().enumerate() {
            let inside = at + count <= length;
            if write {
                let bytes: Vec<u8> = (0..count).map(|byte| (byte * 7 + index) as u8).collect();
                prop_assert_eq!(buffer.write(at, &bytes).is_ok(), inside);
                if inside {
                    model[at..at + count].copy_from_slice(&bytes);
                }
            } else {
                let mut bytes = vec![0; count];
                prop_assert_eq!(buffer.read(at, &mut bytes).is_ok(), inside);
                if inside {
                    prop_assert_eq!(&bytes[..], &model[at..at + count]);
                    let part = buffer.part(at, count).unwrap();
                    let mut again = vec![0; count];
                    part.read(0, &mut again).unwrap();
                    prop_assert_eq!(&again[..], &model[at..at + count]);
                    prop_assert_eq!(part.len(), count);
                }
            }
        }
    }
}
