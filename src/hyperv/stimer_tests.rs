use super::*;
use proptest::prelude::*;

const ENABLED: u64 = 1;
const PERIODIC: u64 = 2;
const LAZY: u64 = 4;
const AUTO: u64 = 8;
const DIRECT: u64 = 1 << 12 | 0x40 << 4;
const SINT2: u64 = 2 << 16;
const PERIOD: u64 = 10_000;

fn timer(index: u8) -> TimerIndex {
    TimerIndex::new(index).unwrap()
}

const T: TimerIndex = TimerIndex::new(0).unwrap();

fn started(config: u64, count: u64, now: u64) -> Timers {
    let mut timers = Timers::default();
    timers.set_count(T, count, now);
    timers.set_config(T, config, true, now).unwrap();
    timers
}

/// Expires and delivers the next due expiration. Returns the time when it was due.
fn fire(timers: &mut Timers, now: u64) -> Option<u64> {
    let expiration = timers.expire(now)?;
    timers.delivered(expiration.timer, now);
    Some(expiration.nominal)
}

#[test]
fn a_one_shot_timer_expires_at_its_count_once_and_is_disabled_then() {
    let mut timers = started(ENABLED | SINT2, 500, 100);
    assert_eq!(timers.next_deadline(), Some(500));
    assert_eq!(fire(&mut timers, 499), None, "never before its time");
    assert_eq!(fire(&mut timers, 507), Some(500));
    assert_eq!(timers.config(T), SINT2);
    assert_eq!(timers.count(T), 500);
    assert_eq!((timers.next_deadline(), fire(&mut timers, 10_000)), (None, None));
}

#[test]
fn a_one_shot_timer_whose_count_is_past_expires_at_once() {
    let mut timers = started(ENABLED | SINT2, 500, 9000);
    assert_eq!(fire(&mut timers, 9000), Some(500));
}

#[test]
fn a_periodic_timer_expires_at_multiples_of_its_period_however_late_each_expiration_is() {
    let mut timers = started(ENABLED | PERIODIC | SINT2, PERIOD, 123);
    for (turn, lateness) in (1..1000).zip([0, 7, 4999, 9999, 1].into_iter().cycle()) {
        let nominal = 123 + turn * PERIOD;
        assert_eq!(timers.next_deadline(), Some(nominal));
        assert_eq!(fire(&mut timers, nominal + lateness), Some(nominal));
    }
}

#[test]
fn a_timer_with_auto_enable_starts_with_its_count() {
    let mut timers = Timers::default();
    timers.set_config(T, AUTO | SINT2, true, 0).unwrap();
    assert_eq!(timers.next_deadline(), None);
    timers.set_count(T, 700, 0);
    assert_eq!((timers.next_deadline(), timers.config(T)), (Some(700), AUTO | SINT2 | ENABLED));
    assert_eq!(fire(&mut timers, 700), Some(700));
    assert_eq!(timers.config(T), AUTO | SINT2);
    timers.set_count(T, 900, 700);
    assert_eq!(timers.next_deadline(), Some(900));
}

#[test]
fn a_timer_without_auto_enable_does_not() {
    let mut timers = Timers::default();
    timers.set_config(T, SINT2, true, 0).unwrap();
    timers.set_count(T, 700, 0);
    assert_eq!((timers.next_deadline(), timers.config(T)), (None, SINT2));
}

#[test]
fn an_enabled_timer_without_a_count_starts_when_it_gets_one() {
    let mut timers = Timers::default();
    timers.set_config(T, ENABLED | SINT2, true, 0).unwrap();
    assert_eq!(timers.next_deadline(), None);
    timers.set_count(T, 700, 0);
    assert_eq!(timers.next_deadline(), Some(700));
}

#[test]
fn a_count_of_zero_disables_whatever_auto_enable_says() {
    for auto in [0, AUTO] {
        let mut timers = started(ENABLED | PERIODIC | auto | SINT2, PERIOD, 0);
        timers.set_count(T, 0, 10);
        assert_eq!((timers.next_deadline(), timers.config(T)), (None, PERIODIC | auto | SINT2));
    }
}

#[test]
fn an_enabled_timer_may_not_name_sint_0_for_its_message() {
    assert_eq!(started(ENABLED, 700, 0).config(T), 0);
    assert_eq!(started(ENABLED | DIRECT, 700, 0).config(T), ENABLED | DIRECT);
    let mut timers = Timers::default();
    timers.set_config(T, AUTO, true, 0).unwrap();
    timers.set_count(T, 700, 0);
    assert_eq!((timers.config(T), timers.next_deadline()), (AUTO, None));
}

#[test]
fn reserved_bits_and_vectors_that_no_interrupt_has_are_refused() {
    let mut timers = Timers::default();
    for bit in (13..16).chain(20..64) {
        assert_eq!(timers.set_config(T, 1 << bit, true, 0), Err(GP), "bit {bit}");
    }
    assert_eq!(timers.set_config(T, 1 << 12 | 15 << 4 | ENABLED, true, 0), Err(GP));
    assert_eq!(timers.set_config(T, 1 << 12 | 15 << 4, true, 0), Ok(()));
    assert_eq!(timers.set_config(T, DIRECT, false, 0), Err(GP), "direct mode is not offered");
}

#[test]
fn the_earliest_timer_sets_the_deadline() {
    let mut timers = Timers::default();
    for (index, count) in [700, 300, 500, 900].into_iter().enumerate() {
        let timer = timer(index as u8);
        timers.set_config(timer, AUTO | SINT2, true, 0).unwrap();
        timers.set_count(timer, count, 0);
    }
    let order: Vec<_> = std::iter::from_fn(|| {
        let deadline = timers.next_deadline()?;
        let expiration = timers.expire(deadline)?;
        timers.delivered(expiration.timer, deadline);
        Some(expiration.timer.get())
    })
    .collect();
    assert_eq!(order, [1, 2, 0, 3]);
}

#[test]
fn periodic_timers_that_expire_shortly_after_each_other_share_a_deadline() {
    let mut timers = Timers::default();
    for (index, start) in [(0, 0), (1, 500), (2, 2000)] {
        timers.set_count(timer(index), PERIOD, start);
        timers.set_config(timer(index), ENABLED | PERIODIC | SINT2, true, start).unwrap();
    }
    assert_eq!(timers.next_deadline(), Some(PERIOD + 500));
    let due: Vec<_> = std::iter::from_fn(|| {
        let expiration = timers.expire(PERIOD + 500)?;
        timers.delivered(expiration.timer, PERIOD + 500);
        Some(expiration.nominal)
    })
    .collect();
    assert_eq!(due, [PERIOD, PERIOD + 500]);
    assert_eq!(timers.next_deadline(), Some(PERIOD + 2000), "a timer that is further away expires alone");
}

#[test]
fn a_one_shot_timer_never_waits_for_others() {
    let mut timers = started(ENABLED | PERIODIC | SINT2, PERIOD, 0);
    for (index, time) in [(1, PERIOD + 100), (2, PERIOD + 200)] {
        timers.set_count(timer(index), time, 0);
        timers.set_config(timer(index), ENABLED | SINT2, true, 0).unwrap();
    }
    assert_eq!(timers.next_deadline(), Some(PERIOD + 100));
}

#[test]
fn a_timer_whose_message_waits_has_no_deadline_and_makes_no_second_message() {
    let mut timers = started(ENABLED | PERIODIC | SINT2, PERIOD, 0);
    assert!(timers.expire(PERIOD).is_some());
    assert_eq!(timers.next_deadline(), None);
    assert_eq!(timers.expire(PERIOD * 50), None);
    assert_eq!(timers.undelivered().map(|late| late.nominal).collect::<Vec<_>>(), [PERIOD]);
    timers.delivered(T, PERIOD + 5);
    assert_eq!(timers.next_deadline(), Some(2 * PERIOD));
}

#[test]
fn writing_a_timer_discards_its_undelivered_message() {
    let rewrites: [fn(&mut Timers); 2] =
        [|timers| timers.set_count(T, 9000, 800), |timers| timers.set_config(T, 0, true, 800).unwrap()];
    for rewrite in rewrites {
        let mut timers = started(ENABLED | AUTO | SINT2, 500, 0);
        assert!(timers.expire(500).is_some());
        rewrite(&mut timers);
        assert_eq!(timers.undelivered().count(), 0);
    }
}

#[test]
fn a_timer_that_missed_some_expirations_makes_up_for_them_at_half_its_period() {
    let mut timers = started(ENABLED | PERIODIC | SINT2, PERIOD, 0);
    let mut now = 4 * PERIOD;
    let mut fired = Vec::new();
    while now < 20 * PERIOD {
        fired.push(fire(&mut timers, now).unwrap());
        let next = timers.next_deadline().unwrap();
        assert!(next - now >= PERIOD / 2);
        now = next;
    }
    assert_eq!(fired, (1..20).map(|turn| turn * PERIOD).collect::<Vec<_>>(), "all are made up for, in order");
}

#[test]
fn a_guest_that_handles_expirations_slowly_executes_other_code_too() {
    let period = MIN_PERIOD + 50;
    let mut timers = started(ENABLED | PERIODIC | SINT2, period, 0);
    // The guest did not run for a while. Its handler takes longer than half the period, but not the whole period.
    let handling = 60 * period / 100;
    let (mut now, begin, mut handled) = (90 * period, 90 * period, 0);
    while now < begin + 1000 * period {
        fire(&mut timers, now).unwrap();
        handled += handling;
        now = timers.next_deadline().unwrap().max(now + handling);
    }
    assert!(handled < (now - begin) * 7 / 10, "{handled} of {}", now - begin);
}

#[test]
fn a_timer_that_missed_many_expirations_makes_up_for_the_last_few_only() {
    let mut timers = started(ENABLED | PERIODIC | SINT2, PERIOD, 0);
    let now = 1_000_000 * PERIOD;
    assert_eq!(fire(&mut timers, now), Some(PERIOD));
    assert_eq!(fire(&mut timers, now + PERIOD / 2), Some((1_000_000 - MAX_CATCH_UP + 1) * PERIOD));
}

#[test]
fn a_lazy_timer_skips_missed_expirations() {
    let mut timers = started(ENABLED | PERIODIC | LAZY | SINT2, PERIOD, 0);
    assert_eq!(fire(&mut timers, 4 * PERIOD + 3), Some(PERIOD));
    assert_eq!(timers.next_deadline(), Some(5 * PERIOD));
}

#[test]
fn a_lazy_timers_late_message_is_skipped_if_the_next_is_almost_due() {
    for (now, skipped) in [(PERIOD + 10, false), (2 * PERIOD - PERIOD / 4, true), (3 * PERIOD + 10, false)] {
        let mut timers = started(ENABLED | PERIODIC | LAZY | SINT2, PERIOD, 0);
        timers.expire(PERIOD);
        assert_eq!(timers.skip_if_stale(T, now), skipped, "{now}");
        assert_eq!(timers.next_deadline(), skipped.then_some(2 * PERIOD));
    }
    let mut eager = started(ENABLED | PERIODIC | SINT2, PERIOD, 0);
    eager.expire(PERIOD);
    assert!(!eager.skip_if_stale(T, 2 * PERIOD - 1));
}

#[test]
fn a_period_below_100_microseconds_is_stretched_but_reads_back_as_written() {
    let timers = started(ENABLED | PERIODIC | SINT2, 1, 0);
    assert_eq!((timers.count(T), timers.next_deadline()), (1, Some(MIN_PERIOD)));
}

#[test]
fn times_near_the_maximum_do_not_overflow() {
    let mut timers = started(ENABLED | PERIODIC | SINT2, u64::MAX, u64::MAX - 5);
    assert_eq!(fire(&mut timers, u64::MAX), Some(u64::MAX));
    assert_eq!(timers.next_deadline(), Some(u64::MAX));
}

#[derive(Clone, Debug)]
enum Step {
    Config(u64),
    Count(u64),
    Wait(u64),
    /// From now on, deliveries fail or succeed.
    Slot(bool),
}

proptest! {
    /// At a deadline something is due, and nothing is later than its slack.
    #[test]
    fn no_timer_waits_for_others_longer_than_its_slack(
        settings in prop::collection::vec((any::<bool>(), MIN_PERIOD..50_000, 0u64..50_000), 4)
    ) {
        let mut timers = Timers::default();
        for (index, (periodic, count, start)) in settings.into_iter().enumerate() {
            let kind = if periodic { PERIODIC } else { 0 };
            timers.set_count(timer(index as u8), if periodic { count } else { start + count }, start);
            timers.set_config(timer(index as u8), ENABLED | kind | SINT2, true, start).unwrap();
        }
        for _ in 0..50 {
            let Some(now) = timers.next_deadline() else { break };
            let mut count = 0;
            while let Some(Expiration { timer, nominal, config }) = timers.expire(now) {
                let slack = if config.periodic() { (timers.count(timer) / 16).min(1000) } else { 0 };
                prop_assert!((nominal..=nominal + slack).contains(&now));
                timers.delivered(timer, now);
                count += 1;
            }
            prop_assert!(count > 0);
        }
    }

    /// The model of a lazy timer: of the multiples of the period that have passed since the last call, only the first expires.
    #[test]
    fn a_late_lazy_timer_expires_once_for_all_periods_that_it_missed(
        start in 0u64..1 << 40, period in MIN_PERIOD..50_000, waits in prop::collection::vec(0u64..200_000, 1..60),
    ) {
        let mut timers = started(ENABLED | PERIODIC | LAZY | SINT2, period, start);
        let (mut now, mut seen) = (start, start);
        for wait in waits {
            now += wait;
            let passed: Vec<u64> = (seen / period..).map(|n| start % period + n * period).filter(|point| *point > seen).take_while(|point| *point <= now).collect();
            prop_assert_eq!(fire(&mut timers, now), passed.first().copied());
            prop_assert_eq!(timers.expire(now), None);
            seen = now;
        }
    }

    /// The model of a timer that is not lazy and is called at its deadlines: it expires once at every multiple of the period, in order.
    #[test]
    fn a_timer_that_is_not_lazy_makes_up_for_short_delays(
        period in MIN_PERIOD..50_000, lateness in prop::collection::vec(0u64..100_000, 1..60),
    ) {
        let mut timers = started(ENABLED | PERIODIC | SINT2, period, 0);
        let mut now = 0;
        for (turn, late) in (1..).zip(lateness) {
            now = timers.next_deadline().unwrap().max(now) + late.min(period * MAX_CATCH_UP / 60);
            prop_assert_eq!(fire(&mut timers, now), Some(turn * period));
        }
    }

    /// Properties of all timers, for any writes of a guest and any delays of the host.
    #[test]
    fn no_timer_expires_early_or_twice_at_one_time_or_more_often_than_every_half_period(
        steps in prop::collection::vec(prop_oneof![
            (0u64..16, any::<bool>()).prop_map(|(low, direct)| Step::Config(low | SINT2 | if direct { DIRECT } else { 0 })),
            (0u64..40_000).prop_map(Step::Count),
            (0u64..90_000).prop_map(Step::Wait),
            any::<bool>().prop_map(Step::Slot),
        ], 1..80)
    ) {
        let mut timers = Timers::default();
        let (mut now, mut free) = (1, true);
        let (mut last_nominal, mut last_fire) = (None::<u64>, None::<u64>);
        for step in steps {
            match step {
                Step::Config(config) => {
                    timers.set_config(T, config, true, now).unwrap();
                    (last_nominal, last_fire) = (None, None);
                }
                Step::Count(count) => {
                    timers.set_count(T, count, now);
                    (last_nominal, last_fire) = (None, None);
                }
                Step::Wait(time) => now += time,
                Step::Slot(is_free) => {
                    free = is_free;
                    if free && timers.undelivered().next().is_some() && !timers.skip_if_stale(T, now) {
                        timers.delivered(T, now);
                        last_fire = Some(now);
                    }
                }
            }
            prop_assert!(timers.config(T) & ENABLED == 0 || timers.count(T) != 0 || timers.next_deadline().is_none());
            let mut turns = 0;
            while let Some(expiration) = timers.expire(now) {
                turns += 1;
                prop_assert!(turns <= 1, "an expired timer is not due again at the same time");
                prop_assert!(expiration.nominal <= now);
                let period = timers.count(T).max(MIN_PERIOD);
                if expiration.config.periodic() {
                    if let Some(before) = last_nominal {
                        prop_assert!(expiration.nominal > before && (expiration.nominal - before) % period == 0, "off the grid");
                    }
                    if let Some(before) = last_fire {
                        prop_assert!(now - before >= 1);
                    }
                    last_nominal = Some(expiration.nominal);
                } else {
                    prop_assert_eq!(timers.config(T) & ENABLED, 0);
                }
                if free || expiration.config.direct() {
                    timers.delivered(T, now);
                    last_fire = Some(now);
                    if let (Some(next), true) = (timers.next_deadline(), expiration.config.periodic()) {
                        prop_assert!(next > now);
                        let catching_up = expiration.nominal + period <= now;
                        if catching_up && !expiration.config.lazy() {
                            let is_short = period < 2 * MIN_PERIOD;
                            let is_right = if is_short { next >= now + MIN_PERIOD / 2 } else { next == now + period / 2 };
                            prop_assert!(is_right);
                        }
                    }
                }
            }
        }
    }
}
