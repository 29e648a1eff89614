//! The Gregorian calendar, extended without limit in both directions.

/// A second in the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// 1, Sunday, to 7.
    pub weekday: u8,
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
const DAYS_PER_400_YEARS: i64 = 400 * 365 + 97;
/// Days from 1 March of the year 0 to the Unix epoch.
const EPOCH: i64 = 719_468;
/// Days before the month's first in a year that begins in March, whose leap day is its last.
const DAYS_BEFORE: [i64; 12] = [0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337];

impl Moment {
    /// Returns the moment `seconds` after the Unix epoch.
    pub fn at(seconds: i64) -> Self {
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let since_march = days + EPOCH;
        let cycle = since_march.div_euclid(DAYS_PER_400_YEARS);
        let of_cycle = since_march.rem_euclid(DAYS_PER_400_YEARS);
        // Years end with their leap day, if they have one, so the leap days are removed to find the year.
        let of_years = of_cycle - of_cycle / 1460 + of_cycle / 36524 - of_cycle / 146_096;
        let year = of_years / 365;
        let of_year = of_cycle - (365 * year + year / 4 - year / 100);
        let month = DAYS_BEFORE.partition_point(|before| *before <= of_year) as i64 - 1;
        Self {
            year: cycle * 400 + year + month / 10,
            month: ((month + 2) % 12 + 1) as u8,
            day: (of_year - DAYS_BEFORE[month as usize] + 1) as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
        }
    }
}

/// Returns the seconds from the Unix epoch to a moment. A field that is out of range carries into the next larger one.
pub(super) fn seconds_from_epoch(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> i64 {
    // Months since March of the year 0.
    let months = year * 12 + month - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leap_days + DAYS_BEFORE[month as usize] + day - 1 - EPOCH;
    days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
