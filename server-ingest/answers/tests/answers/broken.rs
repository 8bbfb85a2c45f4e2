//! Traces whose spans do not make a tree.

use serde_json::{Value, json};

use super::asking::{ask, each, try_ask};
use super::stored::{plain_span, request, store};

fn placed(trace: &Value) -> Vec<(Value, Value, Value)> {
    let spans = &trace["spans"];
    each(spans, "span_id")
        .into_iter()
        .zip(each(spans, "parent_index"))
        .zip(each(spans, "depth"))
        .map(|((id, parent), depth)| (id, parent, depth))
        .collect()
}

fn id(number: u64) -> Value {
    format!("{number:016x}").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_duplicates_and_orphans_come_once_each() {
    let stored = store();
    let spans = vec![
        plain_span(1, 1, 0, "root", 0, 10),
        plain_span(1, 2, 1, "child", 1, 5),
        plain_span(1, 2, 1, "child", 1, 5),
        plain_span(1, 3, 99, "orphan", 2, 5),
        plain_span(1, 4, 4, "its own parent", 3, 5),
        plain_span(1, 5, 6, "circle", 4, 5),
        plain_span(1, 6, 5, "circle", 5, 5),
    ];
    stored.put(&request("a", spans.clone())).await;
    stored.store.flush().await.unwrap();
    // The same again, half of it in memory.
    stored.put(&request("a", spans)).await;
    let trace = ask(&stored.engine, "traces/00000000000000000000000000000001").await;
    let null = Value::Null;
    let expected = [
        (id(1), null.clone(), json!(0)),
        (id(2), json!(0), json!(1)),
        (id(3), null.clone(), json!(0)),
        (id(4), null.clone(), json!(0)),
        (id(5), null, json!(0)),
        (id(6), json!(4), json!(1)),
    ];
    assert_eq!(placed(&trace), expected);
    assert_eq!(trace["span_count"], 6);
    assert_eq!(ask(&stored.engine, "traces").await["traces"][0]["span_count"], 6);
    let jaeger = ask(&stored.engine, "jaeger/traces/1").await;
    assert_eq!(jaeger["data"][0]["spans"].as_array().unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_a_hundred_thousand_spans_is_shown() {
    const DEPTH: u64 = 100_000;
    let stored = store();
    for start in (0..DEPTH).step_by(10_000) {
        stored.put(&request("deep", (start..start + 10_000).map(|n| plain_span(1, n + 1, n, "level", n, DEPTH)).collect())).await;
    }
    stored.store.flush().await.unwrap();
    let trace = ask(&stored.engine, "traces/00000000000000000000000000000001").await;
    assert_eq!((&trace["detail"], &trace["span_count"]), (&json!("lean"), &json!(DEPTH)));
    let last = &trace["spans"][DEPTH as usize - 1];
    assert_eq!((&last["depth"], &last["parent_index"], &last["span_id"]), (&json!(DEPTH - 1), &json!(DEPTH - 2), &id(DEPTH)));
    assert_eq!(last.get("attributes"), None);
    let graph = ask(&stored.engine, "service-graph?start=2026-04-25T00:00:00Z&end=2026-04-28T00:00:00Z").await;
    assert_eq!((&graph["sampled_one_in"], &graph["nodes"][0]["span_count"]), (&json!(1), &json!(DEPTH)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_is_said_by_name() {
    let stored = store();
    stored.put(&request("a", vec![plain_span(1, 1, 0, "root", 0, 10)])).await;
    for (question, expected) in [
        ("traces/00000000000000000000000000000002", "there is no trace \"00000000000000000000000000000002\""),
        ("traces/00000000000000000000000000000001/spans/0000000000000002", "there is no span \"0000000000000002\""),
        ("traces/00000000000000000000000000000002/genai", "there is no trace \"00000000000000000000000000000002\""),
        ("genai/conversations/c", "there is no conversation \"c\""),
        ("records/other", "there is no kind of record \"other\""),
        ("traces/xyz", "\"xyz\" is not a trace id"),
        ("records/psi", "entity is missing"),
        ("series?by=whatever", "by is not one: \"whatever\""),
        (
            "series?start=2020-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&bucket=1s",
            "the answer has more than 2000 rows; ask for fewer with WHERE, GROUP BY or LIMIT",
        ),
        ("services?limit=3", "there is no parameter \"limit\" here"),
    ] {
        let error = try_ask(&stored.engine, question).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{question}");
        assert!(!error.suggested_action().is_empty());
    }
    assert_eq!(ask(&stored.engine, "traces/00000000000000000000000000000001/genai").await["steps"], json!([]));
}
