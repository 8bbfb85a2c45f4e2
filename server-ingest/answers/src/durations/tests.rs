use super::*;

/// Numbers that look random and are the same in every run.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // From nanoseconds to hours.
        state >> (20 + state % 40)
    })
}

#[test]
fn percentiles_are_within_one_percent() {
    for count in [1, 2, 3, 10, 1000, 20_000] {
        let mut values: Vec<u64> = scattered(count).collect();
        let mut durations = Durations::default();
        let grown: usize = values.iter().map(|value| durations.add(*value as i64)).sum();
        assert_eq!(grown, durations.bytes());
        values.sort_unstable();
        for share in [0.0, 0.01, 0.5, 0.95, 0.99, 1.0] {
            let rank = ((count as f64 * share).ceil() as usize).clamp(1, values.len());
            let (found, wanted) = (durations.percentile(share) as f64, values[rank - 1] as f64);
            assert!((found - wanted).abs() <= wanted * 0.01, "{share} of {count}: {found}, not {wanted}");
        }
        assert_eq!(durations.max() as u64, values[values.len() - 1]);
    }
}

#[test]
fn merging_is_the_same_as_adding_everything() {
    let (mut all, mut merged) = (Durations::default(), Durations::default());
    for part in 0..5 {
        let mut of_part = Durations::default();
        for value in scattered(3000).skip(part * 600).take(600) {
            all.add(value as i64);
            of_part.add(value as i64);
        }
        merged.merge(&of_part);
        merged.merge(&Durations::default());
    }
    for share in [0.001, 0.3, 0.5, 0.9, 0.999] {
        assert_eq!(merged.percentile(share), all.percentile(share));
    }
    assert_eq!(merged.max(), all.max());
}

#[test]
fn the_ends_of_the_range_do_not_overflow() {
    let mut durations = Durations::default();
    assert_eq!((durations.percentile(0.5), durations.max()), (0, 0));
    for value in [i64::MIN, -1, 0, i64::MAX] {
        durations.add(value);
    }
    assert_eq!((durations.percentile(0.5), durations.percentile(1.0)), (0, i64::MAX));
    assert!(durations.bytes() < 20_000);
}
