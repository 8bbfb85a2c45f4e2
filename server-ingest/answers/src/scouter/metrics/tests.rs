use super::*;

/// 2026-04-25T21:18:24.123456789Z, a Saturday.
const MOMENT: i64 = 1_777_151_904_123_456_789;

#[test]
fn intervals_are_as_long_as_they_say() {
    for (text, expected) in [
        ("second", Some("2026-04-25T21:18:24.000000Z")),
        ("5 minutes", Some("2026-04-25T21:15:00.000000Z")),
        ("minute", Some("2026-04-25T21:18:00.000000Z")),
        ("1 hour", Some("2026-04-25T21:00:00.000000Z")),
        ("2 HOURS", Some("2026-04-25T20:00:00.000000Z")),
        ("day", Some("2026-04-25T00:00:00.000000Z")),
        ("1 week", Some("2026-04-20T00:00:00.000000Z")),
        ("month", Some("2026-04-01T00:00:00.000000Z")),
        ("3 months", Some("2026-04-01T00:00:00.000000Z")),
        ("year", Some("2026-01-01T00:00:00.000000Z")),
        ("0 minutes", None),
        ("5 5 minutes", None),
        ("fortnight", None),
        ("", None),
        ("9999999999999 years", None),
    ] {
        let start = Interval::read(text).map(|interval| micros_text(interval.start_of(MOMENT).div_euclid(1000)));
        assert_eq!(start.as_deref(), expected, "{text}");
    }
}
