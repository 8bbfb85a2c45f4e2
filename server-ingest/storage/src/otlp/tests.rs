use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use scouter_tonic::group::RowFault;
use scouter_tonic::grpc::InsertMessageRequest;
use scouter_tonic::limits::{MAX_ATTRIBUTE_DEPTH, MAX_RECORD_GROUP_BYTES};
use scouter_tonic::message::monitoring_record::Record;
use scouter_tonic::message::record_group::Kind;
use scouter_tonic::message::{AgentTaskRecord, EvalRecord, MonitoringRecord, PsiRecord, RecordGroup, SpcRecord, TagRecord};

use super::{Envelope, MAX_RECORD_FIELDS, MAX_REJECTED, Malformed, RejectReason, Rejected, judge, records_in};
use crate::columns::Columns;

fn good_span() -> Span {
    Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "work".to_owned(), ..Span::default() }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

/// A length-delimited field.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

/// A request of one resource and one scope whose spans have these bytes.
fn request_of_bytes(spans: &[Vec<u8>]) -> Vec<u8> {
    let spans: Vec<u8> = spans.iter().flat_map(|span| field(2, span)).collect();
    field(1, &field(2, &spans))
}

/// Judges the bytes as the second of three spans and gives the reason for which it alone is rejected.
fn reason_for_bytes(span: Vec<u8>) -> RejectReason {
    let payload = request_of_bytes(&[good_span().encode_to_vec(), span, good_span().encode_to_vec()]);
    let verdict = judge(&payload, Envelope::Otlp).unwrap();
    assert_eq!((verdict.spans, verdict.records), (3, 0));
    assert_eq!(verdict.rejected_spans.len(), 1, "{verdict:?}");
    assert_eq!(verdict.rejected_spans[0].index, 1);
    verdict.rejected_spans[0].reason
}

fn reason_for(span: Span) -> RejectReason {
    reason_for_bytes(span.encode_to_vec())
}

fn accepts(span: Span) {
    let verdict = judge(&request(vec![span]).encode_to_vec(), Envelope::Otlp).unwrap();
    assert_eq!((verdict.spans, verdict.rejected_spans), (1, Vec::new()));
}

#[test]
fn an_empty_request_is_fine() {
    for envelope in [Envelope::Otlp, Envelope::Scouter] {
        assert_eq!(judge(&[], envelope).unwrap(), super::Verdict::default());
    }
}

#[test]
fn ids_of_every_wrong_kind_reject_only_their_span() {
    let with = |change: fn(&mut Span)| {
        let mut span = good_span();
        change(&mut span);
        reason_for(span)
    };
    assert_eq!(with(|span| span.trace_id.clear()), RejectReason::TraceIdLength { bytes: 0 });
    assert_eq!(with(|span| span.trace_id.truncate(15)), RejectReason::TraceIdLength { bytes: 15 });
    assert_eq!(with(|span| span.trace_id.push(0)), RejectReason::TraceIdLength { bytes: 17 });
    assert_eq!(with(|span| span.trace_id.fill(0)), RejectReason::TraceIdZero);
    assert_eq!(with(|span| span.span_id.clear()), RejectReason::SpanIdLength { bytes: 0 });
    assert_eq!(with(|span| span.span_id.push(1)), RejectReason::SpanIdLength { bytes: 9 });
    assert_eq!(with(|span| span.span_id.fill(0)), RejectReason::SpanIdZero);
    assert_eq!(with(|span| span.parent_span_id = vec![1; 7]), RejectReason::ParentSpanIdLength { bytes: 7 });
    assert_eq!(
        with(|span| span.links = vec![Link { span_id: vec![1; 8], ..Link::default() }]),
        RejectReason::LinkTraceIdLength { bytes: 0 }
    );
    assert_eq!(
        with(|span| span.links = vec![Link { trace_id: vec![1; 16], span_id: vec![1; 16], ..Link::default() }]),
        RejectReason::LinkSpanIdLength { bytes: 16 }
    );
}

#[test]
fn a_reason_says_what_was_wrong_and_what_was_expected() {
    assert_eq!(RejectReason::TraceIdLength { bytes: 3 }.to_string(), "trace_id has 3 bytes, expected 16");
    assert_eq!(RejectReason::TooDeep.to_string(), "an attribute value has more than 64 levels, expected at most 64");
    assert!(RejectReason::RecordTooLarge.to_string().contains("10000"));
}

#[test]
fn what_is_unusual_but_lossless_is_accepted() {
    accepts(Span { parent_span_id: vec![0; 8], ..good_span() });
    accepts(Span { start_time_unix_nano: 5, end_time_unix_nano: 4, ..good_span() });
    accepts(Span { start_time_unix_nano: u64::MAX, kind: 99, flags: u32::MAX, ..good_span() });
    accepts(Span { status: Some(Status { message: String::new(), code: -7 }), ..good_span() });
    accepts(Span { attributes: vec![attribute("", Value::DoubleValue(f64::NAN)), attribute("", Value::BoolValue(true))], ..good_span() });
    let mut unknown = good_span().encode_to_vec();
    unknown.extend_from_slice(&[0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    let verdict = judge(&request_of_bytes(&[unknown]), Envelope::Otlp).unwrap();
    assert!(verdict.rejected_spans.is_empty());
}

#[test]
fn strings_that_are_not_utf8_reject_only_their_span() {
    let bad = b"\xff".as_slice();
    let bad_value = field(2, &field(1, bad));
    let check = |extra: Vec<u8>, expected: &'static str| {
        let mut span = good_span().encode_to_vec();
        span.extend(extra);
        assert_eq!(reason_for_bytes(span), RejectReason::NotUtf8 { field: expected });
    };
    check(field(5, bad), "the name of the span");
    check(field(3, b"\xed\xa0\x80"), "trace_state");
    check(field(15, &field(2, bad)), "the message of the status");
    check(field(9, &field(1, bad)), "an attribute of the span");
    check(field(9, &bad_value), "an attribute of the span");
    check(field(9, &field(2, &field(6, &field(1, &field(1, bad))))), "an attribute of the span");
    check(field(11, &field(2, bad)), "the name of an event");
    check(field(11, &field(3, &bad_value)), "an attribute of an event");
    check(field(13, &field(3, bad)), "the trace_state of a link");
    check(field(13, &field(4, &bad_value)), "an attribute of a link");
}

#[test]
fn a_bad_resource_or_scope_rejects_the_spans_under_it() {
    let good = field(2, &good_span().encode_to_vec());
    let bad_attribute = field(1, b"\xff");
    let bad_resource = [field(2, &good), field(2, &good), field(1, &field(1, &bad_attribute))].concat();
    let bad_scope = field(2, &[good.clone(), field(1, &field(3, &bad_attribute))].concat());
    let payload = [
        field(1, &field(2, &good)),
        field(1, &bad_resource),
        field(1, &[bad_scope, field(2, &good)].concat()),
        field(1, &[field(3, b"\xff"), field(2, &good)].concat()),
    ]
    .concat();
    let verdict = judge(&payload, Envelope::Otlp).unwrap();
    let reasons: Vec<_> = verdict.rejected_spans.iter().map(|rejected| (rejected.index, rejected.reason)).collect();
    let resource = RejectReason::NotUtf8 { field: "an attribute of a resource" };
    let scope = RejectReason::NotUtf8 { field: "an attribute of a scope" };
    let schema_url = RejectReason::NotUtf8 { field: "the schema_url of a resource" };
    assert_eq!(verdict.spans, 6);
    assert_eq!(reasons, [(1, resource), (2, resource), (3, scope), (5, schema_url)]);
}

#[test]
fn broken_framing_inside_a_span_rejects_it_and_outside_refuses_the_request() {
    let mut cut = good_span().encode_to_vec();
    cut.pop();
    let RejectReason::Broken { what, offset } = reason_for_bytes(cut) else { panic!("another reason") };
    assert_eq!(what, "a length is greater than what is left");
    assert!(offset > 30, "{offset}");
    for (span, expected) in [
        (vec![0x0b, 0x0c], "a field is a group, which is not supported"),
        (vec![0x00, 0x00], "a field has the number 0"),
        (vec![0x0e], "a field has an unknown wire type"),
        (vec![0xff; 11], "a varint is above 64 bits"),
        (vec![0x80; 4], "a varint does not end"),
        (vec![0x80, 0x80, 0x80, 0x80, 0x20, 0x00], "a field tag is above 32 bits"),
        (vec![0x39, 0, 0, 0, 0, 0, 0, 0], "a fixed-width field is cut off"),
        (vec![0x08, 0x01], "a known field has a wire type that is not its own"),
        (vec![0x48, 0x01], "a known field has a wire type that is not its own"),
    ] {
        let mut bytes = good_span().encode_to_vec();
        bytes.extend(&span);
        assert!(matches!(reason_for_bytes(bytes), RejectReason::Broken { what, .. } if what == expected), "{expected}");
    }

    let whole = request(vec![good_span()]).encode_to_vec();
    let cut = &whole[..whole.len() - 1];
    assert_eq!(judge(cut, Envelope::Otlp), Err(Malformed { offset: 0, what: "a length is greater than what is left" }));
    let garbage = [whole.clone(), vec![0x0f]].concat();
    assert_eq!(judge(&garbage, Envelope::Otlp), Err(Malformed { offset: whole.len(), what: "a field has an unknown wire type" }));
    let broken_resource = field(1, &field(1, &field(1, &[0x0f])));
    assert_eq!(judge(&broken_resource, Envelope::Otlp), Err(Malformed { offset: 6, what: "a field has an unknown wire type" }));
    let varint_for_message = vec![0x08, 0x01];
    assert_eq!(judge(&varint_for_message, Envelope::Otlp).unwrap_err().what, "a known field has a wire type that is not its own");
}

fn nested(levels: usize) -> AnyValue {
    let mut value = AnyValue { value: Some(Value::IntValue(1)) };
    for level in 1..levels {
        value = AnyValue {
            value: Some(if level % 2 == 0 {
                Value::ArrayValue(ArrayValue { values: vec![value] })
            } else {
                Value::KvlistValue(KeyValueList { values: vec![KeyValue { key: "k".to_owned(), value: Some(value), key_strindex: 0 }] })
            }),
        };
    }
    value
}

#[test]
fn nesting_is_accepted_up_to_the_limit() {
    let span = |levels| Span {
        attributes: vec![KeyValue { key: "deep".to_owned(), value: Some(nested(levels)), key_strindex: 0 }],
        ..good_span()
    };
    accepts(span(MAX_ATTRIBUTE_DEPTH));
    assert_eq!(reason_for(span(MAX_ATTRIBUTE_DEPTH + 1)), RejectReason::TooDeep);
}

#[test]
fn a_hundred_thousand_levels_do_not_exhaust_the_stack() {
    // Built from the inside out, in one buffer that grows at its front.
    let mut reversed: Vec<u8> = Vec::new();
    for _ in 0..100_000 {
        for number in [1u8, 5] {
            let mut prefix = vec![number << 3 | 2];
            prost::encoding::encode_varint(reversed.len() as u64, &mut prefix);
            reversed.extend(prefix.iter().rev());
        }
    }
    reversed.reverse();
    let mut span = good_span().encode_to_vec();
    span.extend(field(9, &field(2, &reversed)));
    assert_eq!(reason_for_bytes(span), RejectReason::TooDeep);
}

#[test]
fn a_tiny_payload_that_claims_a_hundred_mebibytes_is_refused() {
    let claim = [0x80, 0x80, 0x80, 0x32];
    for number in [1u8, 2, 3] {
        let payload = [vec![number << 3 | 2], claim.to_vec(), vec![1, 2, 3]].concat();
        for envelope in [Envelope::Otlp, Envelope::Scouter] {
            assert_eq!(judge(&payload, envelope).unwrap_err().what, "a length is greater than what is left");
        }
    }
    let mut span = good_span().encode_to_vec();
    span.push(9 << 3 | 2);
    span.extend(claim);
    assert!(matches!(reason_for_bytes(span), RejectReason::Broken { .. }));
    let huge = [vec![0x0a], vec![0xff; 9], vec![0x01]].concat();
    assert_eq!(judge(&huge, Envelope::Otlp).unwrap_err().what, "a length is greater than what is left");
}

#[test]
fn the_list_of_rejections_is_bounded() {
    let bad = |count: usize| request_of_bytes(&vec![Vec::new(); count]);
    assert_eq!(judge(&bad(MAX_REJECTED), Envelope::Otlp).unwrap().rejected_spans.len(), MAX_REJECTED);
    assert!(judge(&bad(MAX_REJECTED + 1), Envelope::Otlp).unwrap_err().what.contains("65536"));
}

#[test]
fn entity_references_and_scopes_are_judged() {
    let resource = Resource {
        entity_refs: vec![EntityRef { r#type: "service".to_owned(), id_keys: vec!["service.name".to_owned()], ..EntityRef::default() }],
        ..Resource::default()
    };
    let scope =
        InstrumentationScope { name: "scope".to_owned(), attributes: vec![attribute("a", Value::IntValue(1))], ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: vec![good_span()], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    let verdict = judge(&ExportTraceServiceRequest { resource_spans }.encode_to_vec(), Envelope::Otlp).unwrap();
    assert_eq!((verdict.spans, verdict.rejected_spans.len()), (1, 0));
    let broken = [field(1, &field(3, &field(3, b"\xff"))), field(2, &field(2, &good_span().encode_to_vec()))].concat();
    let verdict = judge(&field(1, &broken), Envelope::Otlp).unwrap();
    assert_eq!(verdict.rejected_spans[0].reason, RejectReason::NotUtf8 { field: "a string of an entity reference" });
}

#[test]
fn each_envelope_reads_its_own_field() {
    let resource_spans = request(vec![good_span(), Span::default()]).resource_spans;
    let scouter = InsertMessageRequest {
        message_record: b"{\"records\":[]}".to_vec(),
        resource_spans: resource_spans.clone(),
        batch_id: vec![7; 16],
        ..InsertMessageRequest::default()
    };
    let verdict = judge(&scouter.encode_to_vec(), Envelope::Scouter).unwrap();
    assert_eq!((verdict.spans, verdict.rejected_spans.len(), verdict.records), (2, 1, 0));
    let otlp = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    assert_eq!(judge(&otlp, Envelope::Otlp).unwrap().spans, 2);
    assert_eq!(judge(&otlp, Envelope::Scouter).unwrap().spans, 0);
}

fn bins(entity_uid: &str, name_indexes: Vec<u32>, step_nanos: Vec<i64>) -> RecordGroup {
    let rows = name_indexes.len();
    RecordGroup {
        kind: Kind::Psi.into(),
        entity_uid: entity_uid.to_owned(),
        names: vec!["age".to_owned(), "height".to_owned()],
        name_indexes,
        base_unix_nano: 1,
        step_nanos,
        bin_ids: vec![1; rows],
        bin_counts: vec![2; rows],
        values: Vec::new(),
    }
}

#[test]
fn a_bad_row_of_a_group_rejects_only_itself() {
    let group = |group: RecordGroup| MonitoringRecord { record: Some(Record::Group(group)) };
    let large = RecordGroup { names: vec!["x".repeat(MAX_RECORD_GROUP_BYTES)], ..bins("u", vec![0, 0], vec![0, 0]) };
    let crowded = RecordGroup { names: vec![String::new(); MAX_RECORD_FIELDS], ..bins("u", vec![0, 0], vec![0, 0]) };
    let nan = RecordGroup {
        kind: Kind::Spc.into(),
        bin_ids: Vec::new(),
        bin_counts: Vec::new(),
        values: vec![f64::NAN, f64::INFINITY],
        ..bins("u", vec![0, 1], vec![0, 0])
    };
    let records = vec![
        group(bins("u", vec![0, 2, 1], vec![0, 0, 0])),
        // The time of the second is out of range, that of the third is not.
        group(bins("u", vec![0, 1, 0], vec![0, i64::MIN, i64::MIN])),
        group(bins("", vec![0, 1], vec![0, 0])),
        group(RecordGroup { bin_counts: vec![1], ..bins("u", vec![0, 1], vec![0, 0]) }),
        group(RecordGroup { kind: 9, ..bins("u", vec![0], vec![0]) }),
        group(large),
        group(crowded),
        group(RecordGroup::default()),
        group(nan),
    ];
    let payload = InsertMessageRequest { records, ..InsertMessageRequest::default() }.encode_to_vec();
    let verdict = judge(&payload, Envelope::Scouter).unwrap();
    let row = RejectReason::Row;
    let expected = [
        (1, row(RowFault::NameMissing)),
        (4, RejectReason::TimeOutOfRange { field: "created_at_unix_nano" }),
        (6, RejectReason::EntityUidEmpty),
        (7, RejectReason::EntityUidEmpty),
        (8, row(RowFault::ColumnsDiffer)),
        (9, row(RowFault::ColumnsDiffer)),
        (10, row(RowFault::KindUnknown)),
        (12, RejectReason::RecordTooLarge),
    ];
    let too_large = verdict.rejected_records.iter().find(|rejected| rejected.index == 11).unwrap();
    assert!(matches!(too_large.reason, RejectReason::GroupTooLarge { .. }), "{too_large:?}");
    let others: Vec<_> = verdict.rejected_records.iter().filter(|rejected| rejected.index != 11).copied().collect();
    assert_eq!((verdict.records, others), (15, expected.map(|(index, reason)| Rejected { index, reason }).to_vec()));
    // Whoever walks the records counts as the judge does.
    let unreadable: Vec<u32> =
        (0..).zip(records_in(&payload, Envelope::Scouter)).filter(|(_, read)| read.is_none()).map(|(at, _)| at).collect();
    assert_eq!((records_in(&payload, Envelope::Scouter).count(), unreadable), (15, vec![1, 8, 9, 10, 11, 12]));
    let mut columns = Columns::new();
    let rejected: Vec<u32> = verdict.rejected_records.iter().map(|rejected| rejected.index).collect();
    columns.append(&payload, Envelope::Scouter, &[], &rejected);
    assert_eq!(columns.rows(), 15 - rejected.len());
}

#[test]
fn bad_records_reject_only_themselves() {
    let psi = |entity_uid: &str, created_at_unix_nano| {
        Record::Psi(PsiRecord { entity_uid: entity_uid.to_owned(), created_at_unix_nano, ..PsiRecord::default() })
    };
    let eval = |trace_id: Vec<u8>| Record::Eval(EvalRecord { entity_uid: "u".to_owned(), trace_id, ..EvalRecord::default() });
    let records = [
        Some(psi("u", 1)),
        Some(psi("", 1)),
        Some(psi("u", u64::MAX)),
        Some(Record::Tag(TagRecord::default())),
        Some(Record::Spc(SpcRecord { entity_uid: "u".to_owned(), value: f64::NAN, ..SpcRecord::default() })),
        Some(eval(Vec::new())),
        Some(eval(vec![0; 16])),
        Some(eval(vec![1; 8])),
        Some(Record::AgentTask(AgentTaskRecord { entity_uid: "u".to_owned(), end_time_unix_nano: 1 << 63, ..AgentTaskRecord::default() })),
        None,
    ];
    let records = records.map(|record| MonitoringRecord { record }).to_vec();
    let mut payload = InsertMessageRequest { records, ..InsertMessageRequest::default() }.encode_to_vec();
    payload.extend(field(3, &field(1, &field(2, b"\xff"))));
    let too_many: Vec<u8> = (0..=MAX_RECORD_FIELDS).flat_map(|_| field(8, b"")).collect();
    payload.extend(field(3, &field(4, &[field(2, b"u"), too_many].concat())));
    payload.extend(field(3, &field(1, &field(2, b"u"))));
    // An empty group, which prost would skip to build what follows it.
    let hidden: Vec<u8> = [b"\xa3\x06\xa4\x06".to_vec(), field(2, b"u"), field(8, b"")].concat();
    payload.extend(field(3, &field(4, &hidden)));
    let verdict = judge(&payload, Envelope::Scouter).unwrap();
    assert_eq!(verdict.records, 14);
    let expected = [
        (1, RejectReason::EntityUidEmpty),
        (2, RejectReason::TimeOutOfRange { field: "created_at_unix_nano" }),
        (7, RejectReason::RecordTraceIdLength { bytes: 8 }),
        (8, RejectReason::TimeOutOfRange { field: "end_time_unix_nano" }),
        (9, RejectReason::RecordKindMissing),
        (10, RejectReason::RecordUndecodable),
        (11, RejectReason::RecordTooLarge),
        (13, RejectReason::RecordUndecodable),
    ];
    assert_eq!(verdict.rejected_records, expected.map(|(index, reason)| Rejected { index, reason }));
}

#[test]
fn an_event_without_anything_is_an_event() {
    accepts(Span { events: vec![Event::default()], ..good_span() });
}
