//! Spans as the benchmarks of the tables store them.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use scouter_storage::log::{BatchId, Door, Frame};
use scouter_storage::otlp::Envelope;

pub(crate) const SPANS_A_REQUEST: u64 = 512;
pub(crate) const START_NANOS: u64 = 1_767_225_600_000_000_000;

/// A request with the spans from `first` on.
pub(crate) fn frame(first: u64) -> Frame {
    Frame {
        door: Door::OtlpGrpc,
        envelope: Envelope::Otlp,
        received_unix_nano: START_NANOS,
        batch_id: BatchId::default(),
        rejected_spans: Vec::new(),
        rejected_records: Vec::new(),
        payload: Bytes::from(request(first).encode_to_vec()),
    }
}

/// 512 spans of nine attributes: HTTP, database, code, GenAI; every third has an event, every eighth a link.
fn request(first: u64) -> ExportTraceServiceRequest {
    let mut state = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let service = ["checkout", "cart", "answerer", "gateway", "scorer"][(first / SPANS_A_REQUEST % 5) as usize];
    let mut trace = [0; 16];
    let mut parent = Vec::new();
    let mut spans = Vec::new();
    for number in first..first + SPANS_A_REQUEST {
        if number % 8 == 0 {
            trace[..8].copy_from_slice(&random().to_be_bytes());
            trace[8..].copy_from_slice(&(random() | 1).to_be_bytes());
            parent = Vec::new();
        }
        let span_id = (random() | 1).to_be_bytes().to_vec();
        let start = START_NANOS + number * 100_000 + random() % 50_000;
        let end = start + 1_000_000 + random() % 80_000_000;
        let code = [200, 200, 200, 404, 500][(random() % 5) as usize];
        spans.push(Span {
            trace_id: trace.to_vec(),
            span_id: span_id.clone(),
            parent_span_id: std::mem::replace(&mut parent, span_id),
            name: ["GET /items/{id}", "POST /pay", "chat", "SELECT items"][(random() % 4) as usize].to_owned(),
            kind: (number % 5 + 1) as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes: vec![
                text("http.request.method", "GET"),
                attribute("http.response.status_code", Value::IntValue(code)),
                text("url.path", &format!("/items/{}", random() % 10_000)),
                text("db.system.name", "postgresql"),
                text("db.query.text", "SELECT * FROM items WHERE id = $1"),
                attribute("gen_ai.usage.input_tokens", Value::IntValue((random() % 4000) as i64)),
                attribute("score", Value::DoubleValue((random() % 1000) as f64 / 7.0)),
                attribute("cache.hit", Value::BoolValue(random().is_multiple_of(2))),
                attribute("labels", Value::ArrayValue(ArrayValue { values: vec![string("a"), string("ü")] })),
            ],
            events: (number % 3 == 0)
                .then(|| Event {
                    time_unix_nano: start + 500_000,
                    name: "retry".to_owned(),
                    attributes: vec![text("why", "timeout")],
                    ..Event::default()
                })
                .into_iter()
                .collect(),
            links: (number % 8 == 0)
                .then(|| Link { trace_id: trace.to_vec(), span_id: vec![1; 8], ..Link::default() })
                .into_iter()
                .collect(),
            status: (code == 500).then(|| Status { code: 2, message: "boom".to_owned() }),
            ..Span::default()
        });
    }
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", service), text("service.version", "1.2.3"), text("host.name", "host-1")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "bench".to_owned(),
                    version: "0.1".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn string(value: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.to_owned())) }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
