//! Any bytes as a trace request: what is stored of them equals what prost's message structs say they are.
//!
//! Shared by the fuzz target, the test that runs its kept corpus, and the crate's property tests.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Status;
use prost::Message;
use scouter_storage::columns::{Columns, StoredSpan, Table, span_to_otlp};
use scouter_storage::otlp::{Envelope, judge};

/// No bytes panic; what is accepted is stored, and equals what prost reads.
pub(crate) fn check(payload: &[u8]) {
    if judge(payload, Envelope::Otlp).is_ok() {
        check_accepted(payload);
    }
    if let Ok(verdict) = judge(payload, Envelope::Scouter) {
        let indexes = |rejected: &[scouter_storage::otlp::Rejected]| rejected.iter().map(|rejected| rejected.index).collect::<Vec<_>>();
        let (spans, records) = (indexes(&verdict.rejected_spans), indexes(&verdict.rejected_records));
        let mut columns = Columns::new();
        columns.append(payload, Envelope::Scouter, &spans, &records);
        let accepted = (verdict.spans + verdict.records) as usize - spans.len() - records.len();
        assert_eq!(columns.rows(), accepted, "every accepted span and record is one row");
        columns.finish();
    }
}

/// As [`check`], for a request that has to be accepted.
#[allow(dead_code, reason = "not every user has such requests")]
pub(crate) fn check_legal(payload: &[u8]) {
    let judged = judge(payload, Envelope::Otlp);
    assert!(judged.is_ok(), "a legal encoding was refused: {judged:?}");
    check_accepted(payload);
}

fn check_accepted(payload: &[u8]) {
    let verdict = judge(payload, Envelope::Otlp).expect("the caller saw that it is accepted");
    let rejected: Vec<u32> = verdict.rejected_spans.iter().map(|rejected| rejected.index).collect();
    let mut columns = Columns::new();
    columns.append(payload, Envelope::Otlp, &rejected, &[]);
    let stored = read_back(&mut columns);
    assert_eq!(stored.len(), verdict.spans as usize - rejected.len(), "every accepted span is one row");
    let decoded = ExportTraceServiceRequest::decode(payload);
    if let (Err(error), true) = (&decoded, rejected.is_empty()) {
        // Strings of a resource or scope without spans are nobody's.
        assert!(format!("{error:?}").contains("InvalidString"), "accepted what prost cannot decode: {error:?}");
    }
    if let Ok(decoded) = decoded {
        let mut sent = normal_form(decoded);
        assert_eq!(sent.len(), verdict.spans as usize);
        for index in rejected.iter().rev() {
            sent.remove(*index as usize);
        }
        assert_same(&stored, &sent);
    }
}

/// The spans of the columns, which are empty then.
pub(crate) fn read_back(columns: &mut Columns) -> Vec<StoredSpan> {
    let batches = columns.finish();
    assert_eq!((columns.rows(), columns.finish().len()), (0, 0), "nothing is left");
    let mut stored = Vec::new();
    for (table, batch) in batches {
        assert_eq!((table, batch.schema()), (Table::Spans, Table::Spans.schema()));
        stored.extend(span_to_otlp(&batch).expect("what was written can be read"));
    }
    stored
}

/// Compared as text, in which all NaN are equal and the two zeros are not.
pub(crate) fn assert_same(stored: &[StoredSpan], sent: &[StoredSpan]) {
    assert_eq!(stored.len(), sent.len());
    for (stored, sent) in stored.iter().zip(sent) {
        assert_eq!(format!("{stored:#?}"), format!("{sent:#?}"));
    }
}

/// The spans of a request in wire order, in normal form: what a request leaves out and what it sets to the default are the
/// same; so are all NaN, and a parent of eight zeros is none; `key_strindex`, which belongs to profiles, is not kept.
pub(crate) fn normal_form(request: ExportTraceServiceRequest) -> Vec<StoredSpan> {
    let mut stored = Vec::new();
    for resource_spans in request.resource_spans {
        let mut resource = resource_spans.resource.unwrap_or_default();
        normalize(&mut resource.attributes);
        for scope_spans in resource_spans.scope_spans {
            let mut scope = scope_spans.scope.unwrap_or_default();
            normalize(&mut scope.attributes);
            for mut span in scope_spans.spans {
                normalize(&mut span.attributes);
                span.events.iter_mut().for_each(|event| normalize(&mut event.attributes));
                span.links.iter_mut().for_each(|link| normalize(&mut link.attributes));
                span.status = span.status.filter(|status| *status != Status::default());
                if span.parent_span_id == [0; 8] {
                    span.parent_span_id.clear();
                }
                stored.push(StoredSpan {
                    resource: resource.clone(),
                    resource_schema_url: resource_spans.schema_url.clone(),
                    scope: scope.clone(),
                    scope_schema_url: scope_spans.schema_url.clone(),
                    span,
                });
            }
        }
    }
    stored
}

fn normalize(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        attribute.key_strindex = 0;
        normalize_value(attribute.value.get_or_insert_default());
    }
}

fn normalize_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::DoubleValue(value)) if value.is_nan() => *value = f64::NAN,
        Some(Value::ArrayValue(list)) => list.values.iter_mut().for_each(normalize_value),
        Some(Value::KvlistValue(map)) => normalize(&mut map.values),
        _ => {}
    }
}
