//! Deaths and failures between two durable steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::{DEADLINE, fast, frames, idle, ids, range};
use crate::columns::Table;
use crate::store::{Fault, FaultHook, FaultPoint, Store, StoreError, StoreOptions};
use frames::{psi_and_spans, spans};

const POINTS: [FaultPoint; 3] = [FaultPoint::AfterParquet, FaultPoint::AfterCommit, FaultPoint::BeforeTrim];

fn at(point: FaultPoint, table: Table, fault: Fault) -> FaultHook {
    FaultHook::new(move |here, of| if here == point && of == table { fault } else { Fault::None })
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_there_once_after_a_death_between_any_two_steps() {
    for point in POINTS {
        // Dying at one table leaves the tables with different positions: spans come first, PSI records second.
        for table in [Table::Spans, Table::Psi] {
            if point == FaultPoint::BeforeTrim && table != Table::Spans {
                continue;
            }
            let folder = TempDir::new().unwrap();
            let (store, _) = Store::open(folder.path(), idle()).unwrap();
            store.append(psi_and_spans(0..10)).await.unwrap();
            store.flush().await.unwrap();
            store.shutdown(DEADLINE).await.unwrap();
            drop(store);
            // Twice: the second death meets what the first has left.
            for death in 1..=2 {
                let (store, _) = Store::open(folder.path(), StoreOptions { fault: at(point, table, Fault::Die), ..idle() }).unwrap();
                store.append(psi_and_spans(death * 10..death * 10 + 5)).await.unwrap();
                store.append(spans(death * 10 + 5..death * 10 + 7)).await.unwrap();
                store.append(psi_and_spans(death * 10 + 7..death * 10 + 10)).await.unwrap();
                assert!(matches!(store.flush().await, Err(StoreError::Closed)), "{point:?}: the flusher is dead");
            }
            let all_psi: Vec<u64> = range(30).into_iter().filter(|id| ![15, 16, 25, 26].contains(id)).collect();
            let reader = Store::open_read_only(folder.path()).unwrap();
            assert_eq!(ids(&reader, Table::Spans).await, range(30), "{point:?} of {table:?}");
            assert_eq!(ids(&reader, Table::Psi).await, all_psi, "{point:?} of {table:?}");
            drop(reader);
            for _ in 0..2 {
                let (store, _) = Store::open(folder.path(), idle()).unwrap();
                assert_eq!(ids(&store, Table::Spans).await, range(30), "{point:?} of {table:?}");
                assert_eq!(ids(&store, Table::Psi).await, all_psi, "{point:?} of {table:?}");
                store.flush().await.unwrap();
                assert_eq!(store.stats().hot_rows, 0);
                assert_eq!(ids(&store, Table::Spans).await, range(30), "{point:?} of {table:?}");
                assert_eq!(ids(&store, Table::Psi).await, all_psi, "{point:?} of {table:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_is_tried_again_without_doubling_rows_or_leaving_files() {
    for point in POINTS {
        let failures = Arc::new(AtomicU32::new(3));
        let fault = {
            let failures = Arc::clone(&failures);
            FaultHook::new(move |here, _| {
                let fails = here == point && failures.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                if fails { Fault::Fail } else { Fault::None }
            })
        };
        let folder = TempDir::new().unwrap();
        let (store, _) = Store::open(folder.path(), StoreOptions { fault, ..idle() }).unwrap();
        store.append(psi_and_spans(0..10)).await.unwrap();
        assert!(matches!(store.flush().await, Err(StoreError::Lake(_))), "{point:?}");
        assert_eq!(ids(&store, Table::Spans).await, range(10), "{point:?}: rows stay readable");
        // Rows that come between the attempts must not join the unit that may be in the table.
        store.append(psi_and_spans(10..15)).await.unwrap();
        let mut attempts = 0;
        while let Err(error) = store.flush().await {
            assert!(error.is_retryable(), "{error}");
            attempts += 1;
            assert!(attempts < 5);
        }
        assert_eq!(failures.load(Ordering::SeqCst), 0);
        for table in [Table::Spans, Table::Psi] {
            assert_eq!(ids(&store, table).await, range(15), "{point:?}");
            let cut = store.cut(table).await.unwrap();
            assert!(cut.hot.is_empty());
            let named: BTreeSet<_> = cut.snapshot.files.iter().map(|file| file.path.clone()).collect();
            assert_eq!(parquet_files(&folder.path().canonicalize().unwrap().join("tables").join(table.name())), named, "{point:?}");
        }
        store.shutdown(DEADLINE).await.unwrap();
        drop(store);
        let (store, _) = Store::open(folder.path(), fast()).unwrap();
        assert_eq!(store.stats().hot_rows, 0);
        assert_eq!(ids(&store, Table::Spans).await, range(15), "{point:?}");
    }
}

fn parquet_files(dir: &std::path::Path) -> BTreeSet<std::path::PathBuf> {
    let folders = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('_'));
    folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_table_does_not_keep_others_from_being_committed() {
    let folder = TempDir::new().unwrap();
    let fault = at(FaultPoint::AfterParquet, Table::Psi, Fault::Fail);
    let (store, _) = Store::open(folder.path(), StoreOptions { fault, ..fast() }).unwrap();
    store.append(psi_and_spans(0..10)).await.unwrap();
    assert!(store.flush().await.is_err());
    let stats = store.stats();
    assert_eq!(stats.tables[Table::Spans as usize].rows, 10);
    assert_eq!(stats.tables[Table::Psi as usize].rows, 0);
    assert_eq!(stats.committed.0, 0, "the log keeps what the broken table has not");
    drop(store);
    let (store, _) = Store::open(folder.path(), fast()).unwrap();
    store.flush().await.unwrap();
    for table in [Table::Spans, Table::Psi] {
        assert_eq!(ids(&store, table).await, range(10));
    }
}
