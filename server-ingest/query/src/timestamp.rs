//! Moments as RFC 3339 text and days as ISO dates, UTC, for every `i64`.

#[cfg(test)]
mod tests;

use std::fmt::Write;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Microseconds since 1970 as `2026-01-02T03:04:05.000006Z`.
pub fn micros_text(micros: i64) -> String {
    let mut text = seconds_text(micros.div_euclid(MICROS_PER_SECOND));
    write!(text, ".{:06}Z", micros.rem_euclid(MICROS_PER_SECOND)).expect("writing to a string");
    text
}

/// Nanoseconds since 1970; nine digits only where the last three say something.
pub(crate) fn nanos_text(nanos: i64) -> String {
    if nanos % 1000 == 0 {
        return micros_text(nanos.div_euclid(1000));
    }
    let mut text = seconds_text(nanos.div_euclid(1_000_000_000));
    write!(text, ".{:09}Z", nanos.rem_euclid(1_000_000_000)).expect("writing to a string");
    text
}

/// Days since 1970 as `2026-01-02`.
pub(crate) fn date_text(days: i64) -> String {
    let mut text = String::with_capacity(32);
    push_date(&mut text, days);
    text
}

/// `2026-01-02T03:04:05`, with room for a fraction.
fn seconds_text(seconds: i64) -> String {
    let mut text = String::with_capacity(32);
    push_date(&mut text, seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    write!(text, "T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60).expect("writing to a string");
    text
}

/// Seconds since 1970 as `2026-01-02T03:04:05.000000Z`.
pub(crate) fn whole_seconds_text(seconds: i64) -> String {
    seconds_text(seconds) + ".000000Z"
}

/// The proleptic Gregorian date of a day number, by Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn push_date(text: &mut String, days: i64) {
    let shifted = i128::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let sign = if (0..=9999).contains(&year) {
        ""
    } else if year < 0 {
        "-"
    } else {
        "+"
    };
    write!(text, "{sign}{:04}-{month:02}-{day:02}", year.abs()).expect("writing to a string");
}
