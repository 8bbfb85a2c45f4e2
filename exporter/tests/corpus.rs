//! The kept corpus of the fuzz target, and random input beside it, through the function the fuzz target runs.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/plain_values.rs"]
mod plain_values;

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

#[test]
fn the_kept_corpus_is_written_as_it_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/span");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        plain_values::check(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 8, "the corpus is gone: {files} files");
}

#[test]
fn random_values_are_written_as_they_are_read() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..5_000 {
        let mut data = vec![0; random.random_range(0..3000)];
        random.fill_bytes(&mut data);
        // Small numbers make for deeper and more various values than random ones do.
        if random.random() {
            data.iter_mut().for_each(|byte| *byte %= 14);
        }
        plain_values::check(&data);
    }
}
