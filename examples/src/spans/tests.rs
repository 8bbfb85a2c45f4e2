use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use scouter_tonic::grpc::InsertMessageRequest;

use super::{Envelope, Size, SpanSource};

fn source(seed: u64, size: Size) -> SpanSource {
    SpanSource::new(seed, size, 1_760_000_000_000_000_000, 2_000)
}

#[test]
fn a_body_holds_the_spans_asked_for_in_both_envelopes() {
    let source = source(7, Size::Small);
    let otlp = ExportTraceServiceRequest::decode(source.body(16..528, Envelope::Otlp)).unwrap();
    let scouter = InsertMessageRequest::decode(source.body(16..528, Envelope::Scouter)).unwrap();
    assert_eq!(otlp.resource_spans, scouter.resource_spans);
    assert_eq!(scouter.batch_id, source.batch_id(16));

    let spans = &otlp.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans.len(), 512);
    for (span, index) in spans.iter().zip(16..) {
        let ids = source.ids(index);
        assert_eq!(span.trace_id, ids.trace_id);
        assert_eq!(span.span_id, ids.span_id);
        assert_eq!(span.attributes.len(), 9);
        assert_eq!(span.parent_span_id.is_empty(), index % 8 == 0, "span {index}");
        assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    }
}

#[test]
fn parents_are_earlier_spans_of_the_same_trace() {
    let source = source(3, Size::Small);
    let request = ExportTraceServiceRequest::decode(source.body(0..64, Envelope::Otlp)).unwrap();
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    for trace in spans.chunks(8) {
        let mut seen = HashSet::new();
        for span in trace {
            assert_eq!(span.trace_id, trace[0].trace_id);
            assert!(span.parent_span_id.is_empty() || seen.contains(&span.parent_span_id));
            seen.insert(span.span_id.clone());
        }
    }
}

#[test]
fn one_seed_makes_one_body_and_another_seed_another() {
    let body = |seed| source(seed, Size::Medium).body(0..100, Envelope::Scouter);
    assert_eq!(body(1), body(1));
    assert_ne!(body(1), body(2));
}

#[test]
fn span_ids_do_not_repeat() {
    let source = source(11, Size::Small);
    let ids: HashSet<[u8; 8]> = (0..200_000).map(|index| source.ids(index).span_id).collect();
    assert_eq!(ids.len(), 200_000);
}

#[test]
fn sizes_are_what_they_say() {
    for (size, attributes, bytes) in [(Size::Small, 9, 430..510), (Size::Medium, 14, 760..860), (Size::Llm, 17, 7_500..9_000)] {
        let source = source(5, size);
        let body = source.body(0..4096, Envelope::Otlp);
        let each = body.len() / 4096;
        assert!(bytes.contains(&each), "{size:?}: {each} bytes a span");
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].attributes.len(), attributes);
    }
}
