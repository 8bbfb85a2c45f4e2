//! From builders to a `RecordBatch`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;

use super::{PromotedColumn, SpanColumns};
use crate::columns::buffer::{Blank, renew};
use crate::columns::table::{Table, string_element};

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// The UTC day of a time, in days since 1970, rounded down.
pub(in crate::columns) fn day(unix_nano: i64) -> i32 {
    unix_nano.div_euclid(NANOS_PER_DAY) as i32
}

/// The microsecond of a time, rounded down.
pub(in crate::columns) fn micros(unix_nano: i64) -> i64 {
    unix_nano.div_euclid(1000)
}

impl SpanColumns {
    /// The rows so far as batches; none are left.
    pub(in crate::columns) fn finish(&mut self) -> Vec<RecordBatch> {
        if self.rows > 0 {
            self.seal();
        }
        std::mem::take(&mut self.sealed)
    }

    /// Ends the open batch.
    pub(super) fn seal(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let blank = Blank::new(rows);
        let start = renew(&mut self.start_unix_nano);
        let start_time = TimestampMicrosecondArray::from_iter_values(start.iter().map(|nanos| micros(*nanos))).with_timezone("UTC");
        let date = Date32Array::from_iter_values(start.iter().map(|nanos| day(*nanos)));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish(rows, 16)),
            Arc::new(self.span_id.finish(rows, 8)),
            Arc::new(self.parent_span_id.finish_binaries(&blank)),
            Arc::new(start_time),
            Arc::new(Int64Array::from(start)),
            Arc::new(Int64Array::from(renew(&mut self.duration_nano))),
            Arc::new(self.service_name.finish(&blank)),
            Arc::new(self.name.finish(&blank)),
            Arc::new(self.kind.finish(&blank)),
            Arc::new(self.status_code.finish(&blank)),
            Arc::new(self.status_message.finish(&blank)),
            Arc::new(self.scope_name.finish(&blank)),
            Arc::new(self.scope_version.finish(&blank)),
            Arc::new(self.scope_schema_url.finish(&blank)),
            Arc::new(self.resource_schema_url.finish(&blank)),
            Arc::new(self.trace_state.finish(&blank)),
            Arc::new(self.flags.finish(&blank)),
            Arc::new(self.dropped_attributes.finish(&blank)),
            Arc::new(self.dropped_events.finish(&blank)),
            Arc::new(self.dropped_links.finish(&blank)),
            Arc::new(self.resource_dropped_attributes.finish(&blank)),
            Arc::new(self.scope_dropped_attributes.finish(&blank)),
        ];
        columns.extend(self.promoted.iter_mut().map(|column| -> ArrayRef {
            match column {
                PromotedColumn::Word(words) => Arc::new(words.finish(&blank)),
                PromotedColumn::Text(texts) => Arc::new(texts.finish_strings(&blank)),
                PromotedColumn::Integer(numbers) => Arc::new(numbers.finish(&blank)),
            }
        }));
        columns.extend([
            Arc::new(self.attributes.finish_strings(&blank)) as ArrayRef,
            Arc::new(self.resource_attributes.finish(&blank)),
            Arc::new(self.scope_attributes.finish(&blank)),
            self.events.finish(&blank),
            self.links.finish(&blank),
            Arc::new(self.resource_entity_refs.finish(&blank)),
            Arc::new(self.input.finish_strings(&blank)),
            Arc::new(self.output.finish_strings(&blank)),
            self.entity_ids.finish(&blank, string_element()),
            self.queue_ids.finish(&blank, string_element()),
            Arc::new(self.tags.finish_strings(&blank)),
            Arc::new(date),
        ]);
        let batch = RecordBatch::try_new(Table::Spans.schema(), columns).expect("the builders make the columns of the schema");
        self.sealed.push(batch);
        self.walked = 0;
        self.envelope.clear();
        self.kinds.fill(None);
    }

    /// About how many bytes the rows take, the sealed ones included.
    pub(in crate::columns) fn bytes(&self) -> usize {
        let words = [
            &self.service_name,
            &self.name,
            &self.kind,
            &self.status_message,
            &self.scope_name,
            &self.scope_version,
            &self.scope_schema_url,
            &self.resource_schema_url,
            &self.trace_state,
            &self.resource_attributes,
            &self.scope_attributes,
            &self.resource_entity_refs,
        ];
        let texts = [&self.parent_span_id, &self.attributes, &self.input, &self.output, &self.tags];
        let numbers = [
            &self.flags,
            &self.dropped_attributes,
            &self.dropped_events,
            &self.dropped_links,
            &self.resource_dropped_attributes,
            &self.scope_dropped_attributes,
        ];
        let promoted = self.promoted.iter().map(|column| match column {
            PromotedColumn::Word(words) => words.bytes(),
            PromotedColumn::Text(texts) => texts.bytes(),
            PromotedColumn::Integer(numbers) => numbers.bytes(),
        });
        // Ids, start, duration; start_time and date are made when the batch ends.
        let fixed = self.rows * (16 + 8 + 8 + 8 + 8 + 4);
        fixed
            + words.iter().map(|column| column.bytes()).sum::<usize>()
            + texts.iter().map(|column| column.bytes()).sum::<usize>()
            + numbers.iter().map(|column| column.bytes()).sum::<usize>()
            + promoted.sum::<usize>()
            + self.status_code.bytes()
            + self.events.bytes()
            + self.links.bytes()
            + self.entity_ids.bytes()
            + self.queue_ids.bytes()
            + self.sealed.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
    }
}
