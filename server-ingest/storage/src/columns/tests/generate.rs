//! Random requests, and the normal form in which what was sent and what is read back are compared.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Empty, ASCII, JSON's special characters, any Unicode, long runs.
fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        4 => "[a-z.]{1,24}",
        2 => "\\$[a-z$]{0,8}",
        2 => "[\\x00-\\x1f\"\\\\a]{0,20}",
        2 => any::<String>(),
        1 => "[é字🦀x]{0,40}",
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => string(),
        4 => prop::sample::select(&KNOWN_KEYS[..]).prop_map(str::to_owned),
    ]
}

/// Keys from which columns are derived.
const KNOWN_KEYS: [&str; 14] = [
    "service.name",
    "http.request.method",
    "http.response.status_code",
    "url.path",
    "exception.type",
    "exception.message",
    "k8s.pod.name",
    "gen_ai.usage.input_tokens",
    "scouter.tracing.input",
    "scouter.tracing.output",
    "scouter.tracing.tag.env",
    "baggage.scouter.tracing.tag.team",
    "scouter.entity.0196",
    "scouter.queue.record",
];

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        string().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        prop::sample::select(&[0, 1, -1, i64::MIN, i64::MAX][..]).prop_map(|value| Some(Value::IntValue(value))),
        any::<u64>().prop_map(|bits| Some(Value::DoubleValue(f64::from_bits(bits)))),
        prop::sample::select(&[0.0, -0.0, 1.0, 1e16, 1e-7, 0.1, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE][..])
            .prop_map(|value| Some(Value::DoubleValue(value))),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Some(Value::BytesValue(bytes))),
        any::<i32>().prop_map(|index| Some(Value::StringValueStrindex(index))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec((key(), option::weighted(0.9, inner)), 0..4).prop_map(|members| Value::KvlistValue(KeyValueList {
                values: members.into_iter().map(|(key, value)| KeyValue { key, value, key_strindex: 0 }).collect(),
            })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec((key(), option::weighted(0.95, value())).prop_map(|(key, value)| KeyValue { key, value, key_strindex: 0 }), 0..5)
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1_700_000_000_000_000_000..1_900_000_000_000_000_000u64,
        1 => any::<u64>(),
        1 => prop::sample::select(&[0, 1, u64::MAX, i64::MAX as u64, 1 << 63][..]),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 1 => any::<u32>()]
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), length).prop_map(|mut id| {
        id[0] |= 1;
        id
    })
}

fn event() -> impl Strategy<Value = Event> {
    let name = prop_oneof![string(), Just("exception".to_owned())];
    (time(), name, attributes(), count()).prop_map(|(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (vec(any::<u8>(), 16), vec(any::<u8>(), 8), string(), attributes(), count(), count()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), prop_oneof![Just(Vec::new()), id(8), Just(vec![0; 8])]);
    let words = (string(), string(), prop_oneof![4 => 0..6i32, 1 => any::<i32>()]);
    let lists = (attributes(), vec(event(), 0..3), vec(link(), 0..3));
    let counts = (count(), count(), count(), count());
    let status = option::of((string(), prop_oneof![4 => 0..3i32, 1 => any::<i32>()]));
    (ids, words, (time(), time()), lists, counts, status).prop_map(|(ids, words, times, lists, counts, status)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        name: words.0,
        trace_state: words.1,
        kind: words.2,
        start_time_unix_nano: times.0,
        end_time_unix_nano: times.1,
        attributes: lists.0,
        events: lists.1,
        links: lists.2,
        flags: counts.0,
        dropped_attributes_count: counts.1,
        dropped_events_count: counts.2,
        dropped_links_count: counts.3,
        status: status.map(|(message, code)| Status { message, code }),
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity_ref = (string(), string(), vec(string(), 0..3), vec(string(), 0..3))
        .prop_map(|(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys });
    (attributes(), count(), prop_oneof![3 => Just(Vec::new()), 1 => vec(entity_ref, 0..3)])
        .prop_map(|(attributes, dropped_attributes_count, entity_refs)| Resource { attributes, dropped_attributes_count, entity_refs })
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (string(), string(), attributes(), count()).prop_map(|(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
        name,
        version,
        attributes,
        dropped_attributes_count,
    })
}

/// A request of several resources and scopes, some absent, whose spans all are to be accepted.
pub(super) fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans =
        (option::of(scope()), vec(span(), 0..3), string()).prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let resource_spans = (option::of(resource()), vec(scope_spans, 0..3), string())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}
