use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{CustomMetricRecord, MonitoringRecord, monitoring_record::Record},
};

use super::*;
use crate::encode::{EncodedBatch, EncodedEnvelope, EncodedResource, RequestFormat, ScopeRef};

const ID: Id = [7; 16];

fn request(spans: u32, traces: u32, records: usize) -> InsertMessageRequest {
    let span = |number: u32| Span {
        trace_id: (number % traces).to_be_bytes().repeat(4),
        span_id: u64::from(number).to_be_bytes().to_vec(),
        name: "n".repeat(number as usize % 300),
        ..Span::default()
    };
    let resource = |resource: u32| ResourceSpans {
        resource: Some(Resource { dropped_attributes_count: resource, ..Resource::default() }),
        scope_spans: (0..2)
            .map(|scope| ScopeSpans {
                scope: Some(InstrumentationScope { name: format!("scope {scope}"), ..InstrumentationScope::default() }),
                spans: (0..spans).filter(|number| number % 4 == resource * 2 + scope).map(span).collect(),
                schema_url: "schema".to_owned(),
            })
            .collect(),
        schema_url: String::new(),
    };
    let record = MonitoringRecord { record: Some(Record::Custom(CustomMetricRecord { value: 1.0, ..CustomMetricRecord::default() })) };
    InsertMessageRequest {
        resource_spans: if spans > 0 { (0..2).map(resource).collect() } else { Vec::new() },
        records: vec![record; records],
        batch_id: ID.to_vec(),
        ..InsertMessageRequest::default()
    }
}

/// Each span with all that stands around it, in an order of its own.
fn flat(resource_spans: &[ResourceSpans]) -> Vec<Vec<u8>> {
    let mut spans = Vec::new();
    for resource in resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let scope_spans = ScopeSpans { spans: vec![span.clone()], ..scope.clone() };
                spans.push(ResourceSpans { scope_spans: vec![scope_spans], ..resource.clone() }.encode_to_vec());
            }
        }
    }
    spans.sort();
    spans
}

fn decoded(part: &SpansPart) -> Vec<ResourceSpans> {
    ExportTraceServiceRequest::decode(&part.value[..]).expect("it is OTLP").resource_spans
}

#[test]
fn parts_hold_every_span_once_and_every_trace_in_one_partition() {
    for (spans, traces, partitions) in [(1, 1, 1), (500, 100, 3), (500, 3, 12), (1_000, 1_000, 7), (40, 1, 5), (100, 40, 1)] {
        let whole = request(spans, traces, 0);
        let parts = parts(&whole.encode_to_vec(), partitions).expect("it is ours");
        assert_eq!(parts.records, None);
        let mut found: Vec<_> = parts.spans.iter().flat_map(|part| flat(&decoded(part))).collect();
        found.sort();
        assert_eq!(found, flat(&whole.resource_spans), "{spans} spans of {traces} traces for {partitions}");
        let mut homes = HashMap::new();
        for part in &parts.spans {
            assert_eq!(partition_of(&part.key, partitions), part.partition);
            for span in decoded(part).iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans) {
                assert_eq!(*homes.entry(span.trace_id.clone()).or_insert(part.partition), part.partition);
            }
        }
        let ids: HashSet<Id> = parts.spans.iter().map(|part| part.id.expect("the request has one")).collect();
        assert_eq!(ids.len(), parts.spans.len());
        assert_eq!(ids.contains(&ID), parts.spans.len() == 1, "a request that stays whole keeps its id");
    }
}

#[test]
fn the_same_request_has_the_same_parts() {
    let bytes = request(200, 50, 3).encode_to_vec();
    assert_eq!(parts(&bytes, 6), parts(&bytes, 6));
}

/// What our writers made, that is.
#[test]
fn one_partition_gets_the_bytes_as_they_are() {
    let envelope = |name| EncodedEnvelope::new(EncodedResource::new([], None), &ScopeRef { name, ..ScopeRef::default() });
    let envelopes = [envelope("a"), envelope("b")];
    let mut batch = EncodedBatch::default();
    for number in 0..100_u8 {
        let span = Span { trace_id: vec![number; 16], name: "n".repeat(usize::from(number) * 9), ..Span::default() };
        batch.push(&envelopes[usize::from(number % 2)], &span.encode_to_vec());
    }
    let [scouter, otlp] =
        [RequestFormat::Scouter, RequestFormat::Otlp].map(|format| batch.requests_in(format, usize::MAX).0.remove(0).body);
    let parts = parts(&scouter, 1).expect("it is ours");
    assert_eq!(parts.spans.len(), 1);
    assert_eq!(parts.spans[0].value, otlp);
}

#[test]
fn records_stay_a_scouter_request() {
    for spans in [0, 10] {
        let whole = request(spans, 1, 5);
        let parts = parts(&whole.encode_to_vec(), 4).expect("it is ours");
        assert_eq!(parts.spans.len(), usize::from(spans > 0));
        let (bytes, id) = parts.records.expect("there are some");
        let records = InsertMessageRequest::decode(&bytes[..]).expect("it is Scouter's");
        assert_eq!((&records.records, records.resource_spans.len()), (&whole.records, 0));
        assert_eq!(Some(&records.batch_id[..]), id.as_ref().map(|id| &id[..]));
        assert_eq!(id == Some(ID), spans == 0);
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let json = InsertMessageRequest { message_record: b"{}".to_vec(), ..InsertMessageRequest::default() };
    assert_eq!(parts(&json.encode_to_vec(), 3), None);
    let mut short_trace = request(1, 1, 0);
    short_trace.resource_spans[0].scope_spans[0].spans[0].trace_id.truncate(8);
    assert_eq!(parts(&short_trace.encode_to_vec(), 3), None);
    let whole = request(20, 3, 2).encode_to_vec();
    for end in 0..whole.len() {
        let _no_panic = parts(&whole[..end], 3);
    }
}

/// Values that Kafka's own tests of its clients have.
#[test]
fn keys_are_hashed_as_kafkas_clients_do() {
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
    }
}
