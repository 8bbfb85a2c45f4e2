//! The store on a real folder. What is proved here: no acknowledged row is missing or there twice, whatever dies when.
//! Not proved: power loss, for which the machine would have to lose its caches.

mod crash;
mod damage;
mod faults;
mod frames;
mod full_disk;
mod golden;
mod held;
mod maintenance;
mod shared;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Store, StoreError, StoreOptions};
use crate::columns::Table;
use crate::log::Position;
use frames::{psi_and_spans, read_ids, spans};

const DEADLINE: Duration = Duration::from_secs(30);

fn fast() -> StoreOptions {
    StoreOptions { holder: "http://127.0.0.1:1".to_owned(), flush_interval: Duration::from_millis(5), ..StoreOptions::default() }
}

/// Never flushes on its own.
fn idle() -> StoreOptions {
    StoreOptions { flush_interval: Duration::from_secs(3600), ..fast() }
}

async fn ids(store: &Store, table: Table) -> Vec<u64> {
    let mut ids = read_ids(&store.cut(table).await.unwrap(), table);
    ids.sort_unstable();
    ids
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what} did not become true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn range(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_readable_at_once_and_after_flush_shutdown_and_restart() {
    let folder = TempDir::new().unwrap();
    let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
    assert_eq!((recovery.last, recovery.replayed_frames), (Position(0), 0));
    for frame in 0..10 {
        assert_eq!(store.append(spans(frame * 10..frame * 10 + 10)).await.unwrap(), Position(frame + 1));
        assert_eq!(ids(&store, Table::Spans).await, range(frame * 10 + 10));
    }
    let cut = store.cut(Table::Spans).await.unwrap();
    assert_eq!((cut.snapshot.version, cut.position, cut.rows()), (None, Position(10), 100));

    assert_eq!(store.flush().await.unwrap(), Position(10));
    let cut = store.cut(Table::Spans).await.unwrap();
    assert_eq!((cut.snapshot.version, cut.snapshot.position, cut.hot.len()), (Some(0), Position(10), 0));
    assert_eq!(ids(&store, Table::Spans).await, range(100));
    let stats = store.stats();
    assert_eq!((stats.hot_rows, stats.commits, stats.rows_written, stats.committed), (0, 1, 100, Position(10)));
    assert_eq!(stats.tables[0].rows, 100);

    store.append(spans(100..110)).await.unwrap();
    store.shutdown(DEADLINE).await.unwrap();
    store.shutdown(DEADLINE).await.unwrap();
    assert!(matches!(store.append(spans(0..1)).await, Err(StoreError::Closed)));

    let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
    assert_eq!((recovery.last, recovery.replayed_frames), (Position(11), 0));
    assert_eq!((store.stats().hot_rows, store.stats().tables[0].rows), (0, 110), "the shutdown committed everything");
    assert_eq!(ids(&store, Table::Spans).await, range(110));
    assert_eq!(store.append(spans(110..111)).await.unwrap(), Position(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_dropped_replays_its_log() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(psi_and_spans(0..5)).await.unwrap();
    store.flush().await.unwrap();
    store.append(spans(5..9)).await.unwrap();
    store.append(psi_and_spans(9..12)).await.unwrap();
    drop(store);
    for restarts in 0..3 {
        let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
        assert_eq!(recovery.last, Position(3), "restart {restarts}");
        assert_eq!(ids(&store, Table::Spans).await, range(12));
        assert_eq!(ids(&store, Table::Psi).await, [range(5), vec![9, 10, 11]].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_rows_holds_no_trim_back() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(psi_and_spans(0..1)).await.unwrap();
    store.flush().await.unwrap();
    for id in 1..5 {
        store.append(spans(id..id + 1)).await.unwrap();
        assert_eq!(store.flush().await.unwrap(), Position(id + 1));
    }
    let stats = store.stats();
    assert_eq!(stats.tables[Table::Psi as usize].committed, Position(1));
    assert_eq!(stats.committed, Position(5));
    drop(store);
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    assert_eq!(ids(&store, Table::Spans).await, range(5));
    assert_eq!(ids(&store, Table::Psi).await, range(1));
    assert_eq!(store.stats().committed, Position(5), "what was trimmed counts as committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_stopped_store_takes_no_room_and_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let log_bytes = || -> u64 {
        let entries = std::fs::read_dir(folder.path().join("log")).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    for round in 0..4 {
        let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
        assert_eq!((recovery.last, recovery.replayed_frames, recovery.retired_log), (Position(2 * round), 0, None));
        assert_eq!(recovery.recent_batches.len() as u64, 2 * round, "repeated requests are still known");
        assert_eq!(ids(&store, Table::Spans).await, range(round * 10));
        for half in 0..2 {
            let first = round * 10 + half * 5;
            let batch_id = crate::log::BatchId(u128::from(first + 1).to_be_bytes());
            store.append(crate::log::Frame { batch_id, ..psi_and_spans(first..first + 5) }).await.unwrap();
        }
        assert!(log_bytes() > 1024 * 1024);
        store.shutdown(DEADLINE).await.unwrap();
        drop(store);
        assert!(log_bytes() < 4096, "{}", log_bytes());
        let reader = Store::open_read_only(folder.path()).unwrap();
        assert_eq!(ids(&reader, Table::Psi).await, range(round * 10 + 10));
    }
    // Dropped without a shutdown: the log has what the tables have not, behind the emptied part.
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(spans(40..50)).await.unwrap();
    drop(store);
    let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
    assert_eq!((recovery.last, recovery.replayed_frames), (Position(9), 1));
    assert_eq!(ids(&store, Table::Spans).await, range(50));
}

#[test]
fn a_committed_mark_that_is_broken_or_of_another_log_is_not_believed() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("tables")).unwrap();
    let log_id = uuid::Uuid::new_v4();
    let mark = super::folder::CommittedMark::new(folder.path(), log_id);
    assert_eq!(mark.read(), Position(0));
    mark.write(Position(1234)).unwrap();
    assert_eq!(mark.read(), Position(1234));
    assert_eq!(super::folder::CommittedMark::new(folder.path(), uuid::Uuid::new_v4()).read(), Position(0));
    let file = folder.path().join("tables/COMMITTED");
    for broken in [String::new(), format!("{log_id} 12"), format!("{log_id} \n"), format!("{log_id} -1\n"), "\0\0\n".to_owned()] {
        std::fs::write(&file, &broken).unwrap();
        assert_eq!(mark.read(), Position(0), "{broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_log_was_trimmed_opens_again_though_other_tables_never_had_a_row() {
    let folder = TempDir::new().unwrap();
    // Segments of 16 KiB, so that whole ones are let go of.
    let options = || StoreOptions { log_max_bytes: 1024 * 1024, ..idle() };
    let is_trimmed = || !folder.path().join("log/segment-00000000000000000001.log").exists();
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    let mut count = 0;
    while !is_trimmed() {
        assert!(count < 100_000, "the log was never trimmed");
        store.append(spans(count..count + 100)).await.unwrap();
        count += 100;
        store.flush().await.unwrap();
    }
    store.append(spans(count..count + 1)).await.unwrap();
    drop(store);
    for _ in 0..2 {
        // A power loss may take the mark, which is not synced.
        std::fs::remove_file(folder.path().join("tables/COMMITTED")).ok();
        let reader = Store::open_read_only(folder.path()).unwrap();
        assert_eq!(ids(&reader, Table::Spans).await, range(count + 1));
        drop(reader);
        let (store, recovery) = Store::open(folder.path(), options()).unwrap();
        assert_eq!(recovery.last, Position(count / 100 + 1));
        assert_eq!(ids(&store, Table::Spans).await, range(count + 1));
        drop(store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_without_data_leave_an_empty_store() {
    let folder = TempDir::new().unwrap();
    for _ in 0..3 {
        let (store, recovery) = Store::open(folder.path(), fast()).unwrap();
        assert_eq!((recovery.last, recovery.replayed_frames), (Position(0), 0));
        assert_eq!(store.flush().await.unwrap(), Position(0));
        for table in Table::ALL {
            assert_eq!(store.cut(table).await.unwrap().rows(), 0);
        }
        store.shutdown(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stores_folder_is_read_with_the_rows_only_its_log_has() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(psi_and_spans(0..5)).await.unwrap();
    store.flush().await.unwrap();
    store.append(spans(5..8)).await.unwrap();
    drop(store);
    let before = listing(folder.path());
    let reader = Store::open_read_only(folder.path()).unwrap();
    let second_reader = Store::open_read_only(folder.path()).unwrap();
    for reader in [&reader, &second_reader] {
        assert_eq!(ids(reader, Table::Spans).await, range(8));
        assert_eq!(ids(reader, Table::Psi).await, range(5));
        assert!(matches!(reader.append(spans(0..1)).await, Err(StoreError::ReadOnly)));
        assert!(matches!(reader.flush().await, Err(StoreError::ReadOnly)));
        reader.shutdown(DEADLINE).await.unwrap();
    }
    assert!(matches!(Store::open(folder.path(), idle()), Err(StoreError::InUse { .. })), "readers hold the folder too");
    drop((reader, second_reader));
    assert_eq!(listing(folder.path()), before, "reading changes nothing");
    assert!(Store::open(folder.path(), idle()).is_ok());
}

fn listing(dir: &Path) -> HashMap<std::path::PathBuf, Vec<u8>> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(listing(&entry));
        } else {
            files.insert(entry.clone(), std::fs::read(&entry).unwrap());
        }
    }
    files
}

#[test]
fn a_folder_in_use_names_its_holder() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), fast()).unwrap();
    let holder_seen = |error: StoreError| match error {
        StoreError::InUse { holder, .. } => holder,
        other => panic!("{other}"),
    };
    assert_eq!(holder_seen(Store::open(folder.path(), fast()).unwrap_err()), "http://127.0.0.1:1");
    store.set_holder("http://[::1]:8000").unwrap();
    let error = Store::open_read_only(folder.path()).unwrap_err();
    assert!(error.to_string().contains("in use by http://[::1]:8000"), "{error}");
    assert_eq!(holder_seen(error), "http://[::1]:8000");
    drop(store);
    assert!(Store::open(folder.path(), fast()).is_ok());
}

#[test]
fn a_folder_that_cannot_be_made_or_is_not_there_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let inside = file.join("storage");
    let error = Store::open(&inside, fast()).unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error:?}");
    assert!(error.to_string().contains(&inside.display().to_string()), "{error}");
    let nowhere = folder.path().join("nowhere");
    assert!(matches!(Store::open_read_only(&nowhere), Err(StoreError::NotFound { path }) if path == nowhere));
    let empty = TempDir::new().unwrap();
    assert!(matches!(Store::open_read_only(empty.path()), Err(StoreError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_during_ingest_and_flushes_misses_and_doubles_nothing() {
    const WRITERS: u64 = 4;
    const FRAMES: u64 = 150;
    const PER_FRAME: u64 = 7;
    let folder = TempDir::new().unwrap();
    let options = StoreOptions { flush_interval: Duration::from_millis(1), ..fast() };
    let (store, _) = Store::open(folder.path(), options).unwrap();
    let acked: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let written = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|writer| {
        let (store, acked) = (Arc::clone(&store), Arc::clone(&acked));
        tokio::spawn(async move {
            for frame in 0..FRAMES {
                let first = writer * 1_000_000 + frame * PER_FRAME;
                store.append(psi_and_spans(first..first + PER_FRAME)).await.unwrap();
                acked[writer as usize].fetch_add(PER_FRAME, Ordering::SeqCst);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let readers = (0..3).map(|reader| {
        let (store, acked, written) = (Arc::clone(&store), Arc::clone(&acked), Arc::clone(&written));
        let table = if reader == 0 { Table::Psi } else { Table::Spans };
        tokio::spawn(async move {
            let mut last = Position(0);
            let mut cuts = 0;
            while !written.load(Ordering::SeqCst) {
                let before: Vec<u64> = acked.iter().map(|acked| acked.load(Ordering::SeqCst)).collect();
                let cut = store.cut(table).await.unwrap();
                assert!(cut.position >= last, "cuts of one reader go forward");
                last = cut.position;
                check_contiguous(read_ids(&cut, table), &before);
                cuts += 1;
            }
            cuts
        })
    });
    let readers: Vec<_> = readers.collect();
    for writer in writers {
        writer.await.unwrap();
    }
    written.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 3);
    }
    for table in [Table::Spans, Table::Psi] {
        assert_eq!(ids(&store, table).await.len() as u64, WRITERS * FRAMES * PER_FRAME);
    }
    assert!(store.stats().commits > 5, "{:?}", store.stats());
    store.shutdown(DEADLINE).await.unwrap();
}

/// Each writer's ids are there without a gap and once, at least those acknowledged before the cut was asked for.
fn check_contiguous(mut ids: Vec<u64>, acked: &[u64]) {
    ids.sort_unstable();
    let mut next: Vec<u64> = (0..acked.len() as u64).map(|writer| writer * 1_000_000).collect();
    for id in ids {
        let writer = (id / 1_000_000) as usize;
        assert_eq!(id, next[writer], "missing or twice");
        next[writer] += 1;
    }
    for (writer, acked) in acked.iter().enumerate() {
        let seen = next[writer] - writer as u64 * 1_000_000;
        assert!(seen >= *acked, "writer {writer}: {seen} of {acked} acknowledged rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_stay_below_their_limit_while_flushes_fail_and_appends_wait() {
    let folder = TempDir::new().unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let fault = {
        let broken = Arc::clone(&broken);
        super::FaultHook::new(move |_, _| if broken.load(Ordering::SeqCst) { super::Fault::Fail } else { super::Fault::None })
    };
    let hot_max_bytes = 1024 * 1024;
    let options = StoreOptions { hot_max_bytes, apply_timeout: Duration::from_millis(50), fault, ..fast() };
    let (store, _) = Store::open(folder.path(), options).unwrap();
    let mut appended = 0;
    while store.cut(Table::Spans).await.is_ok() {
        store.append(spans(appended..appended + 500)).await.unwrap();
        appended += 500;
        assert!(appended < 1_000_000, "the limit does nothing");
    }
    assert!(matches!(store.cut(Table::Spans).await, Err(StoreError::Behind { .. })));
    assert!(store.stats().hot_bytes < 2 * hot_max_bytes + 1024 * 1024, "{:?}", store.stats());
    assert!(store.stats().commit_failures > 0);
    broken.store(false, Ordering::SeqCst);
    wait_until("the rows are committed", || store.stats().applied.0 == appended / 500).await;
    assert_eq!(ids(&store, Table::Spans).await, range(appended));
    store.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_flushed_on_the_way_while_it_is_replayed() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    for frame in 0..40 {
        store.append(spans(frame * 500..frame * 500 + 500)).await.unwrap();
    }
    drop(store);
    let options = StoreOptions { hot_max_bytes: 2 * 1024 * 1024, ..idle() };
    let (store, recovery) = Store::open(folder.path(), options.clone()).unwrap();
    assert_eq!(recovery.replayed_frames, 40);
    let stats = store.stats();
    // Sealed batches are larger than what their builders estimate.
    assert!(stats.commits > 1 && stats.hot_bytes <= 2 * options.hot_max_bytes, "{stats:?}");
    assert_eq!(ids(&store, Table::Spans).await, range(20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_behind_the_tables_is_replaced_and_loses_nothing_new() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(spans(0..10)).await.unwrap();
    drop(store);
    let older_log = TempDir::new().unwrap();
    copy(&folder.path().join("log"), older_log.path());
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(psi_and_spans(10..20)).await.unwrap();
    store.shutdown(DEADLINE).await.unwrap();
    drop(store);
    // What a power loss leaves when the log was not synced: the tables have frame 2, the log does not.
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    copy(older_log.path(), &folder.path().join("log"));

    let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
    assert!(recovery.retired_log.unwrap().is_dir());
    assert_eq!(ids(&store, Table::Spans).await, range(20));
    for id in 20..25 {
        store.append(psi_and_spans(id..id + 1)).await.unwrap();
    }
    store.shutdown(DEADLINE).await.unwrap();
    drop(store);
    let (store, recovery) = Store::open(folder.path(), idle()).unwrap();
    assert!(recovery.retired_log.is_none());
    assert_eq!(ids(&store, Table::Spans).await, range(25));
    assert_eq!(ids(&store, Table::Psi).await, (10..25).collect::<Vec<_>>());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, target).unwrap();
        }
    }
}
