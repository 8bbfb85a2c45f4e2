//! A log that somebody beside the tables reads.

use tempfile::TempDir;

use super::frames::spans;
use super::{DEADLINE, Store, StoreError, StoreOptions, fast, wait_until};
use crate::log::{LogError, Position};

fn held() -> StoreOptions {
    StoreOptions { hold_log: true, log_max_bytes: 256 * 1024, ..fast() }
}

fn positions_after(store: &Store, after: u64) -> Vec<u64> {
    store.frames_after(Position(after)).unwrap().map(|frame| frame.unwrap().0.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_log_keeps_its_frames_until_they_are_let_go() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path(), held()).unwrap();
    let mut last = 0;
    let refused = loop {
        match store.append(spans(last * 100..last * 100 + 100)).await {
            Ok(position) => last = position.0,
            Err(error) => break error,
        }
        store.flush().await.unwrap();
    };
    assert!(matches!(refused, StoreError::Log(LogError::BudgetExhausted { .. })), "{refused}");
    assert_eq!(positions_after(&store, 0), (1..=last).collect::<Vec<_>>());
    assert_eq!(positions_after(&store, last - 1), [last]);

    // A restart changes nothing about it.
    store.shutdown(DEADLINE).await.unwrap();
    drop(store);
    let (store, recovery) = Store::open(folder.path(), held()).unwrap();
    assert_eq!((recovery.last.0, positions_after(&store, 0).len() as u64), (last, last));

    store.let_go(Position(last));
    let first = || store.frames_after(Position(0)).unwrap().next().unwrap();
    wait_until("the log is trimmed", || first().is_err()).await;
    assert!(matches!(first(), Err(LogError::MissingSegment { expected: 1, .. })));
    store.append(spans(last * 100..last * 100 + 100)).await.unwrap();
    store.wait_after(Position(last)).await.unwrap();
    assert_eq!(positions_after(&store, last), [last + 1]);
    store.shutdown(DEADLINE).await.unwrap();
}
