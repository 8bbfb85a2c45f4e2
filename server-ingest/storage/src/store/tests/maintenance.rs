//! Merging, expiry and deletion while rows come in, under failures, and beside readers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use uuid::Uuid;

use super::frames::{at_day, psi_and_spans, read_ids, spans};
use super::{DEADLINE, fast, idle, ids, range};
use crate::columns::Table;
use crate::lake::Home;
use crate::lake::{LakeRuntime, LakeTable};
use crate::log::Frame;
use crate::store::{Cut, Fault, FaultHook, FaultPoint, MaintenanceOptions, Store, StoreError, StoreOptions};

/// Merges whatever there are two of, deletes at once, never on its own.
pub(super) fn eager() -> MaintenanceOptions {
    MaintenanceOptions {
        interval: Duration::ZERO,
        merge_min_files: 2,
        merge_min_age: Duration::ZERO,
        rest: 0.0,
        delete_grace: Duration::ZERO,
        sweep_interval: Duration::ZERO,
        ..MaintenanceOptions::default()
    }
}

fn options() -> StoreOptions {
    StoreOptions { maintenance: eager(), ..idle() }
}

fn files(cut: &Cut) -> BTreeSet<PathBuf> {
    cut.snapshot.files.iter().map(|file| file.path.clone()).collect()
}

fn on_disk(folder: &Path, table: Table) -> BTreeSet<PathBuf> {
    let folder = folder.canonicalize().unwrap().join("tables").join(table.name());
    let dates = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let dates = dates.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("date="));
    dates.flat_map(|date| std::fs::read_dir(date).unwrap().map(|entry| entry.unwrap().path())).collect()
}

fn indexes(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("tables/spans/_trace_index")).map_or(0, Iterator::count)
}

/// The numbers of the rows that another program finds in the table.
async fn ids_from_disk(folder: &Path, table: Table) -> Vec<u64> {
    let tables = folder.canonicalize().unwrap().join("tables");
    let read = move || {
        let runtime = LakeRuntime::new().unwrap();
        LakeTable::open(&runtime, Home::Folder, &tables, table, Uuid::new_v4(), FaultHook::default()).unwrap().snapshot().clone()
    };
    let snapshot = std::thread::spawn(read).join().unwrap();
    let trace_index = Arc::new(crate::lake::TraceIndex::new(0, false, Home::Folder));
    let mut ids = read_ids(&Cut { snapshot, hot: Vec::new(), position: crate::log::Position(0), objects: None, trace_index }, table);
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_a_date_and_the_old_ones_are_deleted() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    for frame in 0..12 {
        store.append(psi_and_spans(frame * 10..frame * 10 + 10)).await.unwrap();
        store.flush().await.unwrap();
    }
    let before = store.cut(Table::Spans).await.unwrap();
    assert_eq!(before.snapshot.files.len(), 12);
    store.maintain().await.unwrap();
    let after = store.cut(Table::Spans).await.unwrap();
    assert_eq!(after.snapshot.files.len(), 1);
    assert_eq!((after.snapshot.position, after.position), (before.snapshot.position, before.position));
    assert_eq!(on_disk(folder.path(), Table::Spans), files(&before).union(&files(&after)).cloned().collect(), "the old cut is held");
    assert_eq!(read_ids(&before, Table::Spans).len(), 120, "and its files are read");
    drop(before);
    store.maintain().await.unwrap();
    assert_eq!(on_disk(folder.path(), Table::Spans), files(&after));
    assert_eq!(indexes(folder.path()), 1);
    for table in [Table::Spans, Table::Psi] {
        assert_eq!(ids(&store, table).await, range(120));
        assert_eq!(ids_from_disk(folder.path(), table).await, range(120));
    }
    let stats = store.stats().maintenance;
    assert_eq!((stats.merges, stats.files_merged, stats.rows_merged, stats.failures), (2, 24, 240, 0));
    assert_eq!(stats.files_deleted, 24);
    store.append(spans(120..130)).await.unwrap();
    store.shutdown(DEADLINE).await.unwrap();
    drop(store);
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    assert_eq!(store.stats().hot_rows, 0, "the position outlives the merges");
    assert_eq!(ids(&store, Table::Spans).await, range(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_that_came_twice_is_there_once_after_a_merge() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    for _ in 0..3 {
        store.append(psi_and_spans(0..10)).await.unwrap();
        store.flush().await.unwrap();
    }
    assert_eq!(ids(&store, Table::Spans).await.len(), 30);
    store.maintain().await.unwrap();
    assert_eq!(ids(&store, Table::Spans).await, range(10));
    assert_eq!(store.stats().maintenance.duplicates_removed, 20);
    assert_eq!(ids(&store, Table::Psi).await.len(), 30, "records have no identity");
}

fn today() -> i32 {
    i32::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_past_their_retention_go_in_steps_and_others_stay() {
    let folder = TempDir::new().unwrap();
    let maintenance = MaintenanceOptions { retention_days: Some(3), expire_max_files: 2, merge_min_files: 100, ..eager() };
    let (store, _) = Store::open(folder.path(), StoreOptions { maintenance, ..idle() }).unwrap();
    for days in 0..7 {
        let numbers = days * 10..days * 10 + 10;
        store.append(at_day(spans(numbers.clone()), today(), today() - days as i32, numbers)).await.unwrap();
        store.flush().await.unwrap();
    }
    assert_eq!(ids(&store, Table::Spans).await, range(70));
    store.maintain().await.unwrap();
    assert_eq!(ids(&store, Table::Spans).await, range(30), "today and two days before");
    assert_eq!(ids_from_disk(folder.path(), Table::Spans).await, range(30));
    assert_eq!(on_disk(folder.path(), Table::Spans), files(&store.cut(Table::Spans).await.unwrap()));
    let stats = store.stats().maintenance;
    assert_eq!((stats.files_expired, stats.rows_expired, stats.files_deleted), (4, 40, 4));
    assert_eq!(indexes(folder.path()), 3);
    let dates = std::fs::read_dir(folder.path().join("tables/spans")).unwrap();
    let dates = dates.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("date=")).count();
    assert_eq!(dates, 3, "empty folders go too");
    let version = store.cut(Table::Spans).await.unwrap().snapshot.version;
    store.maintain().await.unwrap();
    assert_eq!(store.cut(Table::Spans).await.unwrap().snapshot.version, version, "nothing to do, no commit");
    drop(store);
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    assert_eq!(ids(&store, Table::Spans).await, range(30), "what expired is not replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_any_time_go_to_few_partitions_and_keep_their_times() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    let received = 20_000;
    let mut days: Vec<i32> = (0..300).map(|number| number * 97).collect();
    days.extend([received - 8, received - 7, received - 1, received, received + 1, received + 2]);
    let mut expected = Vec::new();
    for (number, day) in (0..).zip(&days) {
        store.append(at_day(spans(number..number + 1), received, *day, number..number + 1)).await.unwrap();
        expected.push((i64::from(*day) * 86_400_000_000_000, (*day).clamp(received - 7, received + 1)));
    }
    expected.sort_unstable();
    let hot = store.cut(Table::Spans).await.unwrap();
    let mut of_hot: Vec<_> = hot.hot.iter().flat_map(|batch| starts_and_dates(batch, None)).collect();
    of_hot.sort_unstable();
    assert_eq!(of_hot, expected);
    store.flush().await.unwrap();
    let cut = store.cut(Table::Spans).await.unwrap();
    assert!(cut.snapshot.files.len() <= crate::store::partition::MAX_DATES, "{}", cut.snapshot.files.len());
    let mut stored = Vec::new();
    for file in &cut.snapshot.files {
        let rows = starts_and_dates(&read_file(&file.path), Some(file.date));
        let micros = || rows.iter().map(|row| row.0 / 1000);
        assert_eq!((file.min_time_micros, file.max_time_micros), (micros().min(), micros().max()));
        stored.extend(rows);
    }
    stored.sort_unstable();
    assert_eq!(stored, expected, "hot and stored rows have the same partition");
    // Restart from the log alone: the same again.
    drop(store);
    std::fs::remove_dir_all(folder.path().join("tables")).unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    let again = store.cut(Table::Spans).await.unwrap();
    let mut replayed: Vec<_> = again.hot.iter().flat_map(|batch| starts_and_dates(batch, None)).collect();
    replayed.sort_unstable();
    assert_eq!(replayed, expected);
}

fn read_file(path: &Path) -> arrow::array::RecordBatch {
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    arrow::compute::concat_batches(&schema, &reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

fn starts_and_dates(batch: &arrow::array::RecordBatch, date: Option<i32>) -> Vec<(i64, i32)> {
    use arrow::array::AsArray;
    use arrow::datatypes::{Date32Type, Int64Type};
    let starts = batch.column_by_name("start_unix_nano").unwrap().as_primitive::<Int64Type>();
    let dates = batch.column_by_name("date").map(|dates| dates.as_primitive::<Date32Type>().clone());
    (0..batch.num_rows()).map(|row| (starts.value(row), date.unwrap_or_else(|| dates.as_ref().unwrap().value(row)))).collect()
}

const POINTS: [FaultPoint; 4] = [FaultPoint::BeforeReplace, FaultPoint::AfterReplace, FaultPoint::BeforeDelete, FaultPoint::WhileDeleting];

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_there_once_after_a_death_at_any_point_of_the_maintenance() {
    for point in POINTS {
        let folder = TempDir::new().unwrap();
        let mut count = 0;
        for _ in 0..3 {
            let fault = FaultHook::new(move |here, table| if here == point && table == Table::Spans { Fault::Die } else { Fault::None });
            let (store, _) = Store::open(folder.path(), StoreOptions { fault, ..options() }).unwrap();
            for _ in 0..4 {
                store.append(psi_and_spans(count..count + 10)).await.unwrap();
                count += 10;
                store.flush().await.unwrap();
            }
            assert!(matches!(store.maintain().await, Err(StoreError::Closed)), "{point:?}: the maintainer is dead");
            store.append(psi_and_spans(count..count + 10)).await.unwrap();
            count += 10;
            assert_eq!(ids(&store, Table::Spans).await, range(count), "{point:?}: the store lives");
            store.flush().await.unwrap();
            assert_eq!(ids(&store, Table::Spans).await, range(count), "{point:?}");
        }
        let reader = Store::open_read_only(folder.path()).unwrap();
        assert_eq!(ids(&reader, Table::Spans).await, range(count), "{point:?}");
        drop(reader);
        let (store, _) = Store::open(folder.path(), options()).unwrap();
        store.maintain().await.unwrap();
        store.maintain().await.unwrap();
        for table in [Table::Spans, Table::Psi] {
            assert_eq!(ids(&store, table).await, range(count), "{point:?}");
            assert_eq!(ids_from_disk(folder.path(), table).await, range(count), "{point:?}");
            assert_eq!(on_disk(folder.path(), table), files(&store.cut(table).await.unwrap()), "{point:?}: nothing is left behind");
        }
        assert_eq!(indexes(folder.path()), store.cut(Table::Spans).await.unwrap().snapshot.files.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_leaves_everything_intact_and_is_tried_again() {
    for point in POINTS {
        let failures = Arc::new(AtomicU32::new(2));
        let fault = {
            let failures = Arc::clone(&failures);
            FaultHook::new(move |here, _| {
                let fails = here == point && failures.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                if fails { Fault::Fail } else { Fault::None }
            })
        };
        let folder = TempDir::new().unwrap();
        let (store, _) = Store::open(folder.path(), StoreOptions { fault, ..options() }).unwrap();
        for frame in 0..6 {
            store.append(psi_and_spans(frame * 10..frame * 10 + 10)).await.unwrap();
            store.flush().await.unwrap();
        }
        let mut attempts = 0;
        while let Err(error) = store.maintain().await {
            assert!(error.is_retryable(), "{error}");
            assert_eq!(ids(&store, Table::Spans).await, range(60 + attempts), "{point:?}");
            store.append(psi_and_spans(60 + attempts..61 + attempts)).await.unwrap();
            store.flush().await.unwrap();
            attempts += 1;
            assert!(attempts < 5);
        }
        assert_eq!(failures.load(Ordering::SeqCst), 0, "{point:?}");
        store.maintain().await.unwrap();
        for table in [Table::Spans, Table::Psi] {
            assert_eq!(ids(&store, table).await, range(60 + attempts), "{point:?}");
            assert_eq!(ids_from_disk(folder.path(), table).await, range(60 + attempts), "{point:?}");
            assert_eq!(on_disk(folder.path(), table), files(&store.cut(table).await.unwrap()), "{point:?}");
        }
    }
}

/// As if the disk were full: the folder of a date takes no new file.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_cannot_be_written_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    for frame in 0..4 {
        store.append(spans(frame * 10..frame * 10 + 10)).await.unwrap();
        store.flush().await.unwrap();
    }
    let before = on_disk(folder.path(), Table::Spans);
    // A commit that cannot be written: something else has its name's place for temporary files.
    let log = folder.path().join("tables/spans/_delta_log");
    let aside = folder.path().join("tables/spans/moved");
    std::fs::rename(&log, &aside).unwrap();
    assert!(matches!(store.maintain().await, Err(StoreError::Lake(_))));
    std::fs::rename(&aside, &log).unwrap();
    assert_eq!(ids(&store, Table::Spans).await, range(40));
    assert!(before.is_subset(&on_disk(folder.path(), Table::Spans)));
    store.maintain().await.unwrap();
    store.maintain().await.unwrap();
    assert_eq!(ids(&store, Table::Spans).await, range(40));
    assert_eq!(on_disk(folder.path(), Table::Spans).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn questions_during_merges_are_answered_as_at_rest() {
    let folder = TempDir::new().unwrap();
    let maintenance = MaintenanceOptions { interval: Duration::from_millis(1), ..eager() };
    let options = StoreOptions { flush_interval: Duration::from_millis(1), maintenance, ..fast() };
    let (store, _) = Store::open(folder.path(), options).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers = [Table::Spans, Table::Spans, Table::Psi].map(|table| {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            let mut cuts = 0;
            while !done.load(Ordering::SeqCst) {
                let cut = store.cut(table).await.unwrap();
                // Time for the files to be taken out and, if that were allowed, deleted.
                tokio::time::sleep(Duration::from_millis(cuts % 20)).await;
                let mut ids = read_ids(&cut, table);
                ids.sort_unstable();
                assert_eq!(ids, range(ids.len() as u64), "missing or twice");
                assert!(ids.len() as u64 >= cut.position.0 * 7);
                cuts += 1;
            }
            cuts
        })
    });
    let mut frames = 0;
    while frames < 300 || store.stats().maintenance.merges < 20 {
        store.append(psi_and_spans(frames * 7..frames * 7 + 7)).await.unwrap();
        frames += 1;
        assert!(frames < 50_000, "{:?}", store.stats());
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 3);
    }
    store.shutdown(DEADLINE).await.unwrap();
    assert!(store.stats().maintenance.files_deleted > 0, "{:?}", store.stats().maintenance);
    drop(store);
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    for table in [Table::Spans, Table::Psi] {
        assert_eq!(ids(&store, table).await, range(frames * 7));
    }
}

/// What may happen to a store, in any order.
#[tokio::test(flavor = "multi_thread")]
async fn rows_read_are_rows_appended_after_any_sequence_of_steps() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    };
    for _ in 0..6 {
        let folder = TempDir::new().unwrap();
        let mut retention = None;
        let open = |retention| {
            let maintenance = MaintenanceOptions { retention_days: retention, target_file_bytes: 64 * 1024, ..eager() };
            Store::open(folder.path(), StoreOptions { maintenance, ..idle() }).unwrap().0
        };
        let mut store = open(None);
        // By number: days ago.
        let mut appended: Vec<(u64, u64)> = Vec::new();
        let mut frames: Vec<Frame> = Vec::new();
        let mut held: Vec<(Cut, Vec<u64>)> = Vec::new();
        for _ in 0..60 {
            match random(12) {
                0..=4 => {
                    let (first, ago) = (appended.len() as u64, random(6));
                    let numbers = first..first + 1 + random(20);
                    appended.extend(numbers.clone().map(|number| (number, ago)));
                    let frame = at_day(spans(numbers.clone()), today(), today() - ago as i32, numbers);
                    store.append(frame.clone()).await.unwrap();
                    frames.push(frame);
                }
                5 if !frames.is_empty() && retention.is_none() => {
                    // The same once more: not seen in what is read until a merge, nor after it.
                    store.append(frames[random(frames.len() as u64) as usize].clone()).await.unwrap();
                }
                6 | 7 => drop(store.flush().await.unwrap()),
                8 => store.maintain().await.unwrap(),
                9 => {
                    drop(store);
                    held.clear();
                    retention = if random(2) == 0 { retention } else { Some(4) };
                    store = open(retention);
                }
                10 => {
                    let cut = store.cut(Table::Spans).await.unwrap();
                    let ids = read_ids(&cut, Table::Spans);
                    held.push((cut, ids));
                }
                _ => {
                    let mut read = ids(&store, Table::Spans).await;
                    read.dedup();
                    let kept = |row: &&(u64, u64)| retention.is_none() || row.1 < 4;
                    let must: BTreeSet<u64> = appended.iter().filter(kept).map(|row| row.0).collect();
                    let may: BTreeSet<u64> = appended.iter().map(|row| row.0).collect();
                    let read: BTreeSet<u64> = read.into_iter().collect();
                    assert!(must.is_subset(&read) && read.is_subset(&may));
                }
            }
        }
        for (cut, before) in &held {
            assert_eq!(&read_ids(cut, Table::Spans), before, "a cut that is held stays readable and the same");
        }
        held.clear();
        store.flush().await.unwrap();
        store.maintain().await.unwrap();
        store.maintain().await.unwrap();
        let expected: Vec<u64> = appended.iter().filter(|row| retention.is_none() || row.1 < 4).map(|row| row.0).collect();
        let mut read = ids(&store, Table::Spans).await;
        assert_eq!(ids_from_disk(folder.path(), Table::Spans).await, read);
        // Copies that never met in a merge may be left.
        read.dedup();
        assert_eq!(read, expected);
        assert_eq!(on_disk(folder.path(), Table::Spans), files(&store.cut(Table::Spans).await.unwrap()));
    }
}
