//! The answer does not depend on where the rows lie, nor on whether they move meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scouter_answers::scouter;
use scouter_storage::store::MaintenanceOptions;
use serde_json::Value;

use super::asking::ask;
use super::stored::{Stored, maintained_store, request, store, varied_requests, varied_span};

const SPANS: u64 = 600;

const QUESTIONS: &[&str] = &[
    "services",
    "services?start=2026-04-26T00:00:00Z",
    "operations",
    "operations?service=gateway&status=error",
    "attributes",
    "attributes?q=GEN_AI",
    "attributes/http.route/values",
    "attributes/number/values?limit=7&q=1",
    "attributes/service/values",
    "attributes/status/values",
    "attributes/exception.type/values",
    "traces",
    "traces?sort=slowest&limit=17",
    "traces?attr=http.route[string]=/ask&attr=is_even=true&limit=9",
    "traces?status=error&root=true",
    "traces?text=BROKEN",
    "traces?min_duration=100ms&max_duration=200ms&service=scorer&service=answerer",
    "traces/00000000000000000000000000000005",
    "traces/00000000000000000000000000000005?detail=lean",
    "traces/00000000000000000000000000000003/spans/0000000000000008",
    "series",
    "series?by=service",
    "series?start=2026-04-25T21:00:00Z&end=2026-04-27T00:00:00Z",
    "series?by=service&bucket=30m&start=2026-04-25T21:00:00Z&end=2026-04-27T00:00:00Z",
    "series?by=http.route&limit=2&attr=ratio[double]<40&start=2026-04-25T21:00:00Z&end=2026-04-27T00:00:00Z",
    "series?by=status&start=2026-04-25T21:00:00Z&end=2026-04-27T00:00:00Z",
    "service-graph?start=2026-04-25T00:00:00Z&end=2026-04-28T00:00:00Z",
    "genai/summary",
    "genai/summary?start=2026-04-25T21:00:00Z&end=2026-04-27T00:00:00Z",
    "genai/models",
    "genai/errors",
    "genai/conversations?limit=20",
    "genai/conversations/trace:00000000000000000000000000000005",
    "jaeger/services",
    "jaeger/operations?service=scorer",
    "jaeger/traces?service=scorer&limit=5&tags={\"http.route\":\"/\"}",
    "jaeger/dependencies?lookback=864000000",
];

async fn put(stored: &Stored, range: std::ops::Range<u64>) {
    for request in varied_requests(range) {
        stored.put(&request).await;
    }
}

async fn answers(stored: &Stored) -> Vec<Value> {
    let mut answers = Vec::new();
    for question in QUESTIONS {
        answers.push(ask(&stored.engine, question).await);
    }
    answers
}

fn assert_same(what: &str, found: &[Value], expected: &[Value]) {
    for ((question, found), expected) in QUESTIONS.iter().zip(found).zip(expected) {
        assert_eq!(found, expected, "{what}: {question}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_stored_and_merged_rows_give_the_same_answers() {
    let hot = store();
    put(&hot, 0..SPANS).await;
    let expected = answers(&hot).await;
    for (question, answer) in QUESTIONS.iter().zip(&expected) {
        // One span may well have no link; a list of what was asked for is never empty here.
        let is_empty = |list: &Value| !question.contains("/spans/") && list.as_array().is_some_and(Vec::is_empty);
        assert!(
            !answer.as_object().unwrap().values().any(is_empty) || question.contains("genai/errors"),
            "{question} finds something: {answer}"
        );
    }

    let maintenance =
        MaintenanceOptions { interval: Duration::ZERO, merge_min_age: Duration::ZERO, rest: 0.0, ..MaintenanceOptions::default() };
    let mixed = maintained_store(maintenance);
    for range in [0..100, 100..240, 240..241] {
        put(&mixed, range).await;
        mixed.store.flush().await.unwrap();
    }
    put(&mixed, 241..SPANS).await;
    assert_same("mixed", &answers(&mixed).await, &expected);
    mixed.store.flush().await.unwrap();
    assert_same("stored", &answers(&mixed).await, &expected);
    mixed.store.maintain().await.unwrap();
    assert_same("merged", &answers(&mixed).await, &expected);
}

/// Everything of the first spans stays as it is while others come, are flushed and merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_while_rows_are_flushed_and_merged_are_those_at_rest() {
    const BEFORE: u64 = 300;
    let until = "2026-04-25T21:50:00Z";
    let questions = [
        format!("traces?end={until}&limit=200"),
        format!("traces?end={until}&sort=slowest&limit=50"),
        format!("traces?end={until}&attr=number=120"),
        format!("series?start=2026-04-25T21:00:00Z&end={until}&by=service"),
        format!("services?end={until}"),
        format!("operations?end={until}"),
        format!("attributes?end={until}"),
        format!("attributes/http.route/values?end={until}"),
        format!("service-graph?start=2026-04-25T21:00:00Z&end={until}"),
        format!("genai/summary?start=2026-04-25T21:00:00Z&end={until}"),
        format!("genai/models?end={until}"),
        format!("genai/errors?end={until}"),
        format!("genai/conversations?end={until}&limit=20"),
        "genai/conversations/trace:00000000000000000000000000000005".to_owned(),
        "traces/00000000000000000000000000000009".to_owned(),
        "jaeger/traces/9".to_owned(),
        "jaeger/traces?service=scorer&start=1777151904000000&end=1777153800000000&limit=5".to_owned(),
    ];
    // Merges whatever there is, deletes at once.
    let stored = Arc::new(maintained_store(MaintenanceOptions {
        interval: Duration::ZERO,
        merge_min_files: 2,
        merge_min_age: Duration::ZERO,
        rest: 0.0,
        delete_grace: Duration::ZERO,
        sweep_interval: Duration::ZERO,
        ..MaintenanceOptions::default()
    }));
    put(&stored, 0..BEFORE).await;
    let mut expected = Vec::new();
    for question in &questions {
        expected.push(ask(&stored.engine, question).await);
    }
    let of_others = async || {
        let question =
            || serde_json::json!({"start_time": "2026-04-25T21:00:00Z", "end_time": until, "bucket_interval": "5 minutes", "limit": 20});
        let engine = &stored.engine;
        let page = scouter::paginated(engine, serde_json::from_value(question()).unwrap()).await.unwrap();
        let metrics = scouter::trace_metrics(engine, serde_json::from_value(question()).unwrap()).await.unwrap();
        let spans = scouter::genai_spans(engine, serde_json::from_value(question()).unwrap()).await.unwrap();
        let sql = "SELECT service_name, count(*), sum(duration_nano), max(attributes) FROM spans \
                   WHERE start_time < arrow_cast('2026-04-25T21:50:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))') GROUP BY 1 ORDER BY 1";
        serde_json::json!([page, metrics, spans, stored.rows(sql).await])
    };
    let expected_of_others = of_others().await;
    let is_done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stored, is_done) = (Arc::clone(&stored), Arc::clone(&is_done));
        tokio::spawn(async move {
            // Later than the range by their number, so that no answer above may change.
            for start in (2000..4000).step_by(20) {
                stored.put(&request("writer", (start..start + 20).map(varied_span).collect())).await;
                stored.store.flush().await.unwrap();
                if start % 100 == 0 {
                    stored.store.maintain().await.unwrap();
                }
            }
            is_done.store(true, Ordering::SeqCst);
        })
    };
    let mut rounds = 0;
    while !is_done.load(Ordering::SeqCst) || rounds == 0 {
        for (question, expected) in questions.iter().zip(&expected) {
            assert_eq!(&ask(&stored.engine, question).await, expected, "{question}");
        }
        assert_eq!(of_others().await, expected_of_others);
        rounds += 1;
    }
    writer.await.unwrap();
    let stats = stored.store.stats().maintenance;
    assert!(stats.merges > 3 && stats.files_deleted > 0, "files were merged and deleted meanwhile: {stats:?}");
}
