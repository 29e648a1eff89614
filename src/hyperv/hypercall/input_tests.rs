use super::*;
use proptest::prelude::*;

#[test]
fn the_fields_of_an_input_value_have_the_layout_of_the_tlfs() {
    let input = HypercallInput(0x0123_0456_0000_0000 | 5 << 17 | 1 << 16 | 0x5d);
    assert_eq!(input.code(), CallCode::SIGNAL_EVENT);
    assert!(input.fast() && input.is_well_formed());
    assert_eq!((input.variable_header(), input.rep_count(), input.rep_start()), (5, 0x456, 0x123));
}

#[test]
fn reserved_bits_and_is_nested_are_not_well_formed() {
    for bit in (27..32).chain(44..48).chain(60..64) {
        assert!(!HypercallInput(1 << bit).is_well_formed(), "bit {bit}");
    }
    assert_eq!(HypercallInput::RESERVED.count_ones(), 13);
}

#[test]
fn a_result_has_its_status_low_and_its_reps_at_bit_32() {
    let result = HypercallResult { status: HvStatus::INVALID_ALIGNMENT, reps_completed: 0xfff };
    assert_eq!(result.bits(), 0xfff_0000_0004);
    assert_eq!(HypercallResult::from(HvStatus::SUCCESS).bits(), 0);
}

proptest! {
    #[test]
    fn fields_that_are_set_can_be_read_back(code: u16, header in 0usize..1024, count in 0usize..4096, start in 0usize..4096) {
        let input = HypercallInput::new(CallCode(code)).with_fast().with_variable_header(header).with_rep_count(count).with_rep_start(start);
        prop_assert_eq!(
            (input.code(), input.fast(), input.variable_header(), input.rep_count(), input.rep_start()),
            (CallCode(code), true, header, count, start)
        );
        prop_assert!(input.is_well_formed());
    }
}
