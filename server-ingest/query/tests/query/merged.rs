//! Lookups by trace id open few files, and questions are answered while files are merged and deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scouter_storage::columns::Table;
use scouter_storage::store::MaintenanceOptions;
use serde_json::{Value, json};

use super::stored::{Stored, maintained_store, request, trace_id, varied_span};

/// Merges whatever there is, deletes at once.
fn eager(interval: Duration) -> MaintenanceOptions {
    MaintenanceOptions {
        interval,
        merge_min_files: 2,
        merge_min_age: Duration::ZERO,
        rest: 0.0,
        delete_grace: Duration::ZERO,
        sweep_interval: Duration::ZERO,
        ..MaintenanceOptions::default()
    }
}

async fn files_opened(stored: &Stored, filter: &str) -> usize {
    let plan = stored.rows(&format!("EXPLAIN SELECT name FROM spans WHERE {filter}")).await;
    let text: String = plan.iter().flatten().filter_map(Value::as_str).collect();
    text.matches(".parquet").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_by_trace_opens_only_the_files_that_have_it() {
    let stored = maintained_store(eager(Duration::ZERO));
    for file in 0..20_u64 {
        // Each trace has three spans of one file; even numbers are a day later, so there are two files a flush.
        stored.put(&request("service", (file * 30..file * 30 + 30).map(varied_span).collect())).await;
        stored.store.flush().await.unwrap();
    }
    let files = stored.store.cut(Table::Spans).await.unwrap().snapshot.files.len();
    assert_eq!(files, 40);
    for round in 0..3 {
        for trace in [1_u128, 57, 113, 200] {
            let id = format!("X'{trace:032x}'");
            let opened = files_opened(&stored, &format!("trace_id = {id}")).await;
            assert!((1..=2).contains(&opened), "round {round}: {opened} files for trace {trace}");
            assert_eq!(stored.engine.trace(trace_id(trace)).await.unwrap().spans.len(), 3);
            assert_eq!(stored.value(&format!("SELECT count(*) FROM spans WHERE trace_id = {id} AND status_code >= 0")).await, json!(3));
        }
        let two = "trace_id IN (X'00000000000000000000000000000001', X'00000000000000000000000000000039')";
        assert!((2..=4).contains(&files_opened(&stored, two).await));
        assert_eq!(stored.value(&format!("SELECT count(*) FROM spans WHERE {two}")).await, json!(6));
        assert_eq!(files_opened(&stored, "trace_id = X'ffffffffffffffffffffffffffffffff'").await, 0);
        let either = "trace_id = X'00000000000000000000000000000001' OR name = 'operation 1'";
        // A plan names ten of them at most.
        assert!(files_opened(&stored, either).await == if round < 2 { 10 } else { 2 }, "a filter that needs no trace prunes nothing");
        if round == 0 {
            // Indexes that are gone are made again.
            let folder = stored.folder().join("tables/spans/_trace_index");
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 40);
            std::fs::remove_dir_all(&folder).unwrap();
        } else if round == 1 {
            stored.store.maintain().await.unwrap();
        }
    }
    assert_eq!(stored.value("SELECT count(*) FROM spans").await, json!(600));
    assert_eq!(stored.store.cut(Table::Spans).await.unwrap().snapshot.files.len(), 2, "one file a day after the merge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_during_merges_are_those_at_rest() {
    let stored = Arc::new(maintained_store(eager(Duration::from_millis(1))));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (stored, done) = (Arc::clone(&stored), Arc::clone(&done));
            tokio::spawn(async move {
                let mut answers = 0;
                while !done.load(Ordering::SeqCst) {
                    if reader == 0 {
                        let trace = stored.engine.trace(trace_id(1)).await.unwrap();
                        assert!(trace.spans.is_empty() || trace.spans.len() == 3);
                    } else {
                        let sql =
                            "SELECT count(*), count(DISTINCT span_id), min(attributes) IS NULL FROM spans WHERE length(attributes) > 0";
                        let rows = stored.rows(sql).await;
                        assert_eq!(rows[0][0], rows[0][1], "a span is there twice");
                        assert_eq!(rows[0][0].as_i64().unwrap() % 30, 0, "a request is there in part");
                    }
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut requests = 0;
    while requests < 60 || stored.store.stats().maintenance.merges < 15 {
        stored.put(&request("service", (requests * 30..requests * 30 + 30).map(varied_span).collect())).await;
        stored.store.flush().await.unwrap();
        requests += 1;
        assert!(requests < 10_000, "{:?}", stored.store.stats());
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 3);
    }
    assert_eq!(stored.value("SELECT count(*) FROM spans").await, json!(requests * 30));
    assert!(stored.store.stats().maintenance.files_deleted > 0);
}
