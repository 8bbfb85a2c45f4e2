//! From judged bytes to Arrow columns, and back.
//!
//! [`Columns`] walks payloads straight into column buffers: no message structs for spans, no allocation a span once the
//! buffers have grown. Strings that repeat are numbered by an interner that lives as long as the batch. Reading back
//! ([`span_to_otlp`], [`records_from_batch`]) is for tests and for queries that answer in OTLP; it is not on a hot path.
//!
//! Invariants:
//! - the columns of a table lose nothing that OTLP or a record says in the fields this crate knows
//!   (`docs/storage-columns.md` names the normal form);
//! - derived columns only repeat what stands in the attributes;
//! - [`Columns::append`] cannot fail on what [`crate::otlp::judge`] accepted, and does not panic on anything else;
//! - a batch stays far below the 2 GiB that one column of it can hold, whatever is appended.

mod buffer;
mod interner;
mod json;
mod json_read;
mod keys;
mod promoted;
mod records;
mod spans;
mod table;
mod to_otlp;
mod to_records;

use arrow::record_batch::RecordBatch;
use scouter_tonic::message::monitoring_record::Record;

use crate::otlp::{Envelope, Fields, Wire, record};

use records::RecordColumns;
use spans::SpanColumns;

pub use json_read::{JsonError, attributes_from_json};
pub use table::Table;
pub use to_otlp::{ReadError, SpanReader, StoredSpan, span_to_otlp};
pub use to_records::records_from_batch;

/// The column of the spans that repeats the attribute `key`, if it is one that has a column.
pub fn promoted_column(key: &str) -> Option<&'static str> {
    promoted::find(key.as_bytes()).map(|index| promoted::PROMOTED[index].column)
}

/// Whether the column of the attribute `key` may hold what another attribute says: OpenInference's word for the same.
pub fn is_filled_in(key: &str) -> bool {
    promoted::find(key.as_bytes()).is_some_and(promoted::is_filled_in)
}

/// The rows of all tables that are not yet handed over.
#[derive(Debug)]
pub struct Columns {
    spans: SpanColumns,
    records: Vec<RecordColumns>,
}

impl Columns {
    /// No rows.
    pub fn new() -> Self {
        let records = Table::ALL.into_iter().filter(|table| *table != Table::Spans).map(RecordColumns::new).collect();
        Self { spans: SpanColumns::new(), records }
    }

    /// Adds the rows of a payload that [`crate::otlp::judge`] accepted, but for the rejected indexes (ascending).
    /// Never fails on such a payload; one that was not judged gives wrong rows, not a panic.
    pub fn append(&mut self, payload: &[u8], envelope: Envelope, rejected_spans: &[u32], rejected_records: &[u32]) {
        let mut is_rejected_span = cursor(rejected_spans);
        let mut is_rejected_record = cursor(rejected_records);
        for field in Fields::new(payload).readable() {
            let Wire::Bytes(bytes) = field.wire else { continue };
            if field.number == envelope.resource_spans_field() {
                self.spans.append(bytes, &mut is_rejected_span);
            } else if Some(field.number) == envelope.records_field() {
                self.append_record(bytes, &mut is_rejected_record);
            }
        }
    }

    /// Rows in all tables.
    pub fn rows(&self) -> usize {
        self.spans.rows() + self.records.iter().map(RecordColumns::rows).sum::<usize>()
    }

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        self.spans.bytes() + self.records.iter().map(RecordColumns::bytes).sum::<usize>()
    }

    /// The rows of every table that has some; none are left. A table comes more than once when its rows are too many for
    /// one batch, in the order of their arrival.
    pub fn finish(&mut self) -> Vec<(Table, RecordBatch)> {
        let mut batches: Vec<_> = self.spans.finish().into_iter().map(|batch| (Table::Spans, batch)).collect();
        for records in &mut self.records {
            let table = records.table();
            batches.extend(records.finish().into_iter().map(|batch| (table, batch)));
        }
        batches
    }

    fn append_record(&mut self, message: &[u8], is_rejected: &mut impl FnMut() -> bool) {
        match record::decode(message) {
            Ok(Record::Group(group)) => {
                for row in group.rows() {
                    if !is_rejected()
                        && let Ok(row) = row
                    {
                        self.of(records::table_of_row(&row)).append_row(row);
                    }
                }
            }
            Ok(record) => {
                if !is_rejected() {
                    self.of(records::table_of(&record)).append(&record);
                }
            }
            // It has a number all the same.
            Err(_) => drop(is_rejected()),
        }
    }

    fn of(&mut self, table: Table) -> &mut RecordColumns {
        self.records.iter_mut().find(|columns| columns.table() == table).expect("every kind of record has its columns")
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self::new()
    }
}

/// An attribute's value as the canonical JSON of the `attributes` columns.
pub(crate) fn write_json(out: &mut Vec<u8>, value: crate::otlp::AnyValue<'_>) {
    json::write(out, value, 1);
}

/// Answers, asked once for each item in order, whether it is among the ascending `rejected` indexes.
fn cursor(rejected: &[u32]) -> impl FnMut() -> bool {
    let (mut index, mut rest) = (0u32, rejected);
    move || {
        let is_rejected = rest.first() == Some(&index);
        if is_rejected {
            rest = &rest[1..];
        }
        index = index.wrapping_add(1);
        is_rejected
    }
}

#[cfg(test)]
mod tests;
