use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn members(set: &VpSet, count: u32) -> Vec<u32> {
    set.members(count).map(|vp| vp.0).collect()
}

#[test]
fn the_example_of_the_tlfs_has_the_members_that_it_lists() {
    let set = VpSet::from_generic(FORMAT_SPARSE, 0x5, &[0x21, 0x04]).unwrap();
    assert_eq!(members(&set, 200), [0, 5, 130]);
    assert_eq!(members(&set, 130), [0, 5], "VPs that do not exist are no members");
}

#[test]
fn the_set_of_all_vps_has_every_vp_that_exists() {
    let set = VpSet::from_generic(FORMAT_ALL, 0, &[]).unwrap();
    assert_eq!(members(&set, 3), [0, 1, 2]);
    assert_eq!(format!("{set:?}"), "all VPs");
}

#[test]
fn a_set_with_mismatched_banks_or_an_unknown_format_is_refused() {
    let refused = |format, valid, contents: &[u64]| VpSet::from_generic(format, valid, contents).unwrap_err();
    assert_eq!(refused(FORMAT_SPARSE, 0b11, &[1]), HvStatus::INVALID_HYPERCALL_INPUT);
    assert_eq!(refused(FORMAT_SPARSE, 0, &[1]), HvStatus::INVALID_HYPERCALL_INPUT);
    assert_eq!(refused(FORMAT_ALL, 1, &[]), HvStatus::INVALID_HYPERCALL_INPUT);
    assert_eq!(refused(2, 0, &[]), HvStatus::INVALID_PARAMETER);
}

#[test]
fn special_vp_indexes_are_in_no_set() {
    assert!(!VpSet::all().contains(VpIndex::ANY) && !VpSet::all().contains(VpIndex::SELF));
    assert!(!VpSet::all().contains(VpIndex(4096)) && VpSet::all().contains(VpIndex(4095)));
}

proptest! {
    /// The simple model: iterates over banks and bits.
    #[test]
    fn a_sparse_set_has_the_members_of_a_simple_model(valid: u64, contents in prop::collection::vec(any::<u64>(), 64)) {
        let contents = &contents[..valid.count_ones() as usize];
        let mut naive = BTreeSet::new();
        let mut next = 0;
        for bank in 0..64 {
            if valid & 1 << bank != 0 {
                for bit in 0..64 {
                    if contents[next] & 1 << bit != 0 {
                        naive.insert(bank * 64 + bit);
                    }
                }
                next += 1;
            }
        }
        let set = VpSet::from_generic(FORMAT_SPARSE, valid, contents).unwrap();
        prop_assert_eq!(set.members(u32::MAX).map(|vp| vp.0).collect::<BTreeSet<_>>(), naive);
    }
}
