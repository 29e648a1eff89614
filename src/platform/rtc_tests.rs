use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 2024-02-29 (a Thursday) 23:59:58 UTC.
const LEAP_DAY: u64 = 1_709_251_198;

/// An RTC, and its host's time in nanoseconds.
struct Bench {
    rtc: Rtc,
    now: Arc<AtomicU64>,
}

impl Bench {
    fn new(second: u64) -> Self {
        let now = Arc::new(AtomicU64::new(second * 1_000_000_000));
        let utc = now.clone();
        Self { rtc: Rtc::new(Box::new(move || Duration::from_nanos(utc.load(Ordering::Relaxed))), 64 << 20), now }
    }

    fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }

    fn get(&mut self, register: u8) -> u8 {
        let mut data = [0];
        self.rtc.write(0, &[register]);
        self.rtc.read(1, &mut data);
        data[0]
    }

    fn set(&mut self, register: u8, value: u8) {
        assert_eq!(self.rtc.write(0, &[register, value]), None);
    }

    /// Century, year, month, day, day of the week, hours, minutes, seconds.
    fn time(&mut self) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS].map(|register| self.get(register))
    }

    fn set_time(&mut self, time: [u8; 8]) {
        let registers = [CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS];
        registers.into_iter().zip(time).for_each(|(register, value)| self.set(register, value));
    }
}

#[test]
fn the_time_is_shown_in_each_of_the_four_formats() {
    let mut bench = Bench::new(LEAP_DAY);
    assert_eq!(bench.get(REGISTER_B), HOURS_24, "BCD and 24 hours are the start");
    assert_eq!(bench.time(), [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x58]);
    bench.set(REGISTER_B, 0);
    assert_eq!(bench.time(), [0x20, 0x24, 0x02, 0x29, 5, 0x91, 0x59, 0x58]);
    bench.set(REGISTER_B, DATA_MODE_BINARY);
    assert_eq!(bench.time(), [20, 24, 2, 29, 5, 0x8b, 59, 58]);
    bench.set(REGISTER_B, DATA_MODE_BINARY | HOURS_24);
    assert_eq!(bench.time(), [20, 24, 2, 29, 5, 23, 59, 58]);
    bench.advance(Duration::from_secs(2));
    assert_eq!(bench.time(), [20, 24, 3, 1, 6, 0, 0, 0]);
}

#[test]
fn in_twelve_hour_mode_midnight_and_noon_are_twelve() {
    let mut bench = Bench::new(LEAP_DAY + 2);
    bench.set(REGISTER_B, 0);
    let shown = (0..24).map(|_| {
        let hours = bench.get(HOURS);
        bench.advance(Duration::from_secs(3600));
        hours
    });
    let morning = [0x12, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x11];
    let expected: Vec<u8> = morning.into_iter().chain(morning.map(|hour| hour | PM)).collect();
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn the_set_bit_stops_the_registers_and_clears_the_update_interrupt() {
    let mut bench = Bench::new(LEAP_DAY);
    bench.set(REGISTER_B, HOURS_24 | SET | UIE);
    assert_eq!(bench.get(REGISTER_B), HOURS_24 | SET);
    bench.advance(Duration::from_secs(100));
    assert_eq!(bench.get(SECONDS), 0x58);
    assert_eq!(bench.get(REGISTER_C) & UF, 0);
    bench.advance(Duration::from_nanos(999_900_000));
    assert_eq!(bench.get(REGISTER_A) & UIP, 0);
    bench.set(REGISTER_B, HOURS_24);
    assert_eq!(bench.get(SECONDS), 0x58, "the clock goes on from where it stood");
}

#[test]
fn a_single_register_can_be_set_while_the_clock_runs() {
    let mut bench = Bench::new(LEAP_DAY);
    bench.set(MINUTES, 0x07);
    bench.set(YEAR, 0x30);
    assert_eq!(bench.time(), [0x20, 0x30, 0x03, 0x01, 5, 0x23, 0x07, 0x58], "2030 has no 29 February");
    bench.advance(Duration::from_secs(3));
    assert_eq!(bench.get(MINUTES), 0x08);
}

#[test]
fn after_a_divider_reset_the_first_second_takes_half_a_second() {
    let mut bench = Bench::new(LEAP_DAY);
    bench.advance(Duration::from_millis(123));
    // The steps of Linux's mc146818_set_time.
    bench.set(REGISTER_B, HOURS_24 | SET);
    bench.set(REGISTER_A, 0x70);
    bench.set_time([0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
    bench.set(REGISTER_B, HOURS_24);
    bench.set(REGISTER_A, REGISTER_A_START);
    bench.advance(Duration::from_millis(499));
    assert_eq!(bench.get(SECONDS), 0x59);
    bench.advance(Duration::from_millis(2));
    assert_eq!(bench.time(), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
}

#[test]
fn an_update_is_announced_for_its_last_244_microseconds_only() {
    let mut bench = Bench::new(LEAP_DAY);
    assert_eq!(bench.get(REGISTER_A), REGISTER_A_START);
    bench.advance(Duration::from_nanos(999_755_000));
    assert_eq!(bench.get(REGISTER_A) & UIP, 0);
    bench.advance(Duration::from_nanos(2_000));
    assert_eq!((bench.get(REGISTER_A), bench.get(SECONDS)), (REGISTER_A_START | UIP, 0x58));
    bench.advance(Duration::from_nanos(243_000));
    assert_eq!((bench.get(REGISTER_A), bench.get(SECONDS)), (REGISTER_A_START, 0x59));
}

#[test]
fn reading_the_update_flag_clears_it_until_the_next_second() {
    let mut bench = Bench::new(LEAP_DAY - 100);
    bench.set(REGISTER_A, REGISTER_A_START & !RATE);
    assert_eq!(bench.get(REGISTER_C), 0);
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.get(REGISTER_C), UF);
    assert_eq!(bench.get(REGISTER_C), 0);
    bench.set(REGISTER_B, HOURS_24 | UIE);
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.get(REGISTER_C), IRQF | UF);
}

#[test]
fn the_periodic_flag_follows_the_rate() {
    let mut bench = Bench::new(LEAP_DAY);
    for (selection, period) in [(1, 3_906_250), (2, 7_812_500), (3, 122_070), (6, 976_563), (15, 500_000_000)] {
        bench.set(REGISTER_A, 0x20 | selection);
        bench.now.store(LEAP_DAY * 1_000_000_000, Ordering::Relaxed);
        bench.get(REGISTER_C);
        bench.advance(Duration::from_nanos(period - 1000));
        assert_eq!(bench.get(REGISTER_C) & PF, 0, "rate {selection}");
        bench.advance(Duration::from_nanos(1002));
        assert_eq!(bench.get(REGISTER_C) & PF, PF, "rate {selection}");
    }
}

#[test]
fn the_alarm_flag_is_set_at_the_time_of_the_alarm_and_for_wildcards() {
    let mut bench = Bench::new(LEAP_DAY);
    bench.set(SECONDS_ALARM, 0x30);
    bench.set(MINUTES_ALARM, 0x00);
    bench.set(HOURS_ALARM, 0x00);
    bench.get(REGISTER_C);
    bench.advance(Duration::from_secs(31));
    assert_eq!(bench.get(REGISTER_C) & AF, 0);
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.get(REGISTER_C) & AF, AF);
    bench.advance(Duration::from_secs(3600));
    assert_eq!(bench.get(REGISTER_C) & AF, 0);
    bench.set(HOURS_ALARM, 0xff);
    bench.advance(Duration::from_secs(3600));
    assert_eq!(bench.get(REGISTER_C) & AF, AF);
    bench.advance(Duration::from_secs(3_000_000_000));
    assert_eq!(bench.get(REGISTER_C) & AF, AF);
}

#[test]
fn other_registers_are_memory_and_the_nmi_bit_is_not_part_of_the_index() {
    let mut bench = Bench::new(LEAP_DAY);
    bench.set(0x0f | 0x80, 0x0a);
    assert_eq!(bench.get(0x0f), 0x0a);
    bench.set(0x7f, 1);
    assert_eq!((bench.get(0x7f), bench.get(0xff)), (1, 1));
    bench.set(REGISTER_D, 0);
    assert_eq!(bench.get(REGISTER_D), VRT);
    let mut index = [0];
    bench.rtc.read(0, &mut index);
    assert_eq!(index, [0xff]);
}

proptest! {
    /// Any valid time, in any format, can be read back and advances as in the calendar.
    #[test]
    fn a_time_that_was_set_reads_back_and_advances(
        second in 0i64..8_000 * 365 * 86400,
        weekday in 1u8..=7,
        format in 0u8..4,
        phase in 0u64..1_000_000_000,
        days in 0i64..3,
        seconds in 0i64..86400,
    ) {
        let mut bench = Bench::new(LEAP_DAY);
        bench.advance(Duration::from_nanos(phase));
        let format = format * HOURS_24;
        let shown = |bench: &Bench, moment: &Moment| {
            [CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS]
                .map(|register| bench.rtc.encode(register, moment))
        };
        bench.set(REGISTER_B, SET | format);
        let time = shown(&bench, &Moment { weekday, ..Moment::at(second) });
        bench.set_time(time);
        prop_assert_eq!(bench.time(), time);
        bench.set(REGISTER_B, format);
        prop_assert_eq!(bench.time(), time);

        let later = days * 86400 + seconds;
        bench.advance(Duration::from_secs(later as u64));
        let midnights = (second + later).div_euclid(86400) - second.div_euclid(86400);
        let weekday = ((i64::from(weekday) - 1 + midnights) % 7 + 1) as u8;
        prop_assert_eq!(bench.time(), shown(&bench, &Moment { weekday, ..Moment::at(second + later) }));
        let to_next = 1_000_000_000 - phase;
        bench.advance(Duration::from_nanos(to_next));
        prop_assert_eq!(bench.time()[7], shown(&bench, &Moment::at(second + later + 1))[7]);
    }

    /// No sequence of writes panics, at any times.
    #[test]
    fn any_writes_are_accepted_without_panic(writes in prop::collection::vec((any::<u8>(), any::<u8>(), 0u32..30_000_000), 0..100)) {
        let mut bench = Bench::new(LEAP_DAY);
        for (register, value, microseconds) in writes {
            bench.set(register & 0x3f, value);
            bench.advance(Duration::from_micros(microseconds.into()));
            bench.time();
            bench.get(REGISTER_C);
        }
    }
}
