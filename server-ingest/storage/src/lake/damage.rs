//! Which file of a table's Delta log is damaged: delta-rs says what is wrong, not where, and takes a commit without a byte for an
//! empty one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::LakeError;

/// An error that names the first commit without a byte, if there is one: its rows would be missing without a word.
pub(super) fn check_commits(log_dir: &Path) -> Result<(), LakeError> {
    for path in files(log_dir, "json") {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
            return Err(LakeError::Damaged { path, what: "the commit has no content".to_owned() });
        }
    }
    Ok(())
}

/// The first file of the log that cannot be read, to say more than `error` does. `error` itself when all can.
pub(super) fn blame(log_dir: &Path, error: LakeError) -> LakeError {
    let damaged = |path: PathBuf, what: String| LakeError::Damaged { path, what };
    for path in files(log_dir, "json") {
        let Ok(content) = fs::read(&path) else { continue };
        if let Some(what) = what_is_wrong_with_commit(&content) {
            return damaged(path, what);
        }
    }
    for path in files(log_dir, "parquet") {
        let Ok(file) = File::open(&path) else { continue };
        let read = || -> Result<(), String> {
            let rows =
                ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build()).map_err(|error| error.to_string())?;
            rows.into_iter().try_for_each(|batch| batch.map(drop).map_err(|error| error.to_string()))
        };
        if let Err(what) = read() {
            return damaged(path, what);
        }
    }
    error
}

fn what_is_wrong_with_commit(content: &[u8]) -> Option<String> {
    if content.is_empty() {
        return Some("the commit has no content".to_owned());
    }
    let mut start = 0;
    for line in content.split(|byte| *byte == b'\n') {
        if !line.is_empty()
            && let Err(error) = serde_json::from_slice::<Value>(line)
        {
            return Some(format!("byte {}: {error}", start + error.column().saturating_sub(1)));
        }
        start += line.len() + 1;
    }
    None
}

/// In order of their names, that is of their versions.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort_unstable();
    files
}
