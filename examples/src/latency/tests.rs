use std::time::Duration;

use super::Histogram;

#[test]
fn quantiles_are_within_three_percent() {
    let mut histogram = Histogram::default();
    for micros in 1..=100_000 {
        histogram.record(Duration::from_micros(micros));
    }
    for (quantile, expected_ms) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
        let measured = histogram.quantile_ms(quantile);
        assert!(
            (measured - expected_ms).abs() <= expected_ms * 0.032,
            "quantile {quantile}: {measured} ms, expected about {expected_ms} ms"
        );
    }
}

#[test]
fn an_empty_histogram_and_a_huge_duration_are_fine() {
    let mut histogram = Histogram::default();
    assert_eq!(histogram.quantile_ms(0.5), 0.0);
    histogram.record(Duration::MAX);
    assert!(histogram.quantile_ms(0.5) > 0.0);
}

#[test]
fn merging_adds_the_counts() {
    let (mut left, mut right) = (Histogram::default(), Histogram::default());
    left.record(Duration::from_millis(1));
    right.record(Duration::from_millis(9));
    left.merge(&right);
    assert!(left.quantile_ms(0.5) < 1.1);
    assert!(left.quantile_ms(1.0) > 8.9);
}
