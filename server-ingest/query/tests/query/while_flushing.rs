//! Every acknowledged row once, while rows move from memory into files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use scouter_query::Limits;
use serde_json::json;

use super::stored::{request, store_with, trace_id, varied_span};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_missed_or_seen_twice() {
    const SPANS: u64 = 3000;
    const PER_REQUEST: u64 = 20;
    let stored = Arc::new(store_with(Duration::from_millis(5), Limits::default()));
    let (acked, is_done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));

    let writer = {
        let (stored, acked, is_done) = (Arc::clone(&stored), Arc::clone(&acked), Arc::clone(&is_done));
        tokio::spawn(async move {
            for start in (0..SPANS).step_by(PER_REQUEST as usize) {
                stored.put(&request("writer", (start..start + PER_REQUEST).map(varied_span).collect())).await;
                acked.store(start + PER_REQUEST, Ordering::SeqCst);
                if start.is_multiple_of(200) {
                    stored.store.flush().await.unwrap();
                }
            }
            is_done.store(true, Ordering::SeqCst);
        })
    };

    let mut saw_part = false;
    while !is_done.load(Ordering::SeqCst) {
        let before = acked.load(Ordering::SeqCst);
        let row = stored
            .rows("SELECT count(*), count(DISTINCT span_id), (SELECT count(*) FROM spans) AS again FROM spans WHERE duration_nano >= 0")
            .await
            .remove(0);
        let after = acked.load(Ordering::SeqCst) + PER_REQUEST;
        assert_eq!(row[0], row[1], "no row twice");
        assert_eq!(row[0], row[2], "both mentions of the table see the same rows");
        let seen = row[0].as_u64().unwrap();
        assert!((before..=after).contains(&seen), "{before} were acknowledged, {seen} seen, {after} sent");
        saw_part |= seen > 0 && seen < SPANS;
        if before > 0 {
            let trace = stored.engine.trace(trace_id(1 + u128::from(before - 1) / 3)).await.unwrap();
            assert!(!trace.spans.is_empty(), "an acknowledged span is found by its trace at once");
        }
    }
    writer.await.unwrap();
    assert!(saw_part, "queries ran in between");
    stored.store.flush().await.unwrap();
    assert_eq!(stored.value("SELECT count(DISTINCT span_id) FROM spans").await, json!(SPANS));
    assert_eq!(stored.value("SELECT count(*) FROM spans").await, json!(SPANS));
}
