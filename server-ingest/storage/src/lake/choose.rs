//! Which files to merge next. Pure: a snapshot and the time in, a choice out.
//!
//! Files of like size are merged once there are enough of them, so that each merge makes a row's file several times larger, and the
//! work a row causes grows with the logarithm of its date's size only. A date to which nothing is added any more is merged to the end.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::DataFile;

/// Files are alike when the largest has at most so many times the bytes of the smallest.
const ALIKE: u64 = 4;

/// Memory of the pages that are open while files are merged; see [`open_bytes`].
const OPEN_BYTES: u64 = 160 * 1024 * 1024;

/// What is worth a merge.
#[derive(Debug, Clone)]
pub(crate) struct MergeRules {
    pub(crate) target_bytes: u64,
    pub(crate) min_files: usize,
    pub(crate) max_files: usize,
    pub(crate) min_age: Duration,
    pub(crate) settled_age: Duration,
}

/// The files of one date that are to become one, or none. The date with the most of them comes first.
pub(crate) fn choose(
    files: &[Arc<DataFile>],
    now_unix_millis: u64,
    rules: &MergeRules,
    left_out: &HashSet<PathBuf>,
) -> Option<Vec<Arc<DataFile>>> {
    let mut dates: BTreeMap<i32, Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.size_bytes <= rules.target_bytes / 2 && !left_out.contains(&file.path)) {
        dates.entry(file.date).or_default().push(file);
    }
    let chosen = dates.into_values().filter_map(|of_date| choose_of_date(of_date, now_unix_millis, rules));
    chosen.max_by_key(Vec::len)
}

fn choose_of_date(files: Vec<&Arc<DataFile>>, now_unix_millis: u64, rules: &MergeRules) -> Option<Vec<Arc<DataFile>>> {
    let age = |file: &DataFile| Duration::from_millis(now_unix_millis.saturating_sub(written_unix_millis(&file.path)));
    let is_settled = files.iter().all(|file| age(file) >= rules.settled_age);
    let mut files: Vec<_> = files.into_iter().filter(|file| age(file) >= rules.min_age).collect();
    files.sort_by_key(|file| file.size_bytes);
    let enough = if is_settled { 2 } else { rules.min_files.max(2) };
    let runs = (0..files.len()).map(|start| run_of_alike(&files[start..], is_settled, rules));
    // A few large ones are enough when they make a file of the size that is aimed at.
    let is_full =
        |run: &[&Arc<DataFile>]| run.len() > 1 && run.iter().map(|file| file.size_bytes).sum::<u64>() >= rules.target_bytes / 4 * 3;
    let run = runs.into_iter().find(|run| run.len() >= enough || is_full(run))?;
    Some(run.iter().map(|file| Arc::clone(file)).collect())
}

/// The first of `files`, which are sorted by size, and those after it that may be merged with it.
fn run_of_alike<'f, 'a>(files: &'f [&'a Arc<DataFile>], is_settled: bool, rules: &MergeRules) -> &'f [&'a Arc<DataFile>] {
    let Some(smallest) = files.first().map(|file| file.size_bytes) else { return &[] };
    let (mut sum, mut open) = (0, 0);
    let mut end = 0;
    for file in files.iter().take(rules.max_files) {
        sum += file.size_bytes;
        open += open_bytes(file);
        let fits = sum <= rules.target_bytes && open <= OPEN_BYTES;
        if !fits || !(is_settled || file.size_bytes <= ALIKE * smallest) {
            break;
        }
        end += 1;
    }
    &files[..end]
}

/// About what reading a file takes: one page a column, at most a mebibyte each, of which a dozen columns make use.
fn open_bytes(file: &DataFile) -> u64 {
    file.size_bytes.saturating_mul(8).min(16 * 1024 * 1024)
}

/// When the file was made, from its name; 0 for names of other writers.
fn written_unix_millis(path: &Path) -> u64 {
    let uuid = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| Uuid::parse_str(stem).ok());
    let time = uuid.and_then(|uuid| uuid.get_timestamp());
    time.map_or(0, |time| {
        let (seconds, nanos) = time.to_unix();
        seconds * 1000 + u64::from(nanos / 1_000_000)
    })
}

#[cfg(test)]
mod tests;
