//! Rows, time and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use scouter_query::{CutSource, Engine, Limits, QueryError};
use scouter_storage::columns::Table;
use scouter_storage::store::{Cut, StoreError};
use serde_json::json;

use super::stored::{store_with, varied_requests};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_answer_is_whole_or_an_error() {
    let stored = store_with(HOUR, Limits { max_rows: 100, ..Limits::default() });
    for request in varied_requests(0..101) {
        stored.put(&request).await;
    }
    assert_eq!(stored.rows("SELECT name FROM spans LIMIT 100").await.len(), 100);
    let error = stored.error("SELECT name FROM spans").await;
    assert!(matches!(error, QueryError::TooManyRows { limit: 100 }), "{error:?}");
    assert_eq!(error.to_string(), "the answer has more than 100 rows; ask for fewer with WHERE, GROUP BY or LIMIT");
    let error = stored.error("SELECT * FROM generate_series(1, 1000000000000)").await;
    assert!(matches!(error, QueryError::TooManyRows { .. }), "{error:?}");
    assert_eq!(stored.value("SELECT count(*) FROM spans").await, json!(101), "what is counted is not an answer's row");
    assert!(stored.engine.trace([0; 16]).await.unwrap().spans.is_empty());
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped() {
    let stored = store_with(HOUR, Limits { timeout: Duration::from_millis(300), ..Limits::default() });
    let started = Instant::now();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i > 0) SELECT max(i) FROM n WHERE i < 0";
    let error = stored.error(endless).await;
    assert!(matches!(error, QueryError::Timeout { .. }), "{error:?}");
    let error = stored.error("SELECT count(*) FROM generate_series(1, 100000000000) a WHERE a.value % 7 = 8").await;
    assert!(matches!(error, QueryError::Timeout { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
    // Both had to make room: the threads are free again.
    assert_eq!(stored.value("SELECT 1").await, json!(1));
}

#[tokio::test]
async fn memory_is_shared_out_and_given_back() {
    let stored = store_with(HOUR, Limits { memory_bytes: 4 << 20, ..Limits::default() });
    for sql in [
        "SELECT count(*) FROM (SELECT DISTINCT value % 7000000 FROM generate_series(1, 10000000))",
        "SELECT value, value + 1, value + 2 FROM generate_series(1, 900000)",
        "SELECT array_agg(value) FROM generate_series(1, 10000000)",
        "SELECT max(value) FROM (SELECT value FROM generate_series(1, 10000000) ORDER BY -value) WHERE value % 2 = 0 GROUP BY value",
    ] {
        let error = stored.error(sql).await;
        assert!(matches!(error, QueryError::Memory { .. }), "{sql}: {error:?}");
        assert!(error.to_string().contains("4 MiB"), "{error}");
    }
    assert_eq!(stored.rows("SELECT value FROM generate_series(1, 10000)").await.len(), 10_000);
}

/// Cuts that never come, counting who still waits.
#[derive(Default)]
struct Stuck(Arc<AtomicUsize>);

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CutSource for Stuck {
    fn cut(&self, _: Table) -> BoxFuture<'_, Result<Cut, StoreError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(Arc::clone(&self.0));
        Box::pin(async move {
            let _waiting = waiting;
            std::future::pending().await
        })
    }
}

async fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_dropped_question_is_not_worked_on() {
    let stuck = Stuck::default();
    let waiting = Arc::clone(&stuck.0);
    let engine = Arc::new(Engine::new(Arc::new(stuck), Limits { concurrent_queries: 2, ..Limits::default() }));
    let ask = |sql: &'static str| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.sql(sql).await })
    };
    let (first, second) = (ask("SELECT * FROM spans"), ask("SELECT * FROM tags"));
    wait_until("two queries run", || waiting.load(Ordering::SeqCst) == 2).await;
    let third = ask("SELECT * FROM psi_drift");
    // A query without a turn takes no cut.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(waiting.load(Ordering::SeqCst), 2);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    second.abort();
    wait_until("two are gone, the third has its turn", || waiting.load(Ordering::SeqCst) == 1).await;
    third.abort();
    wait_until("all are gone", || waiting.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn an_engine_can_be_dropped_while_queries_run() {
    let stuck = Stuck::default();
    let waiting = Arc::clone(&stuck.0);
    let engine = Engine::new(Arc::new(stuck), Limits::default());
    let asked = tokio::time::timeout(Duration::from_millis(50), engine.sql("SELECT * FROM spans")).await;
    assert!(asked.is_err(), "it hangs");
    drop(engine);
    wait_until("nothing waits", || waiting.load(Ordering::SeqCst) == 0).await;
}
