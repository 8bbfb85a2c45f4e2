//! One trace from the store.

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::{Status, span};
use scouter_query::{Trace, trace_tree};
use serde_json::json;

use super::stored::{SECOND, Stored, attribute, plain_span, request, span_id, store, text, trace_id, value, varied_requests};

const MILLI: u64 = 1_000_000;

async fn put_distributed_trace(stored: &Stored) {
    let gateway = plain_span(9, 1, 0, "POST /ask", 0, 40 * MILLI);
    let mut answerer = plain_span(9, 2, 1, "chat small-model", 5 * MILLI, 21 * MILLI);
    answerer.kind = span::SpanKind::Client as i32;
    answerer.attributes = vec![
        text("gen_ai.request.model", "small-model"),
        attribute("gen_ai.usage.input_tokens", Any::IntValue(12)),
        attribute("nan", Any::DoubleValue(f64::NAN)),
        attribute("raw", Any::BytesValue(vec![1, 2, 3])),
        attribute(
            "list",
            Any::ArrayValue(ArrayValue { values: vec![value(Any::BoolValue(true)).unwrap(), value(Any::DoubleValue(1.0)).unwrap()] }),
        ),
        attribute("map", Any::KvlistValue(KeyValueList { values: vec![text("$odd", "x"), text("plain", "y")] })),
        text("scouter.tracing.input", "{\"question\":\"why\"}"),
        text("scouter.tracing.output", "because"),
    ];
    answerer.events = vec![span::Event {
        time_unix_nano: answerer.start_time_unix_nano + 1500,
        name: "token".into(),
        attributes: vec![text("k", "v")],
        dropped_attributes_count: 2,
    }];
    answerer.links =
        vec![span::Link { trace_id: trace_id(5).to_vec(), span_id: span_id(6), trace_state: "a=b".into(), ..span::Link::default() }];
    let mut scorer = plain_span(9, 3, 1, "score", 30 * MILLI, 4 * MILLI);
    scorer.status = Some(Status { code: 2, message: "the answer is empty".into() });
    // Sent by three processes, the last first, the gateway twice.
    stored.put(&request("scorer", vec![scorer])).await;
    stored.put(&request("gateway", vec![gateway.clone()])).await;
    stored.put(&request("answerer", vec![answerer])).await;
    stored.put(&request("gateway", vec![gateway])).await;
}

fn names(trace: &Trace) -> Vec<(&str, i32, usize)> {
    trace.spans.iter().map(|span| (span.span_name.as_str(), span.depth, span.path.len())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_its_tree_wherever_its_rows_lie() {
    let (hot, cold, mixed) = (store(), store(), store());
    for stored in [&hot, &cold, &mixed] {
        for request in varied_requests(0..60) {
            stored.put(&request).await;
        }
    }
    mixed.store.flush().await.unwrap();
    for stored in [&hot, &cold, &mixed] {
        put_distributed_trace(stored).await;
    }
    cold.store.flush().await.unwrap();

    let trace = hot.engine.trace(trace_id(9)).await.unwrap();
    let of_nine: Vec<_> = trace.spans.iter().filter(|span| span.span_name.starts_with("operation")).collect();
    assert_eq!(of_nine.len(), 3, "the varied spans have a trace 9 too");
    assert_eq!(cold.engine.trace(trace_id(9)).await.unwrap(), trace);
    assert_eq!(mixed.engine.trace(trace_id(9)).await.unwrap(), trace);
    assert_eq!(hot.engine.trace([0xff; 16]).await.unwrap(), Trace::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_have_scouters_shape() {
    let stored = store();
    put_distributed_trace(&stored).await;
    let trace = stored.engine.trace(trace_id(9)).await.unwrap();
    assert_eq!(names(&trace), [("POST /ask", 0, 1), ("chat small-model", 1, 2), ("score", 1, 2)]);
    let shown = serde_json::to_value(&trace).unwrap();
    assert_eq!(
        shown["spans"][1],
        json!({
            "trace_id": "00000000000000000000000000000009",
            "span_id": "0000000000000002",
            "parent_span_id": "0000000000000001",
            "span_name": "chat small-model",
            "span_kind": "CLIENT",
            "start_time": "2026-04-25T21:18:24.005000Z",
            "end_time": "2026-04-25T21:18:24.026000Z",
            "duration_ms": 21,
            "duration_nano": 21_000_000,
            "status_code": 0,
            "status_message": null,
            "attributes": [
                { "key": "gen_ai.request.model", "value": "small-model" },
                { "key": "gen_ai.usage.input_tokens", "value": 12 },
                { "key": "nan", "value": "NaN" },
                { "key": "raw", "value": "AQID" },
                { "key": "list", "value": [true, 1.0] },
                { "key": "map", "value": { "$odd": "x", "plain": "y" } },
                { "key": "scouter.tracing.input", "value": "{\"question\":\"why\"}" },
                { "key": "scouter.tracing.output", "value": "because" },
            ],
            "events": [{ "timestamp": "2026-04-25T21:18:24.005001Z", "name": "token", "attributes": [{ "key": "k", "value": "v" }], "dropped_attributes_count": 2 }],
            "links": [{ "trace_id": "00000000000000000000000000000005", "span_id": "0000000000000006", "trace_state": "a=b", "attributes": [], "dropped_attributes_count": 0 }],
            "depth": 1,
            "path": ["0000000000000001", "0000000000000002"],
            "root_span_id": "0000000000000001",
            "service_name": "answerer",
            "span_order": 1,
            "input": { "question": "why" },
            "output": "because",
        })
    );
    assert_eq!(shown["spans"][2]["status_message"], "the answer is empty");
    assert_eq!(serde_json::from_value::<Trace>(shown).unwrap(), trace, "a client reads back what a server wrote");
    assert_eq!(
        trace_tree(&trace),
        "gateway  POST /ask  40.0 ms\n\
         ├─ answerer  chat small-model  21.0 ms  gen_ai.request.model=small-model gen_ai.usage.input_tokens=12\n\
         └─ scorer  score  4.0 ms  ERROR the answer is empty\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_many_thousand_spans_is_answered() {
    const DEPTH: u64 = 20_000;
    let stored = store();
    for start in (1..=DEPTH).step_by(5000) {
        let spans = (start..start + 5000).map(|id| plain_span(3, id, id - 1, "step", id, SECOND)).collect();
        stored.put(&request("chain", spans)).await;
    }
    let trace = stored.engine.trace(trace_id(3)).await.unwrap();
    assert_eq!(trace.spans.len() as u64, DEPTH);
    let last = trace.spans.last().unwrap();
    assert_eq!((last.depth as u64, last.path.len()), (DEPTH - 1, scouter_query::MAX_PATH));
    assert_eq!(last.root_span_id, trace.spans[0].span_id);
    assert_eq!(trace_tree(&trace).lines().count() as u64, DEPTH);
}
