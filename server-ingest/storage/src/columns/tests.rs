#[path = "../../fuzz/against_prost.rs"]
mod against_prost;
mod derived;
mod generate;
mod json;
mod records;
mod round_trip;
mod scramble;
mod table;

use arrow::record_batch::RecordBatch;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::{Columns, Table};
use crate::otlp::{Envelope, judge};

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn span(name: &str, attributes: Vec<KeyValue>) -> Span {
    Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: name.to_owned(), attributes, ..Span::default() }
}

fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

/// Judges and appends.
fn append(columns: &mut Columns, payload: &[u8], envelope: Envelope) {
    let verdict = judge(payload, envelope).expect("a request that can be parsed");
    let rejected_spans: Vec<u32> = verdict.rejected_spans.iter().map(|rejected| rejected.index).collect();
    let rejected_records: Vec<u32> = verdict.rejected_records.iter().map(|rejected| rejected.index).collect();
    let rows = columns.rows();
    columns.append(payload, envelope, &rejected_spans, &rejected_records);
    let accepted = (verdict.spans + verdict.records) as usize - rejected_spans.len() - rejected_records.len();
    assert_eq!(columns.rows(), rows + accepted, "every accepted span and record is one row");
}

/// The only batch of spans that `request` makes.
fn spans_of(request: &ExportTraceServiceRequest) -> RecordBatch {
    let mut columns = Columns::new();
    append(&mut columns, &request.encode_to_vec(), Envelope::Otlp);
    let mut batches = columns.finish();
    assert_eq!(batches.len(), 1);
    let (table, batch) = batches.remove(0);
    assert_eq!(table, Table::Spans);
    batch
}
