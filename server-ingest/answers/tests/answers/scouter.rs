//! Scouter's questions, above all where its own server goes wrong.

use scouter_answers::scouter::{self, GenAiMetrics, GenAiTable, TagsQuestion, TraceFilters, TraceMetricsQuestion};
use serde_json::{Value, json};

use super::asking::each;
use super::records::{put, tag};
use super::stored::{SECOND, START, Stored, plain_span, request, store, text, trace_id};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use scouter_query::hex_text;

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
    let mut pages: Vec<Value> = Vec::new();
    let mut body = json!({"limit": 6});
    loop {
        let page = paginated(&stored, body.clone()).await;
        pages.push(page.clone());
        if page["has_next"] == json!(false) {
            break;
        }
        let cursor = &page["next_cursor"];
        body = json!({"limit": 6, "cursor_start_time": cursor["start_time"], "cursor_trace_id": cursor["trace_id"], "direction": "next"});
    }
    let forth: Vec<Value> = pages.iter().flat_map(|page| each(&page["items"], "trace_id")).collect();
    assert_eq!(forth, (1..=20).rev().map(id).collect::<Vec<_>>());
    assert_eq!(pages.iter().map(|page| page["has_previous"].clone()).collect::<Vec<_>>(), [false, true, true, true].map(Value::from));

    let mut back = pages.pop().unwrap();
    while let Some(expected) = pages.pop() {
        let cursor = &back["previous_cursor"];
        let body =
            json!({"limit": 6, "cursor_start_time": cursor["start_time"], "cursor_trace_id": cursor["trace_id"], "direction": "previous"});
        back = paginated(&stored, body).await;
        assert_eq!(back["items"], expected["items"]);
        assert_eq!((&back["has_next"], &back["has_previous"]), (&json!(true), &json!(!pages.is_empty())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_are_of_whole_traces_and_whole_values() {
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
        (json!({"start_time": "2026-04-25T21:21:34Z", "end_time": "2026-04-25T21:21:44Z"}), 2),
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
async fn a_late_root_is_still_the_root() {
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
async fn spans_of_the_newest_trace_are_all_of_it() {
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
async fn five_minutes_are_five_minutes() {
    let stored = store();
    for trace in 0..40_u64 {
        let root = plain_span(u128::from(trace) + 1, 1, 0, "root", trace * 30 * SECOND, (trace + 1) * 1_000_000);
        stored.put(&request(if trace < 20 { "a" } else { "b" }, vec![if trace % 10 == 0 { failed(root) } else { root }])).await;
    }
    let ask = async |body: Value| {
        let question: TraceMetricsQuestion = serde_json::from_value(body).unwrap();
        serde_json::to_value(scouter::trace_metrics(&stored.engine, question).await.unwrap()).unwrap()["metrics"].clone()
    };
    let range = json!({"start_time": "2026-04-25T21:00:00Z", "end_time": "2026-04-25T22:00:00Z", "bucket_interval": "5 minutes"});
    let metrics = ask(range.clone()).await;
    assert_eq!(
        each(&metrics, "bucket_start"),
        ["15", "20", "25", "30", "35"].map(|minute| json!(format!("2026-04-25T21:{minute}:00.000000Z")))
    );
    assert_eq!(each(&metrics, "trace_count"), [4, 10, 10, 10, 6]);
    assert_eq!((&metrics[1]["error_rate"], &metrics[1]["avg_duration_ms"]), (&json!(0.1), &json!(9.5)));
    let mut of_a = range;
    of_a["service_name"] = json!("a");
    assert_eq!(each(&ask(of_a).await, "trace_count").iter().filter_map(Value::as_u64).sum::<u64>(), 20);
    assert_eq!(START % SECOND, 0);
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
