use super::*;
use proptest::prelude::*;

const GHZ: u64 = 1_000_000_000;

fn tsc(guest_tsc: u64) -> Reading {
    Reading { guest_tsc, monotonic: 0 }
}

fn monotonic(monotonic: u64) -> Reading {
    Reading { guest_tsc: 0, monotonic }
}

/// Returns the time that a guest computes from the page.
fn by_page(page: ReferenceTscPage, guest_tsc: u64) -> u64 {
    (((u128::from(guest_tsc) * u128::from(page.scale)) >> 64) as u64).wrapping_add_signed(page.offset)
}

#[test]
fn a_second_of_tsc_is_ten_million_units() {
    let time = ReferenceTime::new(Some(2 * GHZ), tsc(123_456_789));
    assert_eq!(time.at(tsc(123_456_789)), 0);
    let later = time.at(tsc(123_456_789 + 2 * GHZ));
    assert!((9_999_999..=10_000_000).contains(&later), "{later}");
}

#[test]
fn a_tsc_of_ten_megahertz_or_less_is_unsuitable_for_the_page() {
    assert_eq!(tsc_scale(0), None);
    assert_eq!(tsc_scale(10_000_000), None);
    assert!(tsc_scale(10_000_001).is_some());
    let time = ReferenceTime::new(Some(10_000_000), monotonic(500));
    assert_eq!(time.page().sequence, 0);
    assert_eq!(time.at(monotonic(500 + 100 * 7)), 7);
}

#[test]
fn the_clock_stops_while_paused_and_continues_from_there() {
    for frequency in [None, Some(GHZ)] {
        let now = |seconds: u64| Reading { guest_tsc: seconds * GHZ, monotonic: seconds * GHZ };
        let mut time = ReferenceTime::new(frequency, now(5));
        let sequence = time.page().sequence;
        time.pause(now(6));
        let stopped = time.at(now(6));
        assert_eq!(time.at(now(600)), stopped);
        assert_eq!(time.until(stopped + 1, now(600)), None);
        assert_eq!(time.resume(now(1000)), frequency.is_some());
        assert_eq!(time.at(now(1000)), stopped);
        let later = time.at(now(1001)) - stopped;
        assert!((9_999_999..=10_000_000).contains(&later), "{later}");
        assert_eq!(time.page().sequence != sequence, frequency.is_some());
        assert!(!time.resume(now(1002)), "a clock that runs is not resumed");
    }
}

#[test]
fn a_second_pause_does_not_move_a_paused_clock() {
    let mut time = ReferenceTime::new(None, monotonic(0));
    time.pause(monotonic(1000));
    time.pause(monotonic(9000));
    time.resume(monotonic(10_000));
    assert_eq!(time.at(monotonic(10_000)), 10);
}

#[test]
fn a_reading_from_before_the_clock_was_set_is_zero_and_later_ones_are_right() {
    for frequency in [None, Some(GHZ)] {
        let now = |nanoseconds| Reading { guest_tsc: nanoseconds, monotonic: nanoseconds };
        let time = ReferenceTime::new(frequency, now(1_000_000));
        assert_eq!(time.at(now(900_000)), 0);
        assert!((9..=10).contains(&time.at(now(1_001_000))));
    }
}

#[test]
fn the_sequence_never_becomes_one_of_the_two_that_invalidate_the_page() {
    assert_eq!(next_sequence(u32::MAX - 2), u32::MAX - 1);
    assert_eq!(next_sequence(u32::MAX - 1), 1);
    assert_eq!(next_sequence(u32::MAX), 1);
    assert_eq!(next_sequence(1), 2);
}

#[test]
fn the_time_until_a_deadline_is_in_nanoseconds_and_never_negative() {
    let time = ReferenceTime::new(None, monotonic(0));
    assert_eq!(time.until(50, monotonic(1000)), Some(4000));
    assert_eq!(time.until(5, monotonic(1000)), Some(0));
    assert_eq!(time.until(u64::MAX, monotonic(1000)), Some(u64::MAX));
}

proptest! {
    #[test]
    fn msr_and_page_agree_to_the_tick(
        frequency in 10_000_001u64..10 * GHZ,
        start in 0u64..1 << 62,
        steps in prop::collection::vec((0u64..1 << 40, any::<bool>()), 1..20),
    ) {
        let mut time = ReferenceTime::new(Some(frequency), tsc(start));
        let (mut now, mut before) = (start, 0);
        for (step, pause) in steps {
            now += step;
            if pause {
                time.pause(tsc(now));
                now += step / 2;
                time.resume(tsc(now));
            }
            let read = time.at(tsc(now));
            prop_assert_eq!(read, by_page(time.page(), now));
            prop_assert!(read >= before);
            before = read;
        }
    }

    #[test]
    fn a_reader_with_an_older_reading_does_not_see_the_clock_step_back(readings in prop::collection::vec(0u64..1 << 40, 1..50)) {
        let time = ReferenceTime::new(Some(3 * GHZ), tsc(0));
        let mut before = 0;
        for reading in readings {
            let read = time.at(tsc(reading));
            prop_assert!(read >= before);
            before = read;
        }
    }

    #[test]
    fn the_clock_is_exact_to_a_unit_for_a_century(frequency in 10_000_001u64..10 * GHZ, seconds in 0u64..3_155_760_000) {
        if let Some(ticks) = frequency.checked_mul(seconds) {
            let time = ReferenceTime::new(Some(frequency), tsc(0));
            let exact = seconds * UNITS_PER_SECOND;
            // The scale is rounded down by less than 2^-64 of a unit a tick.
            prop_assert!(exact - time.at(tsc(ticks)) <= 1);
        }
    }
}
