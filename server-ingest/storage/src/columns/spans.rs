//! The builders of the `spans` table and the walk of a request into them.
//!
//! The bytes were judged, so a walk ends silently where they are not what it expects. Fields may come in any order and
//! repeat: the last of a plain field counts, lists go on, and what stands once per resource or scope is looked up before
//! its spans are walked.

mod batch;
mod derived;
mod envelope;
mod nested;
mod openinference;
mod walk;

use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;

use super::buffer::{Ids, Numbers, StringLists, Text, Words};
use super::keys::Keys;
use super::promoted::{COUNT, PROMOTED, Shape};
use nested::{Events, Links};

pub(super) use batch::{day, micros};
pub(super) use openinference::Member;
pub(super) use walk::KINDS;

/// A batch is sealed when its spans came from this many payload bytes. Text grows at most sixfold on its way into a column
/// (control characters), so no column reaches the 2 GiB its offsets can count, even when one request adds 64 MiB more.
const SEAL_BYTES: usize = 192 * 1024 * 1024;

/// A batch is sealed at this many rows.
const SEAL_ROWS: usize = 1 << 20;

/// The rows of the `spans` table that are not yet handed over.
#[derive(Debug)]
pub(super) struct SpanColumns {
    rows: usize,
    /// Payload bytes walked for the rows of the open batch.
    walked: usize,
    sealed: Vec<RecordBatch>,
    envelope: envelope::EnvelopeCache,
    keys: Keys,
    /// The keys of the kinds' names in the open batch.
    kinds: [Option<i32>; KINDS.len()],
    said: openinference::Said,

    trace_id: Ids,
    span_id: Ids,
    parent_span_id: Text,
    start_unix_nano: Vec<i64>,
    duration_nano: Vec<i64>,
    service_name: Words,
    name: Words,
    kind: Words,
    status_code: Numbers<Int32Type>,
    status_message: Words,
    scope_name: Words,
    scope_version: Words,
    scope_schema_url: Words,
    resource_schema_url: Words,
    trace_state: Words,
    flags: Numbers<Int64Type>,
    dropped_attributes: Numbers<Int64Type>,
    dropped_events: Numbers<Int64Type>,
    dropped_links: Numbers<Int64Type>,
    resource_dropped_attributes: Numbers<Int64Type>,
    scope_dropped_attributes: Numbers<Int64Type>,
    promoted: [PromotedColumn; COUNT],
    attributes: Text,
    resource_attributes: Words,
    scope_attributes: Words,
    events: Events,
    links: Links,
    resource_entity_refs: Words,
    input: Text,
    output: Text,
    entity_ids: StringLists,
    queue_ids: StringLists,
    tags: Text,
}

#[derive(Debug)]
enum PromotedColumn {
    Word(Words),
    Text(Text),
    Integer(Numbers<Int64Type>),
}

impl SpanColumns {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            walked: 0,
            sealed: Vec::new(),
            envelope: envelope::EnvelopeCache::default(),
            keys: Keys::new(),
            kinds: [None; KINDS.len()],
            said: openinference::Said::default(),
            trace_id: Ids::default(),
            span_id: Ids::default(),
            parent_span_id: Text::nullable(),
            start_unix_nano: Vec::new(),
            duration_nano: Vec::new(),
            service_name: Words::required(),
            name: Words::required(),
            kind: Words::required(),
            status_code: Numbers::required(),
            status_message: Words::required(),
            scope_name: Words::required(),
            scope_version: Words::required(),
            scope_schema_url: Words::required(),
            resource_schema_url: Words::required(),
            trace_state: Words::required(),
            flags: Numbers::required(),
            dropped_attributes: Numbers::required(),
            dropped_events: Numbers::required(),
            dropped_links: Numbers::required(),
            resource_dropped_attributes: Numbers::required(),
            scope_dropped_attributes: Numbers::required(),
            promoted: std::array::from_fn(|index| match PROMOTED[index].shape {
                Shape::Word => PromotedColumn::Word(Words::nullable()),
                Shape::Text => PromotedColumn::Text(Text::nullable()),
                Shape::Integer => PromotedColumn::Integer(Numbers::nullable()),
            }),
            attributes: Text::required(),
            resource_attributes: Words::required(),
            scope_attributes: Words::required(),
            events: Events::new(),
            links: Links::new(),
            resource_entity_refs: Words::nullable(),
            input: Text::nullable(),
            output: Text::nullable(),
            entity_ids: StringLists::new(),
            queue_ids: StringLists::new(),
            tags: Text::nullable(),
        }
    }

    /// Rows of the open batch and the sealed ones.
    pub(super) fn rows(&self) -> usize {
        self.rows + self.sealed.iter().map(RecordBatch::num_rows).sum::<usize>()
    }

    fn is_full(&self) -> bool {
        self.rows >= SEAL_ROWS || self.walked >= SEAL_BYTES
    }
}
