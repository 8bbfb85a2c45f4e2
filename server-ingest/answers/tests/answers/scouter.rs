//! Scouter's questions, above all where its own server goes wrong.

use std::collections::BTreeMap;

use scouter_answers::scouter::{self, GenAiMetrics, GenAiTable, TagsQuestion, TraceFilters, TraceMetricsQuestion};
use serde_json::{Value, json};

use super::asking::each;
use super::records::{put, tag};
use super::stored::{SECOND, START, Stored, attribute, plain_span, request, store, text, trace_id, value};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use scouter_query::{hex_text, micros_text};
use scouter_tonic::message::{TagRecord, monitoring_record::Record};

fn filters(json: Value) -> TraceFilters {
    serde_json::from_value(json).unwrap()
}

async fn paginated(stored: &Stored, body: Value) -> Value {
    let page = scouter::paginated(&stored.engine, filters(body.clone())).await.unwrap_or_else(|error| panic!("{body}: {error}"));
    serde_json::to_value(page).unwrap()
}

fn id(trace: u128) -> Value {
    hex_text(&trace_id(trace)).into()
}

fn failed(mut span: Span) -> Span {
    span.status = Some(Status { code: 2, message: "broken".into() });
    span
}

/// Traces 1 to 20, ten seconds apart; every fourth one failed in its child.
async fn twenty() -> Stored {
    let stored = store();
    for trace in 1..=20_u64 {
        let mut root = plain_span(u128::from(trace), 1, 0, "root", trace * 10 * SECOND, SECOND);
        root.attributes = vec![text("env", if trace % 2 == 0 { "prod" } else { "production" }), text("time", "12:30=x")];
        let child = plain_span(u128::from(trace), 2, 1, "child", trace * 10 * SECOND + 5, 100);
        stored.put(&request("gateway", vec![root])).await;
        stored.put(&request("answerer", vec![if trace % 4 == 0 { failed(child) } else { child }])).await;
    }
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_forth_and_back() {
    let stored = twenty().await;
    let pages = forth_and_back(&stored, 6).await;
    let forth: Vec<Value> = pages.iter().flat_map(|page| each(&page["items"], "trace_id")).collect();
    assert_eq!(forth, (1..=20).rev().map(id).collect::<Vec<_>>());
    assert_eq!(pages.iter().map(|page| page["has_previous"].clone()).collect::<Vec<_>>(), [false, true, true, true].map(Value::from));
    // Before no place there is nothing, so whoever turns back from none begins at the first.
    assert_eq!(paginated(&stored, json!({"limit": 6, "direction": "previous"})).await, pages[0]);
}

/// Of equal starts the ids say which is where, and more of them are equal than are read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_that_started_together_come_once_each_forth_and_back() {
    const EQUAL: u128 = 700;
    let stored = store();
    // Ids in another order than they are stored in. Of some a later span passes too.
    let ids: Vec<u128> = (0..EQUAL).map(|n| (n * 331) % 701 + 1).collect();
    for (index, part) in ids.chunks(350).enumerate() {
        let spans = part.iter().flat_map(|trace| {
            let later = trace.is_multiple_of(5).then(|| plain_span(*trace, 2, 1, "later", 3 * SECOND, 1));
            [Some(plain_span(*trace, 1, 0, "equal", SECOND, 1)), later].into_iter().flatten()
        });
        stored.put(&request("a", spans.collect())).await;
        if index == 0 {
            stored.store.flush().await.unwrap();
        }
    }
    stored.put(&request("a", vec![plain_span(9000, 1, 0, "newer", 2 * SECOND, 1), plain_span(9001, 1, 0, "older", 0, 1)])).await;
    let mut sorted = ids;
    sorted.sort_unstable();
    let expected: Vec<Value> = [9000].into_iter().chain(sorted).chain([9001]).map(id).collect();
    for limit in [37, 200, 701] {
        let pages = forth_and_back(&stored, limit).await;
        assert_eq!(pages.iter().flat_map(|page| each(&page["items"], "trace_id")).collect::<Vec<_>>(), expected, "{limit} a page");
    }
}

/// All pages, from the first to the last. The way back from the last meets the same ones.
async fn forth_and_back(stored: &Stored, limit: usize) -> Vec<Value> {
    let turned = |cursor: &Value, direction: &str| json!({"limit": limit, "cursor_start_time": cursor["start_time"], "cursor_trace_id": cursor["trace_id"], "direction": direction});
    let mut pages = vec![paginated(stored, json!({"limit": limit})).await];
    while pages[pages.len() - 1]["has_next"] == json!(true) {
        pages.push(paginated(stored, turned(&pages[pages.len() - 1]["next_cursor"], "next")).await);
    }
    let mut back = pages[pages.len() - 1].clone();
    for (number, expected) in pages.iter().enumerate().rev().skip(1) {
        back = paginated(stored, turned(&back["previous_cursor"], "previous")).await;
        assert_eq!(each(&back["items"], "trace_id"), each(&expected["items"], "trace_id"), "page {number} of {limit} on the way back");
        assert_eq!((&back["has_next"], &back["has_previous"]), (&json!(true), &json!(number > 0)), "page {number} of {limit}");
    }
    pages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_filters_are_of_whole_traces_and_whole_values() {
    let stored = twenty().await;
    let found = async |body: Value| each(&paginated(&stored, body).await["items"], "trace_id").len();
    for (body, expected) in [
        (json!({}), 20),
        (json!({"has_errors": true}), 5),
        (json!({"has_errors": false}), 15),
        (json!({"status_code": 2}), 5),
        // The service has no failed span, its traces have.
        (json!({"service_name": "gateway", "has_errors": true}), 5),
        (json!({"attribute_filters": ["env=prod"]}), 10),
        (json!({"attribute_filters": ["env:prod", "env=production"]}), 20),
        (json!({"attribute_filters": ["time=12:30=x"]}), 20),
        (json!({"attribute_filters": ["time=12"]}), 0),
        (json!({"trace_ids": [id(3), id(5)]}), 2),
        (json!({"trace_ids": []}), 0),
        // Traces began at both; the end is not of the range.
        (json!({"start_time": "2026-04-25T21:21:34Z", "end_time": "2026-04-25T21:21:44Z"}), 1),
        (json!({"start_time": "2026-04-25T21:21:34Z", "end_time": "2026-04-25T21:21:44.000000001Z"}), 2),
        (json!({"entity_uid": "x"}), 0),
    ] {
        assert_eq!(found(body.clone()).await, expected, "{body}");
    }
    let page = paginated(&stored, json!({"trace_ids": [id(4)]})).await;
    let item = &page["items"][0];
    assert_eq!(
        (&item["root_operation"], &item["service_name"], &item["scope_name"], &item["status_code"]),
        (&json!("root"), &json!("gateway"), &json!("tests"), &json!(2))
    );
    assert_eq!(
        (&item["span_count"], &item["error_count"], &item["has_errors"], &item["duration_ms"], &item["status_message"]),
        (&json!(2), &json!(1), &json!(true), &json!(1000), &json!("broken"))
    );
    assert_eq!(item["resource_attributes"][0], json!({"key": "service.name", "value": "gateway"}));
    assert_eq!((&item["start_time"], &item["end_time"]), (&json!("2026-04-25T21:19:04.000000Z"), &json!("2026-04-25T21:19:05.000000Z")));
    for body in [
        json!({"limit": 0}),
        json!({"cursor_trace_id": id(1)}),
        json!({"direction": "up"}),
        json!({"attribute_filters": ["x"]}),
        json!({"start_time": "now"}),
    ] {
        assert!(scouter::paginated(&stored.engine, filters(body.clone())).await.is_err(), "{body}");
    }
}

/// The root of a long trace comes last; still its name is the trace's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c12_a_late_root_is_still_the_root() {
    let stored = store();
    stored.put(&request("answerer", vec![plain_span(1, 2, 1, "child", 5, 5), plain_span(1, 3, 2, "child", 6, 2)])).await;
    let early = paginated(&stored, json!({})).await;
    assert_eq!(early["items"][0]["root_operation"], "child");
    stored.store.flush().await.unwrap();
    stored.put(&request("gateway", vec![plain_span(1, 1, 0, "the root", 0, 20)])).await;
    let late = paginated(&stored, json!({})).await;
    assert_eq!(
        (&late["items"][0]["root_operation"], &late["items"][0]["service_name"], &late["items"][0]["span_count"]),
        (&json!("the root"), &json!("gateway"), &json!(3))
    );
}

/// One answer never depends on what was asked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_spans_of_the_newest_trace_are_all_of_it_whatever_was_asked_before() {
    let stored = twenty().await;
    let narrowed =
        scouter::spans_of_newest(&stored.engine, filters(json!({"service_name": "answerer", "has_errors": true}))).await.unwrap();
    assert_eq!(narrowed.spans.iter().map(|span| span.span_name.as_str()).collect::<Vec<_>>(), ["root", "child"]);
    assert_eq!(hex_text(&narrowed.spans[0].trace_id.0), id(20));
    stored.put(&request("answerer", vec![plain_span(20, 3, 2, "late", 200 * SECOND + 6, 1)])).await;
    let again = scouter::spans_of_newest(&stored.engine, filters(json!({"service_name": "answerer", "has_errors": true}))).await.unwrap();
    assert_eq!(again.spans.len(), 3);
    assert!(scouter::spans_of_newest(&stored.engine, filters(json!({"service_name": "nobody"}))).await.unwrap().spans.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_are_found_by_tags_of_spans_and_of_records() {
    let stored = store();
    let tagged = |trace, key: &str, value: &str| {
        let mut span = plain_span(trace, 1, 0, "tagged", trace as u64, 1);
        span.attributes = vec![text(&format!("scouter.tracing.tag.{key}"), value)];
        span
    };
    stored
        .put(&request(
            "a",
            vec![tagged(1, "env", "prod"), tagged(2, "env", "dev"), tagged(3, "env", "prod"), plain_span(4, 1, 0, "by record", 4, 1)],
        ))
        .await;
    put(
        &stored,
        vec![
            tag("trace", &hex_text(&trace_id(4)), "env", "prod"),
            tag("trace", &hex_text(&trace_id(3)), "team", "x"),
            tag("profile", &hex_text(&trace_id(2)), "env", "prod"),
        ],
    )
    .await;
    let found = async |body: Value| {
        let question: TagsQuestion = serde_json::from_value(body).unwrap();
        scouter::spans_by_tags(&stored.engine, question).await.unwrap().spans.iter().map(|span| span.trace_id.0[15]).collect::<Vec<_>>()
    };
    let env = json!({"key": "env", "value": "prod"});
    let team = json!({"key": "team", "value": "x"});
    assert_eq!(found(json!({"entity_type": "trace", "tag_filters": [env], "match_all": false})).await, [1, 3, 4]);
    assert_eq!(found(json!({"tag_filters": [env, team], "match_all": true})).await, [3]);
    assert_eq!(found(json!({"tag_filters": [{"key": "env", "value": "pro"}]})).await, [0_u8; 0]);
    assert_eq!(found(json!({"tag_filters": [env], "service_name": "b"})).await, [0_u8; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c15_a_tag_that_is_given_anew_replaces_the_one_before() {
    let stored = store();
    let mut of_span = plain_span(1, 1, 0, "tagged", 1, 1);
    of_span.attributes = vec![text("scouter.tracing.tag.env", "staging")];
    stored.put(&request("a", vec![of_span, plain_span(2, 1, 0, "other", 2, 1)])).await;
    let given = |second: u64, trace, value: &str| {
        Record::Tag(TagRecord {
            created_at_unix_nano: START + second * SECOND,
            entity_type: "trace".into(),
            entity_id: hex_text(&trace_id(trace)),
            key: "env".into(),
            value: value.into(),
        })
    };
    let found = async |value: &str| {
        let question = json!({"tag_filters": [{"key": "env", "value": value}]});
        let question: TagsQuestion = serde_json::from_value(question).unwrap();
        scouter::spans_by_tags(&stored.engine, question).await.unwrap().spans.iter().map(|span| span.trace_id.0[15]).collect::<Vec<_>>()
    };
    assert_eq!(found("staging").await, [1]);
    // Whichever comes first.
    put(&stored, vec![given(2, 1, "prod"), given(1, 1, "test"), given(1, 2, "test")]).await;
    assert_eq!((found("prod").await, found("test").await, found("staging").await), (vec![1], vec![2], vec![]));
    stored.store.flush().await.unwrap();
    put(&stored, vec![given(3, 1, "test")]).await;
    assert_eq!((found("prod").await, found("test").await), (vec![], vec![1, 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c16_attributes_keep_their_types() {
    let stored = store();
    let mut span = plain_span(1, 1, 0, "typed", 0, 1);
    let list = ArrayValue { values: vec![value(Any::IntValue(1)).unwrap(), value(Any::StringValue("1".into())).unwrap()] };
    span.attributes = vec![
        KeyValue { key: "none".into(), ..KeyValue::default() },
        attribute("nan", Any::DoubleValue(f64::NAN)),
        attribute("yes", Any::BoolValue(true)),
        attribute("whole", Any::IntValue(200)),
        text("text", "200"),
        attribute("list", Any::ArrayValue(list)),
        attribute("map", Any::KvlistValue(KeyValueList { values: vec![attribute("inner", Any::DoubleValue(0.5))] })),
        attribute("scouter.tracing.tag.count", Any::IntValue(3)),
    ];
    stored.put(&request("a", vec![span])).await;
    let trace = scouter::spans_of_newest(&stored.engine, filters(json!({}))).await.unwrap();
    let found: Vec<(&str, &Value)> = trace.spans[0].attributes.iter().map(|attribute| (attribute.key.as_str(), &attribute.value)).collect();
    let expected = [
        ("none", Value::Null),
        ("nan", json!("NaN")),
        ("yes", json!(true)),
        ("whole", json!(200)),
        ("text", json!("200")),
        ("list", json!([1, "1"])),
        ("map", json!({"inner": 0.5})),
        ("scouter.tracing.tag.count", json!(3)),
    ];
    assert_eq!(found, expected.iter().map(|(key, value)| (*key, value)).collect::<Vec<_>>());
}

/// Names of what was found, in order, by the route that looks filters up and by the id.
async fn names(stored: &Stored, trace: u128) -> Vec<String> {
    let found = scouter::spans_of_newest(&stored.engine, filters(json!({"trace_ids": [id(trace)]}))).await.unwrap();
    assert_eq!(found, stored.engine.trace(trace_id(trace)).await.unwrap());
    found.spans.into_iter().map(|span| span.span_name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_spans_in_a_circle_come_once_each() {
    let stored = store();
    let spans = vec![
        plain_span(1, 1, 0, "a", 0, 9),
        plain_span(1, 1, 1, "a, its own parent", 1, 9),
        plain_span(1, 2, 3, "b", 2, 9),
        plain_span(1, 3, 2, "c", 3, 9),
        plain_span(1, 4, 4, "d, its own parent", 4, 9),
    ];
    stored.put(&request("a", spans)).await;
    let mut found = names(&stored, 1).await;
    found.sort_unstable();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with('a'));
    assert_eq!(found[1..], ["b", "c", "d, its own parent"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_a_chain_that_is_delivered_three_times_is_as_long_as_one() {
    const DEPTH: u64 = 60;
    let stored = store();
    for _ in 0..3 {
        stored.put(&request("a", (1..=DEPTH).map(|span| plain_span(1, span, span - 1, &format!("{span}"), span, 1)).collect())).await;
    }
    assert_eq!(names(&stored, 1).await, (1..=DEPTH).map(|span| span.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_chain_of_a_hundred_thousand_spans_is_answered() {
    const DEPTH: u64 = 100_000;
    let stored = store();
    for start in (1..=DEPTH).step_by(10_000) {
        stored.put(&request("a", (start..start + 10_000).map(|span| plain_span(1, span, span - 1, "level", span, DEPTH)).collect())).await;
    }
    let found = scouter::spans_of_newest(&stored.engine, filters(json!({}))).await.unwrap();
    let last = found.spans.last().unwrap();
    assert_eq!((found.spans.len() as u64, last.depth as u64), (DEPTH, DEPTH - 1));
    assert!(last.path.len() <= scouter_query::MAX_PATH, "a path does not grow with the depth");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn baggage_is_what_came_as_such() {
    let stored = store();
    let mut span = plain_span(1, 1, 0, "a", 0, 1);
    span.attributes = vec![text("baggage.user", "u1"), text("baggage.scouter.tracing.tag.env", "prod"), text("other", "x")];
    stored.put(&request("a", vec![span])).await;
    let answer = serde_json::to_value(scouter::baggage(&stored.engine, &hex_text(&trace_id(1))).await.unwrap()).unwrap();
    let row = |key: &str, value: &str| json!({"created_at": "2026-04-25T21:18:24.000000Z", "trace_id": id(1), "scope": "tests", "key": key, "value": value});
    assert_eq!(answer, json!({"baggage": [row("scouter.tracing.tag.env", "prod"), row("user", "u1")]}));
    assert!(scouter::baggage(&stored.engine, "x").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_five_minutes_are_five_minutes() {
    const FIVE_MINUTES: u64 = 300 * SECOND;
    let stored = store();
    // Of each bucket by its start: traces, failed ones, their milliseconds together.
    let mut buckets: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
    for trace in 0..40_u64 {
        let root = plain_span(u128::from(trace) + 1, 1, 0, "root", trace * 30 * SECOND, (trace + 1) * 1_000_000);
        let bucket = buckets.entry(root.start_time_unix_nano / FIVE_MINUTES * FIVE_MINUTES).or_default();
        *bucket = (bucket.0 + 1, bucket.1 + u64::from(trace % 10 == 0), bucket.2 + trace + 1);
        stored.put(&request(if trace < 20 { "a" } else { "b" }, vec![if trace % 10 == 0 { failed(root) } else { root }])).await;
    }
    let ask = async |body: Value| {
        let question: TraceMetricsQuestion = serde_json::from_value(body).unwrap();
        serde_json::to_value(scouter::trace_metrics(&stored.engine, question).await.unwrap()).unwrap()["metrics"].clone()
    };
    let range = json!({"start_time": "2026-04-25T21:00:00Z", "end_time": "2026-04-25T22:00:00Z", "bucket_interval": "5 minutes"});
    let metrics = ask(range.clone()).await;
    let starts: Vec<Value> = buckets.keys().map(|start| micros_text((start / 1000) as i64).into()).collect();
    assert_eq!(each(&metrics, "bucket_start"), starts);
    assert_eq!(starts[0], "2026-04-25T21:15:00.000000Z");
    for (metric, (traces, failed, millis)) in metrics.as_array().unwrap().iter().zip(buckets.values()) {
        assert_eq!(
            (&metric["trace_count"], &metric["error_rate"], &metric["avg_duration_ms"]),
            (&json!(traces), &json!(*failed as f64 / *traces as f64), &json!(*millis as f64 / *traces as f64)),
            "{metric}"
        );
    }
    let mut of_a = range;
    of_a["service_name"] = json!("a");
    assert_eq!(each(&ask(of_a).await, "trace_count").iter().filter_map(Value::as_u64).sum::<u64>(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn genai_metrics_have_scouters_shapes() {
    let stored = store();
    let mut span = plain_span(1, 1, 0, "chat", 0, 2_000_000);
    span.attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", "m"),
        text("gen_ai.provider.name", "p"),
        text("error.type", "E"),
    ];
    stored.put(&request("a", vec![failed(span)])).await;
    for (name, list, member, expected) in [
        ("tokens", "buckets", "span_count", json!(1)),
        ("operations", "operations", "operation_name", json!("chat")),
        ("models", "models", "provider_name", json!("p")),
        ("errors", "errors", "error_type", json!("E")),
    ] {
        let body = json!({"start_time": "2026-04-25T21:00:00Z", "end_time": "2026-04-25T22:00:00Z", "model": "m"});
        let question: GenAiMetrics = serde_json::from_value(body).unwrap();
        let answer = scouter::genai_metrics(&stored.engine, GenAiTable::from_name(name).unwrap(), question).await.unwrap();
        assert_eq!(serde_json::to_value(answer).unwrap()[list][0][member], expected, "{name}");
    }
}
