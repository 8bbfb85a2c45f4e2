//! Oracle: what `opentelemetry-proto`'s transform and prost make of the same spans.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    Array, InstrumentationScope, KeyValue, StringValue, Value,
    trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_proto::{
    tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::{AnyValue, any_value},
        trace::v1::{ResourceSpans, Span},
    },
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanLinks},
};
use proptest::prelude::*;
use prost::Message;
use scouter_tonic::grpc::InsertMessageRequest;

use super::*;

const NO_LIMIT: usize = 64 * 1024 * 1024;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z.]{0,20}",
        1 => "\\PC{0,40}",
        1 => Just("größe ÿ 漢字 🦀".to_owned()),
        1 => (0_usize..40_000).prop_map(|len| "x".repeat(len)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let strings = prop::collection::vec(text().prop_map(StringValue::from), 0..5);
    prop_oneof![
        text().prop_map(Value::from),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        (-1.0e300..1.0e300).prop_map(Value::F64),
        Just(Value::F64(f64::INFINITY)),
        prop::collection::vec(any::<bool>(), 0..200).prop_map(|values| Value::Array(Array::Bool(values))),
        prop::collection::vec(any::<i64>(), 0..50).prop_map(|values| Value::Array(Array::I64(values))),
        prop::collection::vec(-1.0e9..1.0e9, 0..50).prop_map(|values: Vec<f64>| Value::Array(Array::F64(values))),
        strings.prop_map(|values| Value::Array(Array::String(values))),
    ]
}

/// Attributes with unique keys: for those the oracle and OTLP's rule agree.
fn attributes(max: usize) -> impl Strategy<Value = Vec<KeyValue>> {
    prop::collection::vec((text(), value()), 0..max).prop_map(|pairs| {
        let mut attributes: Vec<KeyValue> = Vec::new();
        for (key, value) in pairs {
            if !attributes.iter().any(|known| known.key.as_str() == key) {
                attributes.push(KeyValue::new(key, value));
            }
        }
        attributes
    })
}

fn time() -> impl Strategy<Value = SystemTime> {
    (0_u64..4_000_000_000, 0_u32..1_000_000_000).prop_map(|(secs, nanos)| UNIX_EPOCH + Duration::new(secs, nanos))
}

fn context() -> impl Strategy<Value = SpanContext> {
    let state = prop_oneof![Just(""), Just("vendor=one"), Just("a=1,b=2,c=3")];
    (any::<u128>(), any::<u64>(), any::<u8>(), any::<bool>(), state).prop_map(|(trace, span, flags, is_remote, state)| {
        let state: TraceState = state.parse().unwrap_or_default();
        SpanContext::new(TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags), is_remote, state)
    })
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    prop_oneof![
        Just(InstrumentationScope::builder("plain").build()),
        Just(InstrumentationScope::builder("").build()),
        Just(InstrumentationScope::builder("versioned").with_version("1.2.3").with_schema_url("https://example.com/schema").build()),
        Just(InstrumentationScope::builder("with attributes").with_attributes([KeyValue::new("key", "wert ä")]).build()),
    ]
}

prop_compose! {
    fn event()(name in text(), at in time(), attributes in attributes(4), dropped in 0_u32..3) -> Event {
        Event::new(name, at, attributes, dropped)
    }
}

prop_compose! {
    fn link()(context in context(), attributes in attributes(4), dropped in 0_u32..3) -> Link {
        Link::new(context, attributes, dropped)
    }
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Unset), Just(Status::Ok), text().prop_map(Status::error)]
}

fn kind() -> impl Strategy<Value = SpanKind> {
    prop_oneof![
        Just(SpanKind::Client),
        Just(SpanKind::Server),
        Just(SpanKind::Producer),
        Just(SpanKind::Consumer),
        Just(SpanKind::Internal)
    ]
}

prop_compose! {
    fn span()(
        (span_context, parent, parent_is_remote, kind, name) in (context(), any::<u64>(), any::<bool>(), kind(), text()),
        (start_time, end_time, attributes, status, scope) in (time(), time(), attributes(40), status(), scope()),
        (events, links) in (prop::collection::vec(event(), 0..4), prop::collection::vec(link(), 0..4)),
        dropped in prop::array::uniform3(prop_oneof![Just(0_u32), any::<u32>()]),
    ) -> SpanData {
        SpanData {
            span_context,
            parent_span_id: SpanId::from(if parent % 4 == 0 { 0 } else { parent }),
            parent_span_is_remote: parent_is_remote,
            span_kind: kind,
            name: name.into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: dropped[0],
            events: { let mut all = SpanEvents::default(); all.events = events; all.dropped_count = dropped[1]; all },
            links: { let mut all = SpanLinks::default(); all.links = links; all.dropped_count = dropped[2]; all },
            status,
            instrumentation_scope: scope,
        }
    }
}

fn batch_of(spans: &[SpanData], resource: &Resource) -> EncodedBatch {
    let resource = EncodedResource::from_sdk(resource);
    let mut scopes: Vec<(InstrumentationScope, Arc<EncodedEnvelope>)> = Vec::new();
    let mut batch = EncodedBatch::default();
    for span in spans {
        let scope = &span.instrumentation_scope;
        if !scopes.iter().any(|(known, _)| known == scope) {
            scopes.push((scope.clone(), EncodedEnvelope::from_sdk(Arc::clone(&resource), scope)));
        }
        let (_, envelope) = scopes.iter().find(|(known, _)| known == scope).unwrap();
        batch.push_span_data(envelope, span);
    }
    batch
}

fn decode(request: &EncodedRequest) -> Vec<ResourceSpans> {
    sorted(InsertMessageRequest::decode(request.body.clone()).unwrap().resource_spans)
}

/// A resource is a hash map in the SDK: its order means nothing.
fn sorted(mut resource_spans: Vec<ResourceSpans>) -> Vec<ResourceSpans> {
    for resource in resource_spans.iter_mut().filter_map(|spans| spans.resource.as_mut()) {
        resource.attributes.sort_by(|one, other| one.key.cmp(&other.key));
    }
    resource_spans
}

fn resource() -> Resource {
    let attributes = [KeyValue::new("service.name", "tests"), KeyValue::new("numbers", Value::Array(Array::I64(vec![1, 2, 3])))];
    Resource::builder_empty().with_schema_url(attributes, "https://example.com/resource").build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn encoding_equals_the_transform_of_opentelemetry_proto(spans in prop::collection::vec(span(), 1..12)) {
        let resource = resource();
        let (requests, too_large) = batch_of(&spans, &resource).requests(NO_LIMIT);
        prop_assert!(too_large.is_empty());
        prop_assert_eq!(requests.len(), 1);
        prop_assert_eq!(requests[0].spans, spans.len());
        let expected = group_spans_by_resource_and_scope(spans, &ResourceAttributesWithSchema::from(&resource));
        prop_assert_eq!(decode(&requests[0]), sorted(expected));
    }

    #[test]
    fn a_span_has_the_bytes_prost_would_write_but_for_the_order_of_flags_and_counts(span in span()) {
        let mut ours = Vec::new();
        write_span(&mut ours, &span);
        let theirs = Span::from(span);
        prop_assert_eq!(Span::decode(ours.as_slice()).unwrap(), theirs.clone());
        prop_assert_eq!(ours.len(), theirs.encoded_len(), "every length is minimal");
    }

    #[test]
    fn requests_keep_to_the_limit_and_hold_every_span_once(spans in prop::collection::vec(span(), 1..30), max in 1024_usize..100_000) {
        let batch = batch_of(&spans, &resource());
        let (requests, too_large) = batch.requests(max);
        let sent: usize = requests.iter().map(|request| request.spans).sum();
        prop_assert_eq!(sent + too_large.len(), spans.len());
        let mut decoded = Vec::new();
        for request in &requests {
            prop_assert!(request.body.len() <= max);
            let spans: Vec<Span> = decode(request).into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect();
            prop_assert_eq!(spans.len(), request.spans);
            decoded.extend(spans);
        }
        let count = |wanted: &Span, all: &[Span]| all.iter().filter(|span| *span == wanted).count();
        let expected: Vec<Span> = spans.into_iter().map(Span::from).collect();
        for span in &decoded {
            prop_assert!(count(span, &decoded) <= count(span, &expected));
        }
    }

    #[test]
    fn varints_are_prosts(value in any::<u64>()) {
        let mut ours = Vec::new();
        wire::put_varint(&mut ours, value);
        let mut theirs = Vec::new();
        prost::encoding::encode_varint(value, &mut theirs);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(wire::varint_len(value), theirs.len());
        prop_assert_eq!(wire::read_varint(&ours), Some((value, ours.len())));
    }
}

#[test]
fn nested_messages_of_every_length_have_minimal_lengths() {
    for len in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
        let mut out = vec![9];
        wire::put_nested(&mut out, 0x12, |out| out.resize(out.len() + len, 7));
        let mut expected = vec![9, 0x12];
        prost::encoding::encode_varint(len as u64, &mut expected);
        expected.resize(expected.len() + len, 7);
        assert!(out == expected, "{len}");
    }
}

fn plain_head() -> SpanHead<'static> {
    SpanHead {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_span_id: Some([3; 8]),
        parent_is_remote: true,
        trace_flags: 1,
        trace_state: "vendor=1",
        name: "name",
        kind: SpanKind::Consumer,
        start_unix_nano: u64::MAX,
        end_unix_nano: 0,
    }
}

#[test]
fn the_writer_of_plain_values_writes_every_field() {
    let mut out = Vec::new();
    let mut writer = SpanWriter::begin(&mut out, &plain_head());
    let nested = [ValueRef::Str("in"), ValueRef::Array(&[ValueRef::None, ValueRef::Bytes(&[0, 255])])];
    let map = [("k", ValueRef::I64(1)), ("k", ValueRef::I64(2)), ("l", ValueRef::Array(&nested))];
    writer.attributes(&[
        ("map", ValueRef::Map(&map)),
        ("none", ValueRef::None),
        ("bytes", ValueRef::Bytes(b"raw")),
        ("", ValueRef::Bool(true)),
    ]);
    writer.event("event", 5, &[("x", ValueRef::F64(0.5))], 4);
    writer.link(&LinkRef {
        trace_id: [4; 16],
        span_id: [5; 8],
        trace_state: "s=t",
        trace_flags: 0,
        is_remote: true,
        attributes: &[("y", ValueRef::I64(-1))],
        dropped_attributes: 6,
    });
    writer.status(StatusRef::Error("bad"));
    writer.dropped(7, 8, 9);
    let span = Span::decode(out.as_slice()).unwrap();
    assert_eq!((span.trace_state.as_str(), span.name.as_str(), span.kind), ("vendor=1", "name", 5));
    assert_eq!((span.parent_span_id.as_slice(), span.flags), ([3; 8].as_slice(), 0x301));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (u64::MAX, 0));
    assert_eq!((span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count), (7, 8, 9));
    assert_eq!((span.events[0].name.as_str(), span.events[0].dropped_attributes_count, span.events[0].time_unix_nano), ("event", 4, 5));
    assert_eq!((span.links[0].trace_state.as_str(), span.links[0].flags, span.links[0].dropped_attributes_count), ("s=t", 0x300, 6));
    assert_eq!(span.status.map(|status| (status.code, status.message)), Some((2, "bad".to_owned())));
    let value = |index: usize| span.attributes[index].value.clone().and_then(|value| value.value);
    let Some(any_value::Value::KvlistValue(map)) = value(0) else { panic!("a map") };
    assert_eq!(map.values.len(), 2, "of the repeated key only the last value is left");
    assert_eq!(map.values[0].value, Some(AnyValue { value: Some(any_value::Value::IntValue(2)) }));
    assert_eq!(value(1), None);
    assert_eq!(span.attributes[3].key, "");
}

#[test]
fn odd_times_saturate() {
    assert_eq!(unix_nano(UNIX_EPOCH - Duration::from_secs(1)), 0);
    assert_eq!(unix_nano(UNIX_EPOCH), 0);
    assert_eq!(unix_nano(UNIX_EPOCH + Duration::from_secs(40_000_000_000)), u64::MAX);
}

#[test]
fn of_repeated_keys_the_last_value_is_left_at_any_count() {
    for count in [2, 5, 31, 32, 33, 100, 1000] {
        let attributes: Vec<KeyValue> =
            (0..count).map(|index| KeyValue::new(format!("key {}", index % (count / 2).max(1)), index as i64)).collect();
        let borrowed: Vec<_> = attributes.iter().map(|attribute| (attribute.key.as_str(), ValueRef::from(&attribute.value))).collect();
        let mut out = Vec::new();
        SpanWriter::begin(&mut out, &plain_head()).attributes(&borrowed);
        let span = Span::decode(out.as_slice()).unwrap();
        let mut keys: Vec<&str> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), span.attributes.len(), "{count}");
        let mut expected: Vec<(&str, i64)> = Vec::new();
        for (index, (key, _)) in borrowed.iter().enumerate() {
            expected.retain(|(known, _)| known != key);
            expected.push((key, index as i64));
        }
        let values: Vec<(&str, i64)> = span
            .attributes
            .iter()
            .map(|attribute| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(any_value::Value::IntValue(value)) => (attribute.key.as_str(), *value),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values, expected, "{count}");
    }
}

#[test]
fn values_nested_beyond_the_limit_end_empty() {
    fn nest(depth: usize, use_inner: &mut dyn FnMut(ValueRef<'_>)) {
        fn go(left: usize, inner: ValueRef<'_>, use_inner: &mut dyn FnMut(ValueRef<'_>)) {
            if left == 0 { use_inner(inner) } else { go(left - 1, ValueRef::Array(&[inner]), use_inner) }
        }
        go(depth, ValueRef::I64(1), use_inner);
    }
    for depth in [10, 63, 64, 500] {
        nest(depth, &mut |value| {
            let mut out = Vec::new();
            SpanWriter::begin(&mut out, &plain_head()).attribute("deep", value);
            assert!(out.len() < 2000, "{depth}");
            assert_eq!(split_ends_with(&out, &[0x18, 1]), depth < 64, "{depth}");
        });
    }
}

/// Whether the innermost bytes are there.
fn split_ends_with(bytes: &[u8], end: &[u8]) -> bool {
    bytes.ends_with(end)
}

#[test]
fn a_cleared_batch_is_empty_and_can_be_used_again() {
    let span = SpanData { attributes: vec![KeyValue::new("a", 1)], ..spans_for_reuse() };
    let mut batch = batch_of(&[span.clone(), span.clone()], &resource());
    let before = batch.requests(NO_LIMIT).0[0].spans;
    batch.clear();
    assert!(batch.is_empty() && batch.bytes() == 0 && batch.requests(NO_LIMIT).0.is_empty());
    let envelope = EncodedEnvelope::from_sdk(EncodedResource::from_sdk(&resource()), &span.instrumentation_scope);
    batch.push_span_data(&envelope, &span);
    assert_eq!((before, batch.requests(NO_LIMIT).0[0].spans), (2, 1));
}

#[test]
fn spans_of_two_resources_share_a_request() {
    let mut batch = EncodedBatch::default();
    let mut bytes = Vec::new();
    write_span(&mut bytes, &spans_for_reuse());
    let envelope = |service: &str, scope: &str| {
        let resource = EncodedResource::new([("service.name", ValueRef::Str(service))], None);
        EncodedEnvelope::new(resource, &ScopeRef { name: scope, ..ScopeRef::default() })
    };
    let envelopes = [envelope("a", "x"), envelope("b", "x"), envelope("a", "y")];
    envelopes.iter().for_each(|envelope| batch.push(envelope, &bytes));
    let (requests, _) = batch.requests(NO_LIMIT);
    let decoded = decode(&requests[0]);
    let scopes: Vec<usize> = decoded.iter().map(|resource| resource.scope_spans.len()).collect();
    assert_eq!(scopes, [2, 1]);
}

fn spans_for_reuse() -> SpanData {
    SpanData {
        span_context: SpanContext::new(TraceId::from(1), SpanId::from(2), TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "span".into(),
        start_time: UNIX_EPOCH,
        end_time: UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("scope").build(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn halves_of_a_request_hold_each_of_its_spans_once_under_its_own_envelope(
        spans in prop::collection::vec(span(), 2..12),
        format in prop_oneof![Just(RequestFormat::Scouter), Just(RequestFormat::Otlp)],
    ) {
        let resource = EncodedResource::new([("service.name", ValueRef::Str("halved"))], Some("https://schema"));
        let mut batch = EncodedBatch::default();
        for span in &spans {
            batch.push_span_data(&EncodedEnvelope::from_sdk(Arc::clone(&resource), &span.instrumentation_scope), span);
        }
        let (requests, _) = batch.requests_in(format, NO_LIMIT);
        let [whole] = <[EncodedRequest; 1]>::try_from(requests).unwrap();
        let halves = whole.halve(format).unwrap();
        prop_assert_eq!(halves[0].spans, whole.spans / 2);
        let flat = |request: &EncodedRequest| {
            let resource_spans = match format {
                RequestFormat::Scouter => InsertMessageRequest::decode(request.body.clone()).unwrap().resource_spans,
                RequestFormat::Otlp => ExportTraceServiceRequest::decode(request.body.clone()).unwrap().resource_spans,
            };
            let mut flat = Vec::new();
            for ResourceSpans { resource, scope_spans, schema_url } in resource_spans {
                for scope in scope_spans {
                    let envelope = (resource.clone(), schema_url.clone(), scope.scope, scope.schema_url);
                    flat.extend(scope.spans.into_iter().map(|span| (envelope.clone(), span)));
                }
            }
            flat
        };
        let mut together = flat(&halves[0]);
        together.extend(flat(&halves[1]));
        prop_assert_eq!(together, flat(&whole));
        let one = EncodedRequest { spans: 1, ..whole };
        prop_assert!(one.halve(format).is_none());
    }
}

#[test]
fn what_is_no_request_is_not_halved() {
    for body in [&b"\x12\xff"[..], b"\x12\x05abc", b"\xff\xff\xff", b"", b"\x12\x03\x12\x09a"] {
        let request = EncodedRequest { body: bytes::Bytes::copy_from_slice(body), spans: 7, records: 0 };
        assert!(request.halve(RequestFormat::Scouter).is_none(), "{body:?}");
        let request = EncodedRequest { records: 7, spans: 0, ..request };
        assert!(request.halve(RequestFormat::Scouter).is_none(), "{body:?}");
    }
}
