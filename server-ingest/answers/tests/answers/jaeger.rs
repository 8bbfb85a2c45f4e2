//! Jaeger's shapes: every answer against a schema of its model, the values against what was sent.

use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Status, span};
use serde_json::{Value, json};

use super::asking::{ask, each, try_ask};
use super::stored::{Stored, attribute, plain_span, request, span_id, store, text, trace_id, value, varied_requests};

/// What is wrong with `value` by the part of JSON Schema that the file uses, with `hex` for a number of digits and `values` for the members of
/// an object without fixed names.
fn faults(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let schema = schema["$ref"].as_str().map_or(schema, |name| &root["definitions"][name]);
    let is_of = |name: &str| match name {
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    if !types.iter().any(|name| is_of(name.as_str().unwrap())) {
        found.push(format!("{path} is not of {types:?}: {value}"));
    }
    if let (Some(allowed), true) = (schema["enum"].as_array(), true)
        && !allowed.contains(value)
    {
        found.push(format!("{path} is none of {allowed:?}: {value}"));
    }
    if let (Some(digits), Some(text)) = (schema["hex"].as_u64(), value.as_str())
        && (text.len() as u64 != digits || !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
    {
        found.push(format!("{path} is not {digits} digits: {text}"));
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        faults(root, &schema["items"], element, &format!("{path}[{index}]"), found);
    }
    let Some(members) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            found.push(format!("{path} has no {name}"));
        }
    }
    for (name, member) in members {
        let of = if schema["values"].is_null() { &schema["properties"][name] } else { &schema["values"] };
        if of.is_null() {
            found.push(format!("{path} has {name}, which the model has not"));
        } else {
            faults(root, of, member, &format!("{path}.{name}"), found);
        }
    }
}

fn assert_is_of_the_model(answer: &Value) {
    let schema: Value = serde_json::from_str(include_str!("jaeger.schema.json")).unwrap();
    let mut found = Vec::new();
    faults(&schema, &schema, answer, "answer", &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_schema_finds_faults() {
    let schema: Value = serde_json::from_str(include_str!("jaeger.schema.json")).unwrap();
    let wrong = json!({"data": [{"traceID": "xyz", "spans": [{"tags": [{"key": 1, "type": "int", "value": null}]}], "processes": {}, "more": 1}], "total": 1, "limit": 0, "offset": 0, "errors": null});
    let mut found = Vec::new();
    faults(&schema, &schema, &wrong, "answer", &mut found);
    for fault in [
        "answer.data[0].traceID is not 32 digits",
        "has no \"spanID\"",
        "type is none of",
        "value is not of",
        "key is not of",
        "has more, which",
    ] {
        assert!(found.iter().any(|text| text.contains(fault)), "{fault}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trace_is_of_jaegers_model() {
    let stored = store();
    for request in varied_requests(0..200) {
        stored.put(&request).await;
    }
    for service in ["gateway", "answerer", "scorer"] {
        let answer = ask(&stored.engine, &format!("jaeger/traces?service={service}&limit=100")).await;
        assert!(answer["data"].as_array().unwrap().len() > 50);
        assert_is_of_the_model(&answer);
    }
    assert_eq!(ask(&stored.engine, "jaeger/services").await["data"], json!(["answerer", "gateway", "scorer"]));
    let operations = ask(&stored.engine, "jaeger/operations?service=scorer&spanKind=server").await;
    assert!(operations["data"].as_array().unwrap().contains(&json!({"name": "operation 3", "spanKind": "server"})), "{operations}");
}

async fn one_span() -> Stored {
    let stored = store();
    let mut root = plain_span(0xabc, 1, 0, "POST /ask", 1_500, 2_000_500);
    root.kind = span::SpanKind::Server as i32;
    root.trace_state = "a=b".into();
    root.flags = 0x101;
    root.status = Some(Status { code: 2, message: "broken".into() });
    root.attributes = vec![
        attribute("n", Any::IntValue(200)),
        attribute("large", Any::IntValue(i64::MAX)),
        attribute("d", Any::DoubleValue(0.5)),
        attribute("nan", Any::DoubleValue(f64::NAN)),
        attribute("b", Any::BoolValue(true)),
        attribute("bytes", Any::BytesValue(vec![1, 2, 3])),
        attribute(
            "list",
            Any::ArrayValue(ArrayValue { values: vec![value(Any::IntValue(1)).unwrap(), value(Any::StringValue("x".into())).unwrap()] }),
        ),
    ];
    root.events = vec![span::Event {
        time_unix_nano: root.start_time_unix_nano + 3000,
        name: "retry".into(),
        attributes: vec![text("why", "slow")],
        ..span::Event::default()
    }];
    root.links = vec![span::Link { trace_id: trace_id(7).to_vec(), span_id: span_id(8), ..span::Link::default() }];
    stored.put(&request("gateway", vec![root, plain_span(0xabc, 2, 1, "child", 2_000, 1_000)])).await;
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_become_jaegers_as_opentelemetry_maps_them() {
    let stored = one_span().await;
    let answer = ask(&stored.engine, "jaeger/traces/abc").await;
    assert_is_of_the_model(&answer);
    let trace = &answer["data"][0];
    let text = |key: &str, value: &str| json!({"key": key, "type": "string", "value": value});
    assert_eq!(
        trace["spans"][0],
        json!({
            "traceID": "00000000000000000000000000000abc", "spanID": "0000000000000001", "flags": 1, "operationName": "POST /ask",
            "references": [{"refType": "FOLLOWS_FROM", "traceID": "00000000000000000000000000000007", "spanID": "0000000000000008"}],
            "startTime": 1_777_151_904_000_001_i64, "duration": 2000,
            "tags": [
                {"key": "n", "type": "int64", "value": 200}, text("large", "9223372036854775807"), {"key": "d", "type": "float64", "value": 0.5},
                text("nan", "NaN"), {"key": "b", "type": "bool", "value": true}, {"key": "bytes", "type": "binary", "value": "AQID"},
                text("list", "[1,\"x\"]"), text("span.kind", "server"), text("otel.status_code", "ERROR"),
                {"key": "error", "type": "bool", "value": true}, text("otel.status_description", "broken"), text("otel.scope.name", "tests"),
                text("otel.scope.version", "1"), text("w3c.tracestate", "a=b"),
            ],
            "logs": [{"timestamp": 1_777_151_904_000_004_i64, "fields": [text("event", "retry"), text("why", "slow")]}],
            "processID": "p1", "warnings": null,
        })
    );
    assert_eq!(
        trace["spans"][1]["references"],
        json!([{"refType": "CHILD_OF", "traceID": "00000000000000000000000000000abc", "spanID": "0000000000000001"}])
    );
    assert_eq!(trace["spans"][1].get("flags"), None, "Jaeger leaves out what is zero");
    assert_eq!(trace["processes"], json!({"p1": {"serviceName": "gateway", "tags": [text("k8s.pod.name", "pod-1")]}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_are_those_that_jaegers_clients_send() {
    let stored = one_span().await;
    let start = 1_777_151_904_000_000_i64;
    for (query, is_found) in [
        ("service=gateway".to_owned(), true),
        ("service=other".to_owned(), false),
        ("service=gateway&operation=child&lookback=1h&limit=20&maxDuration&minDuration".to_owned(), true),
        ("service=gateway&operation=other".to_owned(), false),
        (format!("service=gateway&start={start}&end={}", start + 10), true),
        (format!("service=gateway&start={}&end={}", start + 10, start + 20), false),
        ("service=gateway&minDuration=1.5ms&maxDuration=3ms".to_owned(), true),
        ("service=gateway&minDuration=1s".to_owned(), false),
        ("service=gateway&tags={\"error\":\"true\",\"n\":\"200\"}".to_owned(), true),
        ("service=gateway&tags={\"n\":\"20\"}".to_owned(), false),
        ("service=gateway&tag=span.kind:server&tag=k8s.pod.name:pod-1".to_owned(), true),
        ("service=gateway&tag=otel.status_code:OK".to_owned(), false),
        ("traceID=abc".to_owned(), true),
    ] {
        let answer = ask(&stored.engine, &format!("jaeger/traces?{query}")).await;
        assert_is_of_the_model(&answer);
        assert_eq!(each(&answer["data"], "traceID").len(), usize::from(is_found), "{query}");
    }
    for (question, expected) in [
        ("jaeger/traces?operation=x", "parameter 'service' is required"),
        ("jaeger/traces?service=gateway&tags=x", "tags is not a JSON object: expected value at line 1 column 1"),
        ("jaeger/traces?service=gateway&start=now", "start is not a whole number: \"now\""),
        ("jaeger/traces/xyz", "\"xyz\" is not a trace id"),
        ("jaeger/traces/abcd", "there is no trace \"abcd\""),
    ] {
        assert_eq!(try_ask(&stored.engine, question).await.unwrap_err().to_string(), expected, "{question}");
    }
}
