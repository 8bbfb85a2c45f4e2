//! The span all benchmarks of this crate use.

use std::time::{Duration, UNIX_EPOCH};

use scouter_exporter::{
    opentelemetry::{
        InstrumentationScope, KeyValue,
        trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
    },
    opentelemetry_sdk::{
        Resource,
        trace::{SpanData, SpanEvents, SpanLinks},
    },
};

/// Nine attributes, an event on three of ten spans: about 470 bytes encoded.
pub(crate) fn span(index: u64) -> SpanData {
    let mut events = SpanEvents::default();
    if index % 10 < 3 {
        let attributes = vec![KeyValue::new("gen_ai.choice.index", 0_i64), KeyValue::new("gen_ai.choice.finish_reason", "stop")];
        events.events.push(Event::new("gen_ai.choice", UNIX_EPOCH + Duration::from_secs(1_700_000_000), attributes, 0));
    }
    let mix = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(u128::from(mix) << 64 | u128::from(index + 1)),
            SpanId::from(mix | 1),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::from(mix.rotate_left(17) | 1),
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "POST /v1/chat/completions".into(),
        start_time: UNIX_EPOCH + Duration::new(1_700_000_000, (mix % 1_000_000_000) as u32),
        end_time: UNIX_EPOCH + Duration::new(1_700_000_001, (mix % 1_000_000_000) as u32),
        attributes: vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", "/v1/chat/completions"),
            KeyValue::new("http.response.status_code", 200_i64),
            KeyValue::new("server.address", "gateway.internal.example.com"),
            KeyValue::new("gen_ai.request.model", "large-model-2025"),
            KeyValue::new("gen_ai.usage.input_tokens", (mix % 4000) as i64),
            KeyValue::new("gen_ai.request.temperature", 0.7),
            KeyValue::new("db.query.text", format!("SELECT * FROM documents WHERE id = {}", mix % 100_000)),
            KeyValue::new("app.cache_hit", index.is_multiple_of(2)),
        ],
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        status: Status::Ok,
        instrumentation_scope: InstrumentationScope::builder("bench").with_version("1.0.0").build(),
    }
}

/// The resource of the process that makes them.
pub(crate) fn resource() -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "bench"),
            KeyValue::new("service.version", "1.2.3"),
            KeyValue::new("host.name", "node-17"),
            KeyValue::new("k8s.pod.name", "bench-7d9c5b8f6d-x2x4p"),
            KeyValue::new("telemetry.sdk.language", "rust"),
            KeyValue::new("deployment.environment.name", "production"),
        ])
        .build()
}
