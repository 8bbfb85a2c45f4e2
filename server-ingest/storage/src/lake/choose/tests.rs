//! What is chosen to be merged.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::{NoContext, Timestamp, Uuid};

use super::super::DataFile;
use super::{MergeRules, choose};

const MIB: u64 = 1024 * 1024;
const NOW_SECONDS: u64 = 1_800_000_000;

fn rules() -> MergeRules {
    MergeRules {
        target_bytes: 128 * MIB,
        min_files: 8,
        max_files: 256,
        min_age: Duration::from_secs(120),
        settled_age: Duration::from_secs(3600),
    }
}

fn file(date: i32, size_bytes: u64, age_seconds: u64) -> Arc<DataFile> {
    let name = Uuid::new_v7(Timestamp::from_unix(NoContext, NOW_SECONDS - age_seconds, 0));
    let path = PathBuf::from(format!("/tables/spans/date={date}/{name}.parquet"));
    Arc::new(DataFile { path, size_bytes, rows: 1, date, min_time_micros: None, max_time_micros: None })
}

fn chosen(files: &[Arc<DataFile>]) -> Vec<u64> {
    let chosen = choose(files, NOW_SECONDS * 1000, &rules(), &HashSet::new());
    chosen.unwrap_or_default().iter().map(|file| file.size_bytes).collect()
}

#[test]
fn young_files_and_few_files_are_left_alone() {
    let old = |count: usize| (0..count).map(|_| file(1, 1000, 200)).collect::<Vec<_>>();
    let young = (0..50).map(|_| file(1, 1000, 60));
    assert_eq!(chosen(&old(7)).len(), 0);
    assert_eq!(chosen(&old(8)).len(), 8);
    assert_eq!(chosen(&old(7).into_iter().chain(young.clone()).collect::<Vec<_>>()).len(), 0);
    assert_eq!(chosen(&old(9).into_iter().chain(young).collect::<Vec<_>>()).len(), 9);
}

#[test]
fn a_choice_is_of_one_date_the_one_with_the_most_files_and_bounded() {
    let mut files: Vec<_> = (0..10).map(|_| file(1, 1000, 200)).collect();
    files.extend((0..400).map(|_| file(2, 1000, 200)));
    let chosen = choose(&files, NOW_SECONDS * 1000, &rules(), &HashSet::new()).unwrap();
    assert!(chosen.iter().all(|file| file.date == 2));
    assert_eq!(chosen.len(), 256);
    let left_out: HashSet<_> = files.iter().filter(|file| file.date == 2).map(|file| file.path.clone()).collect();
    assert!(choose(&files, NOW_SECONDS * 1000, &rules(), &left_out).unwrap().iter().all(|file| file.date == 1));
}

#[test]
fn files_of_like_size_are_merged_with_each_other() {
    let mut files: Vec<_> = (0..5).map(|_| file(1, MIB, 200)).collect();
    files.extend((0..7).map(|_| file(1, 9 * MIB, 2000)));
    assert!(chosen(&files).is_empty(), "neither size has enough");
    files.push(file(1, 9 * MIB, 2000));
    assert_eq!(chosen(&files), vec![9 * MIB; 8], "large ones do not wait for small ones");
    files.extend((0..5).map(|_| file(1, 3 * MIB, 200)));
    assert_eq!(chosen(&files), [[MIB; 5], [3 * MIB; 5]].concat(), "smaller ones first");
    let many: Vec<_> = (0..100).map(|_| file(1, MIB, 200)).collect();
    assert_eq!(chosen(&many).len(), 20, "no more are open at once than memory allows");
    let large: Vec<_> = (0..100).map(|_| file(1, 65 * MIB, 8000)).collect();
    assert!(chosen(&large).is_empty(), "what has half the target is left");
}

#[test]
fn a_settled_date_is_merged_to_the_end() {
    let files = [file(1, 2 * MIB, 4000), file(1, 60 * MIB, 5000)];
    assert_eq!(chosen(&files), [2 * MIB, 60 * MIB]);
    let files = [file(1, 2 * MIB, 200), file(1, 60 * MIB, 5000)];
    assert!(chosen(&files).is_empty());
}

/// The bytes written again stay a small multiple of the bytes that came in, whatever the sizes.
#[test]
fn a_row_is_written_again_a_few_times_only() {
    for size in [10_000, 200_000, 3 * MIB] {
        let mut files: Vec<Arc<DataFile>> = Vec::new();
        let (mut came, mut written) = (0, 0);
        for number in 0..5000 {
            let bytes = size + number % 7 * 1000;
            files.push(file(1, bytes, 200));
            came += bytes;
            while let Some(inputs) = choose(&files, NOW_SECONDS * 1000, &rules(), &HashSet::new()) {
                let sum: u64 = inputs.iter().map(|file| file.size_bytes).sum();
                assert!(sum <= rules().target_bytes);
                let gone: HashSet<_> = inputs.iter().map(|file| file.path.clone()).collect();
                files.retain(|file| !gone.contains(&file.path));
                files.push(file(1, sum, 200));
                written += sum;
            }
        }
        println!("{size}: {:.1} times, {} files", written as f64 / came as f64, files.len());
        assert!(written < 5 * came, "{size}: {written} for {came}");
        assert!(files.len() < 250, "{size}: {} files", files.len());
    }
}
