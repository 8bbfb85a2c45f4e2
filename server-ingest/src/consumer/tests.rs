use super::*;

#[test]
fn a_consumer_comes_back_later_each_time_and_at_least_twice_a_minute() {
    let longest = |failures| (0..50).map(|_| back_off(failures)).max().expect("fifty");
    assert!(longest(1) <= FIRST_BACK_OFF && longest(1) >= FIRST_BACK_OFF / 2);
    assert!(longest(4) > longest(1));
    assert!(longest(u32::MAX) <= MAX_BACK_OFF && longest(u32::MAX) >= MAX_BACK_OFF / 2);
}
