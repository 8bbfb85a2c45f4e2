//! Single values of answers: types of attributes, buckets, edges.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::Status;
use scouter_query::{Engine, Limits, QueryError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

use super::asking::{ask, each};
use super::stored::{SECOND, attribute, plain_span, request, store, store_with, text, value, varied_requests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_keep_their_types_order_and_repetitions() {
    let stored = store();
    let mut span = plain_span(1, 1, 0, "typed", 10, 0);
    span.end_time_unix_nano = span.start_time_unix_nano - 5;
    let list = ArrayValue { values: vec![value(Any::IntValue(1)).unwrap(), value(Any::BoolValue(false)).unwrap()] };
    let map = KeyValueList { values: vec![text("inner", "x"), attribute("$odd", Any::DoubleValue(f64::NEG_INFINITY))] };
    span.attributes = vec![
        attribute("i", Any::IntValue(i64::MIN)),
        attribute("d", Any::DoubleValue(2.0)),
        text("s", "2"),
        text("s", "again"),
        attribute("bytes", Any::BytesValue(vec![255])),
        attribute("list", Any::ArrayValue(list)),
        attribute("map", Any::KvlistValue(map)),
        attribute("none", Any::StringValue(String::new())),
        text("scouter.tracing.input", "{\"question\":1}"),
    ];
    span.attributes[7].value = None;
    stored.put(&request("a", vec![span])).await;
    let answer = ask(&stored.engine, "traces/00000000000000000000000000000001/spans/0000000000000001").await;
    assert_eq!(
        answer["attributes"],
        json!([
            {"key": "i", "type": "int", "value": "-9223372036854775808"},
            {"key": "d", "type": "double", "value": 2.0},
            {"key": "s", "type": "string", "value": "2"},
            {"key": "s", "type": "string", "value": "again"},
            {"key": "bytes", "type": "bytes", "value": "/w=="},
            {"key": "list", "type": "array", "value": [{"type": "int", "value": "1"}, {"type": "bool", "value": false}]},
            {"key": "map", "type": "map", "value": [{"key": "inner", "type": "string", "value": "x"}, {"key": "$odd", "type": "double", "value": "-Infinity"}]},
            {"key": "none", "type": "null", "value": null},
            {"key": "scouter.tracing.input", "type": "string", "value": "{\"question\":1}"},
        ])
    );
    assert_eq!((&answer["input"], &answer["output"], &answer["duration_nano"]), (&json!({"question": 1}), &Value::Null, &json!("-5")));
    assert_eq!(answer["resource"]["attributes"][0], json!({"key": "service.name", "type": "string", "value": "a"}));
    assert_eq!(answer.get("parent_index"), None);
    let keys = ask(&stored.engine, "attributes").await;
    let of_s = keys["attributes"].as_array().unwrap().iter().find(|key| key["key"] == "s").unwrap();
    assert_eq!(of_s, &json!({"key": "s", "where": ["span"], "types": [{"type": "string", "count": 2}], "count": 2}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_count_every_span_once_in_its_bucket() {
    let stored = store();
    let spans = (0..100).map(|n| {
        let mut span = plain_span(n as u128 + 1, 1, 0, if n < 90 { "fast" } else { "slow" }, n * SECOND, (n + 1) * 1_000_000);
        span.status = (n % 10 == 0).then(|| Status { code: 2, message: String::new() });
        span
    });
    stored.put(&request("a", spans.collect())).await;
    // 21:18:24 is 4 s behind a bucket of ten.
    let series = ask(&stored.engine, "series?start=2026-04-25T21:18:00Z&end=2026-04-25T21:21:00Z&bucket=10s").await;
    let points = &series["groups"][0]["points"];
    assert_eq!(each(points, "count"), [6, 10, 10, 10, 10, 10, 10, 10, 10, 10, 4]);
    assert_eq!(each(points, "error_count").iter().filter_map(Value::as_u64).sum::<u64>(), 10);
    let total = &series["groups"][0]["total"];
    let nanos = |name: &str| total[name].as_str().unwrap().parse::<f64>().unwrap();
    for (name, wanted) in [("p50_nano", 50e6), ("p95_nano", 95e6), ("p99_nano", 99e6), ("max_nano", 100e6)] {
        assert!((nanos(name) - wanted).abs() <= wanted * 0.01, "{name}: {}", nanos(name));
    }
    let grouped = ask(&stored.engine, "series?by=operation&limit=1").await;
    assert_eq!(each(&grouped["groups"], "group"), [json!("fast"), Value::Null]);
    assert_eq!(each(&grouped["groups"], "is_rest"), [false, true]);
    assert_eq!((&grouped["groups"][0]["total"]["count"], &grouped["groups"][1]["total"]["count"]), (&json!(90), &json!(10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_are_calls_between_services() {
    let stored = store();
    stored.put(&request("gateway", vec![plain_span(1, 1, 0, "in", 0, 100), plain_span(1, 2, 1, "call", 1, 50)])).await;
    let mut failed = plain_span(1, 3, 2, "serve", 2, 40);
    failed.status = Some(Status { code: 2, message: String::new() });
    stored.put(&request("answerer", vec![failed.clone(), plain_span(1, 4, 3, "inside", 3, 10)])).await;
    stored.store.flush().await.unwrap();
    stored.put(&request("answerer", vec![failed])).await;
    let graph = ask(&stored.engine, "service-graph").await;
    assert_eq!(
        graph["edges"],
        json!([{"caller": "gateway", "callee": "answerer", "call_count": 1, "error_count": 1, "p50_nano": "40", "p95_nano": "40", "p99_nano": "40"}])
    );
    assert_eq!(
        graph["nodes"],
        json!([
            {"service": "answerer", "span_count": 2, "error_count": 1, "entry_count": 1},
            {"service": "gateway", "span_count": 2, "error_count": 0, "entry_count": 1},
        ])
    );
    let jaeger = ask(&stored.engine, "jaeger/dependencies?lookback=864000000").await;
    assert_eq!(jaeger["data"], json!([{"parent": "gateway", "child": "answerer", "callCount": 1}]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_keep_to_the_limits() {
    let stored = store_with(Duration::from_secs(3600), Limits { memory_bytes: 64 << 10, ..Limits::default() });
    for request in varied_requests(0..3000) {
        stored.put(&request).await;
    }
    let refused = super::asking::try_ask(&stored.engine, "traces?limit=200").await.unwrap_err();
    assert!(refused.to_string().contains("MiB"), "{refused}");
    let few = Engine::new(Arc::clone(&stored.store) as _, Limits { max_rows: 2, ..Limits::default() });
    let refused = super::asking::try_ask(&few, "traces/00000000000000000000000000000001?detail=full").await.unwrap_err();
    assert!(matches!(refused, scouter_answers::AnswerError::Query(QueryError::TooManyRows { limit: 2 })), "{refused}");
}
