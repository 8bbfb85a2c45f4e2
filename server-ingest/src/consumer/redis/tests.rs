use super::{BATCH, BATCH_BYTES, next_count};

#[test]
fn large_entries_are_fetched_one_by_one_and_small_ones_by_the_batch() {
    let after = |count, sizes: &[usize]| next_count(count, sizes.iter().copied());
    assert_eq!(after(4, &[100; 4]), 8);
    assert_eq!(after(BATCH, &[100; 64]), BATCH);
    assert_eq!(after(BATCH, &[100, BATCH_BYTES / 2]), 2);
    assert_eq!(after(BATCH, &[BATCH_BYTES * 4]), 1);
    assert_eq!(after(BATCH, &[]), 1);
}
