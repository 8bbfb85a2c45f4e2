//! The view with Scouter's columns.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Status, span};
use serde_json::{Value, json};

use super::stored::{START, Stored, attribute, plain_span, request, store, text, varied_requests};

const NAMES: [&str; 24] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "flags",
    "trace_state",
    "scope_name",
    "scope_version",
    "service_name",
    "span_name",
    "span_kind",
    "start_time",
    "end_time",
    "duration_ms",
    "status_code",
    "status_message",
    "label",
    "attributes",
    "resource_attributes",
    "events",
    "links",
    "input",
    "output",
    "search_blob",
    "partition_date",
];

async fn filled() -> Stored {
    let stored = store();
    let mut first = plain_span(1, 1, 0, "ask", 1_999, 2_500_000);
    first.flags = 0x8000_0101;
    first.trace_state = "a=b".into();
    first.kind = span::SpanKind::Client as i32;
    first.status = Some(Status { code: 2, message: "broken".into() });
    first.attributes = vec![
        text("scouter.tracing.input", "{\"question\": 1}"),
        text("scouter.tracing.output", "plain words"),
        attribute("ratio", Any::DoubleValue(0.5)),
        attribute("bytes", Any::BytesValue(vec![1, 2, 3])),
    ];
    first.events.push(span::Event {
        time_unix_nano: START + 5_999,
        name: "retry".into(),
        attributes: vec![text("why", "timeout")],
        dropped_attributes_count: 3,
    });
    first.links.push(span::Link { trace_id: vec![7; 16], span_id: vec![8; 8], trace_state: "x".into(), ..span::Link::default() });
    stored.put(&request("gateway", vec![first])).await;
    stored.store.flush().await.unwrap();
    // An end before its start, and nothing else.
    let mut second = plain_span(2, 2, 1, "score", 0, 0);
    second.end_time_unix_nano = second.start_time_unix_nano - 5_000_000;
    stored.put(&request("scorer", vec![second])).await;
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_has_scouters_columns_with_their_types() {
    let stored = filled().await;
    let described = stored.rows("DESCRIBE trace_spans").await;
    assert_eq!(described.iter().map(|row| row[0].as_str().unwrap()).collect::<Vec<_>>(), NAMES);
    let types = stored
        .rows(
            "SELECT arrow_typeof(flags), arrow_typeof(span_name), arrow_typeof(end_time), arrow_typeof(duration_ms), arrow_typeof(input), \
             arrow_typeof(search_blob), arrow_typeof(partition_date), arrow_typeof(label), arrow_typeof(service_name), \
             arrow_typeof(scope_version) FROM trace_spans LIMIT 1",
        )
        .await;
    let expected =
        ["Int32", "Utf8", "Timestamp(µs, \"UTC\")", "Int64", "Utf8View", "Utf8View", "Date32", "Utf8", "Dictionary(Int32, Utf8)", "Utf8"];
    assert_eq!(types[0], expected.map(Value::from));
    let nested = stored.rows("SELECT arrow_typeof(attributes), arrow_typeof(events), arrow_typeof(links) FROM trace_spans LIMIT 1").await;
    for (text, parts) in nested[0].iter().zip([
        &["Map", "key", "Utf8", "value", "Utf8View"][..],
        &["List", "Struct", "name", "timestamp", "dropped_attributes_count", "UInt32"],
        &["List", "FixedSizeBinary(16)", "FixedSizeBinary(8)", "UInt32"],
    ]) {
        parts.iter().for_each(|part| assert!(text.as_str().unwrap().contains(part), "{text}: {part}"));
    }
    assert!(stored.rows("SHOW TABLES").await.iter().any(|row| row.contains(&json!("trace_spans"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_and_hot_spans_are_shown_as_scouter_has_them() {
    let stored = filled().await;
    let rows = stored
        .rows(
            "SELECT hex(trace_id), hex(parent_span_id), flags, trace_state, scope_name, scope_version, service_name, span_name, span_kind, \
             duration_ms, status_code, status_message, label, input, output, search_blob, partition_date FROM trace_spans ORDER BY span_id",
        )
        .await;
    assert_eq!(
        rows[0],
        [
            json!("00000000000000000000000000000001"),
            Value::Null,
            json!(0x8000_0101_u32 as i32),
            json!("a=b"),
            json!("tests"),
            json!("1"),
            json!("gateway"),
            json!("ask"),
            json!("CLIENT"),
            json!(2),
            json!(2),
            json!("broken"),
            Value::Null,
            json!("{\"question\": 1}"),
            json!("\"plain words\""),
            json!(
                "|gateway| |ask| |tests| |2| |scouter.tracing.input={\"question\": 1}| |scouter.tracing.output=plain words| |ratio=0.5| |bytes=AQID| |retry|"
            ),
            json!("2026-04-25"),
        ]
    );
    assert_eq!(rows[1][9..15], [json!(0), json!(0), Value::Null, Value::Null, json!("null"), json!("null")]);
    let times = stored.rows("SELECT start_time, end_time FROM trace_spans ORDER BY span_id").await;
    let text = |value: &Value| value.as_str().unwrap().trim_end_matches('Z').to_owned();
    assert!(text(&times[0][0]).ends_with("24.000001"), "{times:?}");
    assert!(text(&times[0][1]).ends_with("24.002501"), "{times:?}");
    assert!(text(&times[1][1]).contains("23.995"), "{times:?}");
    let nested = stored
        .rows(
            "SELECT map_extract(attributes, 'ratio')[1], map_extract(resource_attributes, 'k8s.pod.name')[1], events[1]['name'], \
             events[1]['timestamp'], map_extract(events[1]['attributes'], 'why')[1], events[1]['dropped_attributes_count'], \
             hex(links[1]['trace_id']), hex(links[1]['span_id']), links[1]['trace_state'] FROM trace_spans ORDER BY span_id LIMIT 1",
        )
        .await;
    assert_eq!(nested[0][..3], [json!("0.5"), json!("\"pod-1\""), json!("retry")]);
    assert!(text(&nested[0][3]).ends_with("24.000005"), "{nested:?}");
    assert_eq!(nested[0][4..], [json!("\"timeout\""), json!(3), json!("07".repeat(16)), json!("08".repeat(8)), json!("x")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_to_the_view_count_the_same_spans_as_to_the_table() {
    let stored = store();
    for request in varied_requests(0..200) {
        stored.put(&request).await;
    }
    stored.store.flush().await.unwrap();
    for request in varied_requests(200..300) {
        stored.put(&request).await;
    }
    for (view, table) in [
        ("SELECT count(*) FROM trace_spans", "SELECT count(*) FROM spans"),
        ("SELECT count(*) FROM trace_spans WHERE trace_id = X'00000000000000000000000000000005'", "SELECT 3"),
        ("SELECT count(*) FROM trace_spans WHERE span_name = 'operation 1'", "SELECT count(*) FROM spans WHERE name = 'operation 1'"),
        (
            "SELECT count(*) FROM trace_spans WHERE search_blob LIKE '%|http.route=/ask|%'",
            "SELECT count(*) FROM spans WHERE http_route = '/ask'",
        ),
        (
            "SELECT count(*) FROM scouter.public.trace_spans WHERE cardinality(events) > 0",
            "SELECT count(*) FROM spans WHERE cardinality(events) > 0",
        ),
        ("SELECT count(*) FROM trace_spans t JOIN spans s ON s.span_id = t.span_id", "SELECT count(*) FROM spans"),
    ] {
        assert_eq!(stored.value(view).await, stored.value(table).await, "{view}");
    }
    assert_eq!(stored.rows("SELECT * FROM trace_spans").await.len(), 300);
    let plan = stored.rows("EXPLAIN SELECT span_name FROM trace_spans WHERE trace_id = X'00000000000000000000000000000005'").await;
    let plan = plan.iter().flatten().filter_map(Value::as_str).collect::<String>();
    assert!(plan.contains("pruning_predicate") || plan.contains("predicate=trace_id"), "the filter reaches the files: {plan}");
}
