//! A damaged file has a clear end: an error that names it, or all rows. Never a panic, never fewer rows without a word.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::frames::{read_ids, spans};
use super::golden::copy;
use super::{idle, range};
use crate::columns::Table;
use crate::store::{Store, StoreOptions};

/// One more than there are commits between checkpoints.
const COMMITS: u64 = 101;
const SPANS_A_COMMIT: u64 = 3;
/// Frames that only the log has.
const HOT: u64 = 4;

fn small() -> StoreOptions {
    StoreOptions { log_max_bytes: 128 * 1024, ..idle() }
}

async fn written(folder: &Path) {
    let (store, _) = Store::open(folder, small()).unwrap();
    for commit in 0..COMMITS + HOT {
        store.append(spans(commit * SPANS_A_COMMIT..(commit + 1) * SPANS_A_COMMIT)).await.unwrap();
        if commit < COMMITS {
            store.flush().await.unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// Files of one kind have one rule; one of each is enough.
fn kind(file: &Path) -> String {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let is_of_delta = file.parent().unwrap().ends_with("_delta_log");
    match name.rsplit_once('.') {
        Some((_, "json")) if is_of_delta => "commit".to_owned(),
        Some((_, "parquet")) if is_of_delta => "checkpoint".to_owned(),
        Some((_, "parquet")) => "data".to_owned(),
        Some((start, "log")) if start.starts_with("segment-") => "segment".to_owned(),
        _ => name,
    }
}

/// All errors, the outermost first.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Opens the folder and reads every row's number.
async fn read(folder: &Path) -> Result<Vec<u64>, String> {
    let (store, _) = Store::open(folder, small()).map_err(|error| text(&error))?;
    let cut = store.cut(Table::Spans).await.map_err(|error| text(&error))?;
    // Data files are read by others; what is asked here is that their reader notices.
    for file in &cut.snapshot.files {
        let reader = File::open(&file.path).map_err(|error| format!("{}: {error}", file.path.display()))?;
        let rows = ParquetRecordBatchReaderBuilder::try_new(reader).and_then(|builder| builder.build());
        for batch in rows.map_err(|error| format!("{}: {error}", file.path.display()))? {
            let batch = batch.map_err(|error| format!("{}: {error}", file.path.display()))?;
            batch.column_by_name("span_id").ok_or_else(|| format!("{}: no ids", file.path.display()))?;
        }
    }
    let mut ids = read_ids(&cut, Table::Spans);
    ids.sort_unstable();
    Ok(ids)
}

#[test]
fn a_damaged_file_is_named_or_harmless() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let whole = TempDir::new().unwrap();
    runtime().block_on(written(whole.path()));
    let expected = range((COMMITS + HOT) * SPANS_A_COMMIT);
    let mut seen: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    let (mut named, mut harmless) = (0, 0);
    let all = files(whole.path());
    // The newest of each kind matters most.
    for file in all.iter().rev() {
        let kind = kind(file);
        if seen.contains(&kind) {
            continue;
        }
        seen.push(kind.clone());
        let is_of_delta = kind == "commit" || kind == "checkpoint";
        let bytes = fs::read(file).unwrap();
        let mut damages: Vec<(String, Vec<u8>)> = Vec::new();
        for length in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            damages.push((format!("cut to {length}"), bytes[..length].to_vec()));
        }
        for part in 0..3 {
            let at = (bytes.len() * part / 3 + 7) % bytes.len().max(1);
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 0x41;
                damages.push((format!("byte {at} flipped"), flipped));
            }
        }
        for (damage, bytes) in damages {
            let folder = TempDir::new().unwrap();
            copy(whole.path(), folder.path());
            let place = folder.path().join(file.strip_prefix(whole.path()).unwrap());
            fs::write(&place, bytes).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| runtime().block_on(read(folder.path()))));
            let name = file.file_name().unwrap().to_string_lossy();
            let what = format!("{kind} {name}, {damage}");
            match outcome {
                Ok(Ok(ids)) if ids == expected => harmless += 1,
                Ok(Ok(ids)) => wrong.push(format!("{what}: {} of {} rows without a word", ids.len(), expected.len())),
                // What is JSON or Parquet and yet not what was written is found by delta-rs, which names the table.
                Ok(Err(error)) if error.contains(&*name) || (is_of_delta && error.contains("tables/spans")) => named += 1,
                Ok(Err(error)) => wrong.push(format!("{what}: the error does not name it: {error}")),
                Err(_) => wrong.push(format!("{what}: a panic")),
            }
        }
    }
    println!("kinds {seen:?}: {named} named, {harmless} harmless");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for kind in ["commit", "checkpoint", "data", "segment"] {
        assert!(seen.iter().any(|seen| seen == kind), "no file of the kind {kind} was there");
    }
}
