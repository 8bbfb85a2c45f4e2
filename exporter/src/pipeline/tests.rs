use std::time::Duration;

use super::delivery::back_off;

#[test]
fn c_35_back_off_doubles_up_to_a_limit_and_has_jitter() {
    for (failures, middle) in [(0, 200), (1, 400), (5, 6400), (6, 10_000), (40, 10_000), (u32::MAX, 10_000)] {
        let delays: Vec<Duration> = (0..100).map(|_| back_off(failures)).collect();
        let (low, high) = (Duration::from_millis(middle / 2), Duration::from_millis(middle * 3 / 2));
        assert!(delays.iter().all(|delay| (low..=high).contains(delay)), "{failures}: {delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]), "{failures}: no jitter");
    }
}
