use super::*;

#[test]
fn moments_are_written_as_rfc_3339_with_microseconds() {
    assert_eq!(micros_text(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(micros_text(1_777_151_904_123_456), "2026-04-25T21:18:24.123456Z");
    assert_eq!(micros_text(-1), "1969-12-31T23:59:59.999999Z");
    assert_eq!(micros_text(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
    assert_eq!(nanos_text(1_777_151_904_123_456_000), "2026-04-25T21:18:24.123456Z");
    assert_eq!(nanos_text(1_777_151_904_123_456_789), "2026-04-25T21:18:24.123456789Z");
    assert_eq!(whole_seconds_text(60), "1970-01-01T00:01:00.000000Z");
}

#[test]
fn days_are_written_as_iso_dates() {
    for (days, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_568, "2026-04-25")] {
        assert_eq!(date_text(days), text);
    }
}

#[test]
fn no_number_is_too_large() {
    for extreme in [i64::MIN, i64::MAX] {
        assert!(micros_text(extreme).ends_with('Z'));
        assert!(nanos_text(extreme).ends_with('Z'));
        assert!(whole_seconds_text(extreme).ends_with('Z'));
        assert!(!date_text(extreme).is_empty());
    }
}
