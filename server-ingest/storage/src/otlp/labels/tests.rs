use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue as Value, InstrumentationScope, KeyValue, any_value},
    trace::v1::{ResourceSpans, ScopeSpans, Span, span::Event},
};
use prost::Message;

use super::*;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(Value { value: Some(value) }), ..Default::default() }
}

fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn payload(spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope { name: "shop".to_owned(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..Default::default() }] }.encode_to_vec()
}

fn span(attributes: Vec<KeyValue>) -> Span {
    Span { trace_id: vec![7; 16], span_id: vec![1; 8], start_time_unix_nano: 5, attributes, ..Default::default() }
}

#[test]
fn tags_baggage_and_entities_are_found_by_scouters_rules() {
    let event = Event { attributes: vec![string("scouter.entity", "u3")], ..Default::default() };
    let labelled = span(vec![
        string("scouter.tracing.tag.env", "prod"),
        string("baggage.scouter.tracing.tag.team", "blue"),
        string("baggage.user", "ada"),
        attribute("baggage.count", any_value::Value::IntValue(3)),
        string("scouter.entity", "u1"),
        string("scouter.entity.u2", "u2"),
        string("scouter.entity_of_another", "no"),
        string("http.route", "/"),
    ]);
    let labelled = Span { events: vec![event], ..labelled };
    let found = labels_in(&payload(vec![span(vec![string("a", "b")]), labelled]), Envelope::Otlp, &[]);
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
    assert_eq!(
        found,
        [SpanLabels {
            trace_id: [7; 16],
            start_unix_nano: 5,
            scope_name: "shop".to_owned(),
            tags: pairs(&[("env", "prod"), ("team", "blue")]),
            baggage: pairs(&[("scouter.tracing.tag.team", "blue"), ("user", "ada"), ("count", "3")]),
            entity_uids: ["u1", "u2", "u3"].map(str::to_owned).to_vec(),
        }]
    );
}

#[test]
fn rejected_spans_have_no_labels() {
    let tagged = |value| span(vec![string("scouter.tracing.tag.k", value)]);
    let found = labels_in(&payload(vec![tagged("a"), tagged("b"), tagged("c")]), Envelope::Otlp, &[1]);
    assert_eq!(found.iter().map(|labels| labels.tags[0].1.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = payload(vec![span(vec![string("baggage.k", "v"), string("scouter.entity", "u")])]);
    for end in 0..whole.len() {
        labels_in(&whole[..end], Envelope::Otlp, &[]);
        let mut broken = whole.clone();
        broken[end] ^= 0x55;
        labels_in(&broken, Envelope::Otlp, &[]);
    }
}
