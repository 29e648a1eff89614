use super::*;
use proptest::prelude::*;

fn placement(mebibytes: u64) -> Placement {
    Placement::new(mebibytes << 20, "move one")
}

#[test]
fn adjacent_claims_are_allowed_and_the_error_for_an_overlap_names_both() {
    let mut placement = placement(2);
    placement.claim("the kernel", 0x1000, 0x1000).unwrap();
    placement.claim("the initrd", 0x2000, 1).unwrap();
    let error = placement.claim("the stack", 0xfff, 2).unwrap_err();
    let expected = "the stack (0xfff..0x1001) and the kernel (0x1000..0x2000) overlap in guest memory; move one";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_error_for_a_claim_outside_of_memory_names_a_sufficient_size() {
    let error = |start, length| placement(2).claim("the kernel", start, length).unwrap_err().to_string();
    let start = "the kernel (0x1fffff..0x200001) is outside of the machine's 2097152 bytes of memory; ";
    assert_eq!(error(0x1f_ffff, 2), format!("{start}give --memory 3M or more"));
    assert!(error(4 << 30, 1).ends_with("give --memory 3073M or more"));
    let impossible = "no memory size provides memory there; link or place it at another address";
    for (start, length) in [(3 << 30, 1), ((3 << 30) - 1, 2), (0, u64::MAX), (u64::MAX, 1), (4096, 5 << 30)] {
        assert!(error(start, length).ends_with(impossible), "{start:#x}");
    }
}

#[test]
fn the_highest_free_place_is_below_the_limit_and_outside_of_claims() {
    let mut placement = placement(16);
    assert_eq!(placement.highest(5000, u64::MAX), Some((16 << 20) - 8192));
    placement.claim("x", (16 << 20) - 4096, 1).unwrap();
    assert_eq!(placement.highest(4096, u64::MAX), Some((16 << 20) - 8192));
    assert_eq!(placement.highest(4096, 2 << 20), Some((2 << 20) - 4096));
    assert_eq!(placement.highest(16 << 20, u64::MAX), None);
}

#[test]
fn the_lowest_free_place_is_above_the_minimum_and_outside_of_claims() {
    let mut placement = placement(16);
    assert_eq!(placement.lowest(4096, 1), Some(4096));
    placement.claim("x", 4096, 4097).unwrap();
    assert_eq!(placement.lowest(4096, 1), Some(0x3000));
    assert_eq!(placement.lowest(1 << 20, 0), Some(1 << 20));
    assert_eq!(placement.lowest(15 << 20, 2 << 20), None);
}

proptest! {
    #[test]
    fn a_place_that_is_found_can_be_claimed(
        claims in prop::collection::vec((0u64..32 << 20, 1u64..2 << 20), 0..12),
        length in 1u64..8 << 20,
        bound in 0u64..34 << 20,
    ) {
        let mut placement = placement(32);
        for (start, length) in claims {
            let _ = placement.claim("x", start, length);
        }
        if let Some(start) = placement.highest(length, bound) {
            prop_assert!(start + length <= bound);
            prop_assert!(placement.clone().claim("high", start, length).is_ok());
        }
        if let Some(start) = placement.lowest(length, bound) {
            prop_assert!(start >= bound);
            prop_assert!(placement.claim("low", start, length).is_ok());
        }
    }
}

#[test]
fn memory_without_a_claim_is_free() {
    let mut placement = Placement::new(4 << 20, "");
    placement.claim("a", 0x1000, 0x1000).unwrap();
    placement.claim("b", 0x2000, 0x800).unwrap();
    placement.claim("c", 2 << 20, 2 << 20).unwrap();
    assert_eq!(placement.free(), [0..0x1000, 0x2800..layout::CONVENTIONAL_END, 1 << 20..2 << 20]);
}
