//! The kept corpus of the fuzz target, and damaged copies of it, through the function the fuzz target runs.

#[path = "../fuzz/against_prost.rs"]
mod against_prost;

use std::time::{SystemTime, UNIX_EPOCH};

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/walk");
    let files = std::fs::read_dir(folder).expect("the corpus is there");
    files.map(|entry| std::fs::read(entry.expect("a file").path()).expect("a file that can be read")).collect()
}

#[test]
fn the_kept_corpus_is_stored_as_prost_reads_it() {
    let files = corpus();
    assert!(files.len() >= 20, "the corpus is gone: {} files", files.len());
    files.iter().for_each(|payload| against_prost::check(payload));
}

#[test]
fn damaged_copies_are_stored_as_prost_reads_them_or_refused() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let files = corpus();
    for _ in 0..4000 {
        let mut payload = files[random(files.len())].clone();
        for _ in 0..=random(3) {
            let at = random(payload.len());
            match random(4) {
                0 if at < payload.len() => payload[at] ^= 1 << random(8),
                1 => payload.truncate(at),
                2 => payload.insert(at, random(256) as u8),
                _ => {
                    let other = &files[random(files.len())];
                    let start = random(other.len());
                    let end = start + random(other.len() - start);
                    payload.splice(at..at, other[start..end].iter().copied());
                }
            }
        }
        against_prost::check(&payload);
    }
}
