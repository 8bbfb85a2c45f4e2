use super::*;

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    Parameters::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), 1_000_000 * SECOND)
}

#[test]
fn moments_are_read_in_three_ways() {
    for (text, expected) in [
        ("now", Some(1_000_000 * SECOND)),
        ("now-15m", Some((1_000_000 - 900) * SECOND)),
        ("now-1.5h", Some((1_000_000 - 5400) * SECOND)),
        ("now 1s", Some(1_000_001 * SECOND)),
        ("1777151904123456789", Some(1_777_151_904_123_456_789)),
        ("-5", Some(-5)),
        ("1970-01-01T00:00:01.000000001Z", Some(SECOND + 1)),
        ("1970-01-01T02:00:00+02:00", Some(0)),
        ("1970-01-01T02:00:00 02:00", Some(0)),
        ("now-", None),
        ("yesterday", None),
        ("", None),
        ("now-292000000d", None),
    ] {
        assert_eq!(moment(text, 1_000_000 * SECOND), expected, "{text}");
    }
}

#[test]
fn durations_have_units() {
    for (text, expected) in [
        ("10ms", Some(10_000_000)),
        ("1.5s", Some(1_500_000_000)),
        ("250us", Some(250_000)),
        ("3µs", Some(3000)),
        ("7ns", Some(7)),
        ("7", Some(7)),
        ("2m", Some(120 * SECOND)),
        ("1d", Some(86_400 * SECOND)),
        ("ten", None),
        ("inf", None),
        ("1e400s", None),
        ("9223372036854775807d", None),
        ("", None),
        ("s", None),
    ] {
        assert_eq!(duration(text), expected, "{text}");
    }
}

#[test]
fn what_nobody_reads_is_refused_by_name() {
    let mut given = parameters(&[("start", "now-1h"), ("services", "a")]);
    given.moment("start").unwrap();
    let refusal = given.end(&["start", "service"]).unwrap_err();
    assert_eq!(refusal.to_string(), "there is no parameter \"services\" here");
    assert_eq!(refusal.suggested_action(), "the parameters are start, service");
    assert!(parameters(&[("limit", "0")]).count("limit", 5, 10).is_err());
    assert!(parameters(&[("limit", "3"), ("limit", "3")]).count("limit", 5, 10).is_err());
    assert!(parameters(&[("root", "yes")]).flag("root").is_err());
}

#[test]
fn a_fingerprint_is_of_the_question_and_not_of_the_page() {
    let one = parameters(&[("service", "a"), ("attr", "b=c"), ("cursor", "x"), ("limit", "3")]);
    let same = parameters(&[("attr", "b=c"), ("service", "a")]);
    let other = parameters(&[("attr", "b=cservice"), ("", "a")]);
    assert_eq!(one.fingerprint(), same.fingerprint());
    assert_ne!(one.fingerprint(), other.fingerprint());
}
