//! Frames with numbered spans and records, and the numbers read back.

use std::fs::File;
use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use scouter_tonic::grpc::InsertMessageRequest;
use scouter_tonic::message::{MonitoringRecord, PsiRecord, monitoring_record};

use crate::columns::Table;
use crate::log::{BatchId, Door, Frame};
use crate::otlp::{Envelope, judge};
use crate::store::Cut;

/// 2026-01-01, a second before midnight: rows on both sides of it.
const START_NANOS: u64 = 1_767_311_999_000_000_000;

/// A number is never 0, which would make an id invalid.
const OFFSET: u64 = 1 << 60;

/// OTLP spans with these numbers.
pub(super) fn spans(numbers: Range<u64>) -> Frame {
    frame(Envelope::Otlp, ExportTraceServiceRequest { resource_spans: vec![resource_spans(numbers)] }.encode_to_vec())
}

/// A mixed batch: spans and PSI records with these numbers.
pub(super) fn psi_and_spans(numbers: Range<u64>) -> Frame {
    let records = numbers.clone().map(|number| {
        let record = PsiRecord {
            created_at_unix_nano: START_NANOS,
            entity_uid: "0198a5c4-0000-7000-8000-000000000001".to_owned(),
            feature: "feature".to_owned(),
            bin_id: 1,
            bin_count: i64::try_from(number).unwrap(),
        };
        MonitoringRecord { record: Some(monitoring_record::Record::Psi(record)) }
    });
    let request = InsertMessageRequest {
        records: records.collect(),
        resource_spans: vec![resource_spans(numbers)],
        ..InsertMessageRequest::default()
    };
    frame(Envelope::Scouter, request.encode_to_vec())
}

/// The frame as if it had come in on the day `received`, with spans of these numbers that start at midnight of `day`, or a little later
/// so that no two are at the same time.
pub(super) fn at_day(frame: Frame, received: i32, day: i32, numbers: Range<u64>) -> Frame {
    const DAY: u64 = 86_400_000_000_000;
    let mut request = ExportTraceServiceRequest::decode(frame.payload.clone()).unwrap();
    let spans = request.resource_spans.iter_mut().flat_map(|spans| &mut spans.scope_spans).flat_map(|spans| &mut spans.spans);
    for (span, number) in spans.zip(numbers.clone()) {
        span.start_time_unix_nano = u64::try_from(day).unwrap() * DAY + (number - numbers.start) * 1000;
        span.end_time_unix_nano = span.start_time_unix_nano;
    }
    Frame { received_unix_nano: u64::try_from(received).unwrap() * DAY + 1, payload: Bytes::from(request.encode_to_vec()), ..frame }
}

fn frame(envelope: Envelope, payload: Vec<u8>) -> Frame {
    let verdict = judge(&payload, envelope).unwrap();
    assert!(verdict.rejected_spans.is_empty() && verdict.rejected_records.is_empty(), "{verdict:?}");
    Frame {
        door: Door::OtlpGrpc,
        envelope,
        received_unix_nano: START_NANOS,
        batch_id: BatchId::default(),
        rejected_spans: Vec::new(),
        rejected_records: Vec::new(),
        payload: Bytes::from(payload),
    }
}

fn resource_spans(numbers: Range<u64>) -> ResourceSpans {
    let text = |value: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    let attribute = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() };
    let service = ["checkout", "cart", "answerer"][(numbers.start % 3) as usize];
    let spans = numbers.map(|number| Span {
        trace_id: [(OFFSET + number / 10).to_be_bytes(), (!number).to_be_bytes()].concat(),
        span_id: (OFFSET + number).to_be_bytes().to_vec(),
        name: format!("operation {}", number % 5),
        kind: 2,
        start_time_unix_nano: START_NANOS + number * 1_000_003 % 2_000_000_000,
        end_time_unix_nano: START_NANOS + 2_000_000_000,
        attributes: vec![attribute("http.request.method", "GET"), attribute("number", &number.to_string())],
        ..Span::default()
    });
    ResourceSpans {
        resource: Some(Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// The numbers in a cut, in no order.
pub(super) fn read_ids(cut: &Cut, table: Table) -> Vec<u64> {
    let mut ids = Vec::new();
    for file in &cut.snapshot.files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path).unwrap()).unwrap().build().unwrap();
        let before = ids.len();
        for batch in reader {
            collect_ids(&batch.unwrap(), table, &mut ids);
        }
        assert_eq!((ids.len() - before) as u64, file.rows);
    }
    for batch in &cut.hot {
        assert_eq!(batch.schema(), table.schema());
        collect_ids(batch, table, &mut ids);
    }
    ids
}

fn collect_ids(batch: &RecordBatch, table: Table, ids: &mut Vec<u64>) {
    match table {
        Table::Spans => {
            let spans = batch.column_by_name("span_id").unwrap().as_binary::<i32>();
            ids.extend(spans.iter().map(|id| u64::from_be_bytes(id.unwrap().try_into().unwrap()) - OFFSET));
        }
        _ => {
            let counts = batch.column_by_name("bin_count").unwrap().as_primitive::<Int64Type>();
            ids.extend(counts.values().iter().map(|count| u64::try_from(*count).unwrap()));
        }
    }
}
