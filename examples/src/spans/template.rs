//! Encoded spans with the places to patch.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{Span, Status, span::Event},
};
use prost::Message;

use super::{Size, mix, put_len_key};

// Marks that stand in a template where a real value goes. Each occurs once, so that it can be found.
const TRACE_ID: [u8; 16] = [0xa1; 16];
const SPAN_ID: [u8; 8] = [0xa2; 8];
const PARENT_SPAN_ID: [u8; 8] = [0xa3; 8];
const START_TIME: u64 = u64::from_le_bytes([0xa4; 8]);
const END_TIME: u64 = u64::from_le_bytes([0xa5; 8]);
const EVENT_TIME: u64 = u64::from_le_bytes([0xa6; 8]);
const REQUEST_ID: &str = "@request-id-32-bytes-hex-digits@";

/// One encoded `Span` and the offsets of what is patched in it.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) bytes: Vec<u8>,
    pub(super) trace_id: usize,
    pub(super) span_id: usize,
    pub(super) parent_span_id: Option<usize>,
    pub(super) start_time: usize,
    pub(super) end_time: usize,
    pub(super) event_time: Option<usize>,
    pub(super) request_id: usize,
}

impl Template {
    pub(super) fn new(variant: u64, size: Size, has_parent: bool) -> Self {
        let bytes = span(variant, size, has_parent).encode_to_vec();
        let find = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
        let place = |mark: &[u8]| find(mark).expect("every span has this mark");
        Self {
            trace_id: place(&TRACE_ID),
            span_id: place(&SPAN_ID),
            parent_span_id: find(&PARENT_SPAN_ID),
            start_time: place(&START_TIME.to_le_bytes()),
            end_time: place(&END_TIME.to_le_bytes()),
            event_time: find(&EVENT_TIME.to_le_bytes()),
            request_id: place(REQUEST_ID.as_bytes()),
            bytes,
        }
    }
}

/// The field `resource` of `ResourceSpans`, one for each service.
pub(super) fn resources() -> Vec<Vec<u8>> {
    ["checkout", "assistant", "catalogue", "ranking"]
        .iter()
        .enumerate()
        .map(|(index, service)| {
            field(&Resource {
                attributes: vec![
                    string("service.name", service),
                    string("service.version", "1.4.2"),
                    string("service.instance.id", &format!("{service}-7d9f8b6c5-{index:05}")),
                    string("deployment.environment.name", "production"),
                    string("k8s.pod.name", &format!("{service}-7d9f8b6c5-{index:05}")),
                    string("telemetry.sdk.language", "rust"),
                ],
                ..Resource::default()
            })
        })
        .collect()
}

/// The field `scope` of `ScopeSpans`.
pub(super) fn scope() -> Vec<u8> {
    field(&InstrumentationScope {
        name: "scouter.loadgen".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    })
}

/// `message` as field 1 of the message around it.
fn field(message: &impl Message) -> Vec<u8> {
    let content = message.encode_to_vec();
    let mut bytes = Vec::with_capacity(content.len() + 4);
    put_len_key(&mut bytes, 1, content.len());
    bytes.extend_from_slice(&content);
    bytes
}

fn span(variant: u64, size: Size, has_parent: bool) -> Span {
    let pick = |salt: u64, upto: u64| mix(variant ^ (salt << 32)) % upto;
    let failed = pick(1, 50) == 0;
    let mut attributes = vec![
        string("request.id", REQUEST_ID),
        string("http.request.method", ["GET", "POST", "PUT"][pick(2, 3) as usize]),
        string("http.route", ["/v1/chat/completions", "/v1/embeddings", "/api/orders/{id}"][pick(3, 3) as usize]),
        int("http.response.status_code", if failed { 500 } else { 200 }),
        string(
            "url.full",
            [
                "https://api-0.internal.example/v1/chat/completions?stream=true&tier=standard",
                "https://api-1.internal.example/v1/rank?documents=40&language=en&tier=standard",
            ][pick(4, 2) as usize],
        ),
        string(
            "gen_ai.request.model",
            ["gpt-4o-mini-2024-07-18", "claude-sonnet-4-20250514", "llama-3.3-70b-instruct"][pick(5, 3) as usize],
        ),
        int("gen_ai.usage.input_tokens", 200 + pick(6, 2000) as i64),
        double("score.relevance", pick(7, 1000) as f64 / 1000.0),
        bool("cache.hit", pick(8, 4) == 0),
    ];
    let mut events = Vec::new();
    if size == Size::Medium || pick(9, 3) == 0 {
        events.push(event("token.first", vec![int("token.index", 0)]));
    }
    match size {
        Size::Small => {}
        Size::Medium => attributes.extend([
            string("code.function.name", "checkout::payment::authorise_with_retries"),
            string("db.system.name", "postgresql"),
            string("db.query.text", "SELECT id, amount, currency, state FROM payments WHERE order_id = $1 AND state <> $2"),
            int("db.response.returned_rows", pick(10, 500) as i64),
            strings("feature.flags", &["new-ranker", "cached-embeddings", "strict-json"]),
        ]),
        Size::Llm => attributes.extend([
            string("gen_ai.operation.name", "chat"),
            string("gen_ai.provider.name", "openai"),
            string("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
            int("gen_ai.usage.output_tokens", 100 + pick(11, 900) as i64),
            double("gen_ai.request.temperature", 0.2),
            strings("gen_ai.response.finish_reasons", &["stop"]),
            string("gen_ai.input.messages", &messages("user", variant, 5000)),
            string("gen_ai.output.messages", &messages("assistant", variant ^ 0xff, 2500)),
        ]),
    }
    Span {
        trace_id: TRACE_ID.to_vec(),
        span_id: SPAN_ID.to_vec(),
        parent_span_id: if has_parent { PARENT_SPAN_ID.to_vec() } else { Vec::new() },
        name: ["chat", "GET /api/orders/{id}", "embed", "rank documents"][pick(12, 4) as usize].to_owned(),
        kind: 1 + pick(13, 3) as i32,
        start_time_unix_nano: START_TIME,
        end_time_unix_nano: END_TIME,
        attributes,
        events,
        flags: 0x101,
        status: failed.then(|| Status { message: "upstream answered 500".to_owned(), code: 2 }),
        ..Span::default()
    }
}

/// JSON text of about `len` bytes in the shape of GenAI messages, with words drawn by `seed`.
fn messages(role: &str, seed: u64, len: usize) -> String {
    const WORDS: [&str; 16] = [
        "the", "model", "answers", "with", "a", "ranked", "list", "of", "orders", "because", "customer", "asked", "for", "delivery",
        "status", "today",
    ];
    let mut text = String::with_capacity(len + 32);
    let mut state = seed;
    while text.len() < len {
        state = mix(state);
        text.push_str(WORDS[(state % WORDS.len() as u64) as usize]);
        text.push(' ');
    }
    format!(r#"[{{"role":"{role}","parts":[{{"type":"text","content":"{text}"}}]}}]"#)
}

fn event(name: &str, attributes: Vec<KeyValue>) -> Event {
    Event { time_unix_nano: EVENT_TIME, name: name.to_owned(), attributes, dropped_attributes_count: 0 }
}

fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn double(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn bool(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn strings(key: &str, values: &[&str]) -> KeyValue {
    let values = values.iter().map(|value| AnyValue { value: Some(Value::StringValue((*value).to_owned())) }).collect();
    attribute(key, Value::ArrayValue(ArrayValue { values }))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
