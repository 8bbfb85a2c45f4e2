//! What of the log's frames becomes rows, and the keys of the rows.
//!
//! A record's key is the 128-bit XXH3 of the record as protobuf, a row of a group as the record it stands for, and of how many equal ones came before it in its request. So a record that is
//! sent again, in whatever request, has the same key, and equal records that were sent together have different ones.

use std::collections::HashMap;

use prost::Message;
use scouter_storage::{
    log::{Frame, Position},
    otlp::{SpanLabels, labels_in, records_in},
};
use scouter_tonic::message::{MonitoringRecord, TagRecord, monitoring_record::Record};

/// One record.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) position: Position,
    pub(super) key: [u8; 16],
    pub(super) record: Record,
}

/// Baggage of one span.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Baggage {
    pub(super) unix_nano: u64,
    pub(super) trace_id: [u8; 16],
    pub(super) scope: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// A profile that a trace names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TraceEntity {
    pub(super) unix_nano: u64,
    pub(super) trace_id: [u8; 16],
    pub(super) entity_uid: [u8; 16],
}

/// The rows of frames that follow each other.
#[derive(Debug)]
pub(super) struct Batch {
    /// The last frame.
    pub(super) last: Position,
    pub(super) rows: Vec<Row>,
    pub(super) baggage: Vec<Baggage>,
    pub(super) entities: Vec<TraceEntity>,
}

impl Batch {
    /// Nothing, after this frame.
    pub(super) fn new(last: Position) -> Self {
        Self { last, rows: Vec::new(), baggage: Vec::new(), entities: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.baggage.len() + self.entities.len()
    }

    /// Adds the next frame.
    pub(super) fn add(&mut self, position: Position, frame: &Frame) {
        let mut seen: HashMap<u128, u32> = HashMap::new();
        for (index, record) in (0_u32..).zip(records_in(&frame.payload, frame.envelope)) {
            // It was judged when it came in.
            if let Some(record) = record
                && frame.rejected_records.binary_search(&index).is_err()
            {
                self.push(position, record, &mut seen);
            }
        }
        for labels in labels_in(&frame.payload, frame.envelope, &frame.rejected_spans) {
            self.add_labels(position, labels, &mut seen);
        }
        self.last = position;
    }

    fn add_labels(&mut self, position: Position, labels: SpanLabels, seen: &mut HashMap<u128, u32>) {
        let SpanLabels { trace_id, start_unix_nano: unix_nano, scope_name: scope, tags, baggage, entity_uids } = labels;
        let entity_id = format!("{:032x}", u128::from_be_bytes(trace_id));
        for (key, value) in tags {
            let tag =
                TagRecord { created_at_unix_nano: unix_nano, entity_type: "trace".to_owned(), entity_id: entity_id.clone(), key, value };
            self.push(position, Record::Tag(tag), seen);
        }
        self.baggage.extend(baggage.into_iter().map(|(key, value)| Baggage { unix_nano, trace_id, scope: scope.clone(), key, value }));
        let entities = entity_uids.iter().filter_map(|uid| uuid_bytes(uid));
        self.entities.extend(entities.map(|entity_uid| TraceEntity { unix_nano, trace_id, entity_uid }));
    }

    fn push(&mut self, position: Position, record: Record, seen: &mut HashMap<u128, u32>) {
        let record = MonitoringRecord { record: Some(record) };
        let mut bytes = record.encode_to_vec();
        let before = seen.entry(twox_hash::XxHash3_128::oneshot(&bytes)).or_default();
        bytes.extend_from_slice(&before.to_le_bytes());
        *before += 1;
        let key = twox_hash::XxHash3_128::oneshot(&bytes).to_be_bytes();
        if let Some(record) = record.record {
            self.rows.push(Row { position, key, record });
        }
    }
}

/// The bytes of a UUID written with or without hyphens.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_uuid.then(|| u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)).flatten()
}

impl Row {
    /// The kind, as Scouter names profiles and this program its tables.
    pub(super) fn kind(&self) -> &'static str {
        match self.record {
            Record::Psi(_) => "psi",
            Record::Spc(_) => "spc",
            Record::Custom(_) => "custom",
            Record::Eval(_) => "eval",
            Record::Tag(_) => "tag",
            Record::Observability(_) => "observability",
            Record::AgentTask(_) => "task",
            Record::AgentWorkflow(_) => "workflow",
            Record::Group(_) => "group",
        }
    }

    /// The uid of its profile, and the kind that the profile must be of.
    pub(super) fn entity(&self) -> Option<(&str, Option<&'static str>)> {
        Some(match &self.record {
            Record::Psi(record) => (&record.entity_uid, Some("Psi")),
            Record::Spc(record) => (&record.entity_uid, Some("Spc")),
            Record::Custom(record) => (&record.entity_uid, Some("Custom")),
            Record::Eval(record) => (&record.entity_uid, Some("Agent")),
            Record::AgentTask(record) => (&record.entity_uid, Some("Agent")),
            Record::AgentWorkflow(record) => (&record.entity_uid, Some("Agent")),
            Record::Observability(record) => (&record.entity_uid, None),
            Record::Tag(_) | Record::Group(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
