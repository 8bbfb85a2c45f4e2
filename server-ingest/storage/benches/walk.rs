//! What a span costs between the wire and an Arrow batch, against prost's message structs of the same bytes in one run.
//!
//! `cargo bench -p scouter-storage --bench walk`; the line `bytes a span` says what was measured on.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use scouter_storage::columns::Columns;
use scouter_storage::otlp::{Envelope, judge};

const SPANS_A_REQUEST: u64 = 512;

/// Requests in one batch of columns; 16 requests are 8192 rows.
const REQUESTS_A_BATCH: u64 = 16;

fn walk(criterion: &mut Criterion) {
    let requests: Vec<Vec<u8>> = (0..REQUESTS_A_BATCH).map(|seed| request(seed).encode_to_vec()).collect();
    let bytes: usize = requests.iter().map(Vec::len).sum();
    let spans = SPANS_A_REQUEST * REQUESTS_A_BATCH;
    println!("bytes a span: {:.0}", bytes as f64 / spans as f64);

    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(spans)).sample_size(40).measurement_time(Duration::from_secs(6));
    group.bench_function("prost decode and drop", |bencher| {
        bencher.iter(|| {
            for payload in &requests {
                black_box(ExportTraceServiceRequest::decode(payload.as_slice()).expect("bytes of a request"));
            }
        });
    });
    group.bench_function("judge", |bencher| {
        bencher.iter(|| {
            for payload in &requests {
                black_box(judge(payload, Envelope::Otlp).expect("bytes of a request"));
            }
        });
    });
    // The builders live on from batch to batch, as they do in the server; batches are dropped outside the time.
    let mut columns = Columns::new();
    group.bench_function("append and finish", |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                for payload in &requests {
                    columns.append(payload, Envelope::Otlp, &[], &[]);
                }
                columns.finish()
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("judge, append and finish, a batch a request", |bencher| {
        bencher.iter(|| {
            for payload in &requests {
                let verdict = judge(payload, Envelope::Otlp).expect("bytes of a request");
                columns.append(payload, Envelope::Otlp, &[], &[]);
                black_box((verdict, columns.finish()));
            }
        });
    });
    group.finish();
}

/// 512 spans of nine attributes: HTTP, database, code, GenAI; every third has an event.
fn request(seed: u64) -> ExportTraceServiceRequest {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let spans = (0..SPANS_A_REQUEST).map(|index| span(index, &mut random)).collect();
    let scope =
        InstrumentationScope { name: "checkout.tracing".to_owned(), version: "1.4.2".to_owned(), ..InstrumentationScope::default() };
    let attributes = vec![
        text("service.name", "checkout"),
        text("service.version", "2026.11.3"),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.version", "0.33.1"),
        text("k8s.pod.name", "checkout-6c9f7d5b4-x2x7q"),
    ];
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }] }
}

fn span(index: u64, random: &mut impl FnMut() -> u64) -> Span {
    let start = 1_795_000_000_000_000_000 + index * 1_000_000;
    let is_call = index.is_multiple_of(4);
    let attributes = if is_call {
        vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "openai"),
            text("gen_ai.request.model", ["gpt-4o", "gpt-4o-mini"][(random() % 2) as usize]),
            text("gen_ai.conversation.id", &format!("conv-{:016x}", random())),
            attribute("gen_ai.usage.input_tokens", Value::IntValue((random() % 4000) as i64)),
            attribute("gen_ai.usage.output_tokens", Value::IntValue((random() % 900) as i64)),
            attribute("gen_ai.request.temperature", Value::DoubleValue((random() % 100) as f64 / 100.0)),
            attribute("gen_ai.request.stream", Value::BoolValue(random().is_multiple_of(2))),
            text("server.address", "api.openai.example.com"),
        ]
    } else {
        vec![
            text("http.request.method", ["GET", "POST"][(random() % 2) as usize]),
            attribute("http.response.status_code", Value::IntValue(200 + (random() % 5) as i64)),
            text("http.route", "/api/v1/orders/{order_id}/items"),
            text("url.path", &format!("/api/v1/orders/{}/items", random() % 100_000)),
            text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"),
            text("code.function.name", "checkout::orders::items::list"),
            attribute("code.line.number", Value::IntValue((random() % 900) as i64)),
            text("network.peer.address", "10.32.114.7"),
            attribute("app.cache.hit_ratio", Value::DoubleValue((random() % 1000) as f64 / 1000.0)),
        ]
    };
    let events = if index.is_multiple_of(3) {
        vec![Event {
            time_unix_nano: start + 500,
            name: "cache.lookup".to_owned(),
            attributes: vec![text("cache.key", "orders:items"), attribute("cache.hit", Value::BoolValue(true))],
            dropped_attributes_count: 0,
        }]
    } else {
        Vec::new()
    };
    Span {
        trace_id: [random(), random()].map(u64::to_le_bytes).concat(),
        span_id: (random() | 1).to_le_bytes().to_vec(),
        parent_span_id: if index.is_multiple_of(8) { Vec::new() } else { (random() | 1).to_le_bytes().to_vec() },
        name: ["GET /orders", "chat gpt-4o", "SELECT orders", "publish order"][(index % 4) as usize].to_owned(),
        kind: 1 + (index % 5) as i32,
        flags: 257,
        start_time_unix_nano: start,
        end_time_unix_nano: start + random() % 50_000_000,
        attributes,
        events,
        status: Some(Status { message: String::new(), code: (index % 2) as i32 }),
        ..Span::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

criterion_group!(benches, walk);
criterion_main!(benches);
