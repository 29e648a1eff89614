use super::*;
use crate::boot::fixtures::{note, pvh_note};
use proptest::prelude::*;
use zerocopy::IntoBytes;

#[test]
fn the_pvh_entry_is_found_in_either_width_and_alignment() {
    let other = |alignment| note(b"GNU\0", 3, &[1; 20], alignment);
    let short = note(b"Xen\0", XEN_PHYS32_ENTRY, &0x1234u32.to_le_bytes(), 4);
    assert_eq!(find_pvh_entry(&[other(4), short].concat(), 4), Ok(Some(0x1234)));
    assert_eq!(find_pvh_entry(&[other(4), pvh_note(0x5678)].concat(), 0), Ok(Some(0x5678)));
    let wide = note(b"Xen\0", XEN_PHYS32_ENTRY, &0x9abcu64.to_le_bytes(), 8);
    assert_eq!(find_pvh_entry(&[other(8), wide].concat(), 8), Ok(Some(0x9abc)));
}

#[test]
fn a_note_is_found_after_notes_whose_padding_differs_from_the_segments_alignment() {
    // Contents of 8 and 4 bytes: with the two paddings, the next note has different positions.
    let other = |alignment| note(b"Other\0\0", 1, &[7; 4], alignment);
    let xen = |alignment| note(b"Xen\0", XEN_PHYS32_ENTRY, &0x1234u32.to_le_bytes(), alignment);
    assert_ne!(other(4).len(), other(8).len());
    for (padded, stated) in [(4, 8), (8, 4), (8, 0), (8, 1), (4, 4096)] {
        assert_eq!(
            find_pvh_entry(&[other(padded), xen(padded)].concat(), stated),
            Ok(Some(0x1234)),
            "{padded} {stated}"
        );
    }
}

#[test]
fn notes_of_other_vendors_give_no_entry() {
    assert_eq!(find_pvh_entry(&note(b"Xen\0", 17, &[0; 8], 4), 4), Ok(None));
    assert_eq!(find_pvh_entry(&note(b"Xem\0", XEN_PHYS32_ENTRY, &[0; 8], 4), 4), Ok(None));
    assert_eq!(find_pvh_entry(&[], 4), Ok(None));
    assert_eq!(find_pvh_entry(&[0; 20], 4), Ok(None));
    // Valid only with the other padding.
    assert_eq!(find_pvh_entry(&note(b"Other\0\0", 1, &[7; 4], 4).repeat(3), 8), Ok(None));
}

#[test]
fn notes_with_invalid_lengths_are_an_error() {
    assert_eq!(find_pvh_entry(&pvh_note(1)[..20], 4), Err("do not add up"));
    let huge = NoteHeader { name_size: u32::MAX, content_size: u32::MAX, kind: XEN_PHYS32_ENTRY };
    assert_eq!(find_pvh_entry(huge.as_bytes(), 8), Err("do not add up"));
    let odd = note(b"Xen\0", XEN_PHYS32_ENTRY, &[0; 3], 4);
    assert_eq!(find_pvh_entry(&odd, 4), Err("have a PVH entry that is neither 4 nor 8 bytes long"));
}

proptest! {
    #[test]
    fn parsing_random_notes_terminates(notes in prop::collection::vec(prop_oneof![Just(0), Just(4), any::<u8>()], 0..200)) {
        let _ = find_pvh_entry(&notes, 8);
    }
}
