use super::*;

/// Returns the day after a date.
fn next_day((year, month, day): (i64, u8, u8)) -> (i64, u8, u8) {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    match (month, day) {
        (12, 31) => (year + 1, 1, 1),
        (_, last) if last == length => (year, month + 1, 1),
        _ => (year, month, day + 1),
    }
}

#[test]
fn every_day_of_a_thousand_years_has_the_right_date() {
    let mut date = (1970, 1, 1);
    for day in 0..1000 * 366 {
        let moment = Moment::at(day * SECONDS_PER_DAY);
        assert_eq!((moment.year, moment.month, moment.day), date);
        assert_eq!(i64::from(moment.weekday), (day + 4) % 7 + 1);
        let (year, month, of_month) = (date.0, i64::from(date.1), i64::from(date.2));
        assert_eq!(seconds_from_epoch(year, month, of_month, 0, 0, 0), day * SECONDS_PER_DAY);
        date = next_day(date);
    }
}

#[test]
fn known_moments_are_converted() {
    let moment = Moment { year: 2000, month: 2, day: 29, hour: 23, minute: 59, second: 58, weekday: 3 };
    assert_eq!(Moment::at(951_868_798), moment);
    assert_eq!(Moment::at(-1).year, 1969);
    assert_eq!(seconds_from_epoch(0, 3, 1, 0, 0, 0), -EPOCH * SECONDS_PER_DAY);
    assert_eq!(Moment::at(-EPOCH * SECONDS_PER_DAY - 1), {
        Moment { year: 0, month: 2, day: 29, hour: 23, minute: 59, second: 59, weekday: 3 }
    });
}

#[test]
fn fields_out_of_range_carry_into_the_next() {
    assert_eq!(seconds_from_epoch(2023, 2, 31, 0, 0, 0), seconds_from_epoch(2023, 3, 3, 0, 0, 0));
    assert_eq!(seconds_from_epoch(2023, 0, 1, 0, 0, 0), seconds_from_epoch(2022, 12, 1, 0, 0, 0));
    assert_eq!(seconds_from_epoch(2023, 12, 31, 24, 60, 60), seconds_from_epoch(2024, 1, 1, 1, 1, 0));
}
