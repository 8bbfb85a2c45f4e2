//! Monitoring records as protobuf bytes, written once into a buffer that is reused, and the requests they are sent in.
//!
//! Bins, means and metrics are gathered as columns, a group for each entity and kind, because most bytes of such a record are the entity
//! and the name that its neighbours have too. Everything else is a record by itself.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use prost::Message;
use scouter_tonic::{
    group::{Row, Seen},
    message::{MonitoringRecord, RecordGroup, monitoring_record::Record, record_group::Kind},
};

use super::{
    batch::{BATCH_ID_FIELD_BYTES, EncodedRequest, FIELD_HEAD_BYTES, TooLarge, put_batch_id},
    group::{GROUP, OpenGroup},
    wire::{delimited, fixed64_field, put_bytes, put_bytes_always, put_fixed64, put_nested, put_varint, split_field},
};

/// Of a request.
pub(super) const REQUEST_RECORD: u8 = delimited(3);
const EVAL: u8 = delimited(4);
/// Of an evaluation: when it was made, and whose it is.
const CREATED_AT: u8 = fixed64_field(1);
const ENTITY_UID: u8 = delimited(2);
/// In this order: its ids, its context, its trace, its tags, where it comes from and how far it is.
const EVAL_TEXTS: [u8; 4] = [delimited(3), delimited(4), delimited(5), delimited(6)];
const TRACE_ID: u8 = delimited(7);
const TAG: u8 = delimited(8);
const RECORD_SOURCE: u8 = delimited(9);
const STATUS: u8 = delimited(10);

/// Beyond so many groups the ones there are are written, so that none is looked for long.
const MAX_GROUPS: usize = 32;

/// Entity and name of a record in a group; a group of many such names stays below what a server takes.
const MAX_SUBJECT_BYTES: usize = 64 * 1024;

/// Monitoring records, as far as they are written as they stand in a request: tag and length included.
#[derive(Clone, Debug, Default)]
pub struct EncodedRecords {
    framed: Vec<u8>,
    groups: Vec<OpenGroup>,
    /// The group used last: neighbours usually share it.
    last: usize,
    /// What the groups take in a request, at most.
    group_bytes: usize,
    records: usize,
}

/// Whose record it is, and of which feature or metric: the part that all its records share.
#[derive(Clone, Debug)]
pub struct RecordSubject {
    entity_uid: Arc<str>,
    name: Arc<str>,
}

impl RecordSubject {
    /// `name` is a feature's or a metric's.
    pub fn new(entity_uid: &str, name: &str) -> Self {
        Self { entity_uid: entity_uid.into(), name: name.into() }
    }

    /// Another feature or metric of the same entity, whose uid is not copied.
    pub fn sibling(&self, name: &str) -> Self {
        Self { entity_uid: Arc::clone(&self.entity_uid), name: name.into() }
    }

    fn is_long(&self) -> bool {
        self.entity_uid.len() + self.name.len() > MAX_SUBJECT_BYTES
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// An evaluation as it travels, from texts that lie elsewhere. The fields are those of
/// [`EvalRecord`](scouter_tonic::message::EvalRecord).
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct EvalRef<'a> {
    pub created_at_unix_nano: u64,
    pub entity_uid: &'a str,
    pub uid: &'a str,
    pub record_id: &'a str,
    pub session_id: &'a str,
    pub context_json: &'a str,
    pub trace_id: Option<[u8; 16]>,
    pub tags: &'a [String],
    pub record_source: &'a str,
    pub status: &'a str,
}

impl EncodedRecords {
    /// Adds a record of any kind, as it is.
    pub fn push(&mut self, record: &MonitoringRecord) {
        self.framed.reserve(FIELD_HEAD_BYTES + 16);
        self.framed.push(REQUEST_RECORD);
        put_varint(&mut self.framed, record.encoded_len() as u64);
        record.encode_raw(&mut self.framed);
        self.records += rows_of(record);
    }

    /// Adds how many values of a feature fell into one bin.
    pub fn push_psi(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, bin_id: i64, bin_count: u64) {
        if subject.is_long() {
            return self.push_alone(subject, created_at_unix_nano, Seen::Psi { bin_id, bin_count: bin_count.cast_signed() });
        }
        self.add_to_group(Kind::Psi, subject, |group| group.push_bin(subject, created_at_unix_nano, bin_id, bin_count));
    }

    /// Adds a sample mean of a feature. NaN and infinities are values.
    pub fn push_spc(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, value: f64) {
        if subject.is_long() {
            return self.push_alone(subject, created_at_unix_nano, Seen::Spc(value));
        }
        self.add_to_group(Kind::Spc, subject, |group| group.push_value(subject, created_at_unix_nano, value));
    }

    /// Adds a value of a metric. NaN and infinities are values.
    pub fn push_custom(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, value: f64) {
        if subject.is_long() {
            return self.push_alone(subject, created_at_unix_nano, Seen::Custom(value));
        }
        self.add_to_group(Kind::Custom, subject, |group| group.push_value(subject, created_at_unix_nano, value));
    }

    /// Adds a record whose texts are too long for a group.
    fn push_alone(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, seen: Seen) {
        let row = Row { created_at_unix_nano, entity_uid: &subject.entity_uid, name: &subject.name, seen };
        self.push(&MonitoringRecord { record: Some(row.into()) });
    }

    fn add_to_group(&mut self, kind: Kind, subject: &RecordSubject, add: impl FnOnce(&mut OpenGroup)) {
        let index = self.group_where(|group| group.is_of(kind, &subject.entity_uid));
        let index = index.unwrap_or_else(|| self.open(OpenGroup::new(kind, &subject.entity_uid)));
        self.change(index, add);
        self.records += 1;
    }

    fn group_where(&self, is_it: impl Fn(&OpenGroup) -> bool) -> Option<usize> {
        if self.groups.get(self.last).is_some_and(&is_it) {
            return Some(self.last);
        }
        self.groups.iter().position(is_it)
    }

    fn open(&mut self, group: OpenGroup) -> usize {
        if self.groups.len() == MAX_GROUPS {
            self.close_groups();
            self.groups.clear();
        }
        self.groups.push(group);
        self.groups.len() - 1
    }

    fn change(&mut self, index: usize, add: impl FnOnce(&mut OpenGroup)) {
        let group = &mut self.groups[index];
        let before = group.bound();
        add(group);
        self.group_bytes += group.bound() - before;
        self.last = index;
        if group.is_full() {
            self.group_bytes -= group.bound();
            group.write(&mut self.framed, REQUEST_RECORD);
            group.clear();
        }
    }

    fn close_groups(&mut self) {
        for group in &mut self.groups {
            group.write(&mut self.framed, REQUEST_RECORD);
            group.clear();
        }
        self.group_bytes = 0;
    }

    /// Adds an evaluation.
    pub fn push_eval(&mut self, eval: &EvalRef<'_>) {
        put_nested(&mut self.framed, REQUEST_RECORD, |out| {
            put_nested(out, EVAL, |out| {
                put_fixed64(out, CREATED_AT, eval.created_at_unix_nano);
                put_bytes(out, ENTITY_UID, eval.entity_uid.as_bytes());
                for (tag, text) in EVAL_TEXTS.into_iter().zip([eval.uid, eval.record_id, eval.session_id, eval.context_json]) {
                    put_bytes(out, tag, text.as_bytes());
                }
                put_bytes(out, TRACE_ID, eval.trace_id.as_ref().map_or(&[], |id| id.as_slice()));
                eval.tags.iter().for_each(|tag| put_bytes_always(out, TAG, tag.as_bytes()));
                put_bytes(out, RECORD_SOURCE, eval.record_source.as_bytes());
                put_bytes(out, STATUS, eval.status.as_bytes());
            });
        });
        self.records += 1;
    }

    /// Adds all records of another one.
    pub(crate) fn append(&mut self, other: &Self) {
        self.framed.extend_from_slice(&other.framed);
        for group in other.groups.iter().filter(|group| !group.is_empty()) {
            match self.group_where(|own| own.goes_with(group)) {
                Some(index) => self.change(index, |own| own.append(group)),
                None => {
                    let index = self.open(group.clone());
                    self.group_bytes += group.bound();
                    self.last = index;
                }
            }
        }
        self.records += other.records;
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.records
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Their bytes in a request, at most.
    pub fn bytes(&self) -> usize {
        self.framed.len() + self.group_bytes
    }

    /// Removes everything and keeps the memory.
    pub fn clear(&mut self) {
        self.framed.clear();
        self.groups.iter_mut().for_each(OpenGroup::clear);
        self.group_bytes = 0;
        self.records = 0;
    }

    pub(super) fn capacity(&self) -> usize {
        self.framed.capacity() + self.groups.iter().map(OpenGroup::capacity).sum::<usize>()
    }

    /// Cuts the records into requests of at most `max_request_bytes` and `max_records` each. A record that fits no request alone is left
    /// out and named in the second list; everything else is in exactly one request.
    pub(crate) fn requests(&self, max_request_bytes: usize, max_records: usize) -> (Vec<EncodedRequest>, Vec<TooLarge>) {
        let mut body = Vec::with_capacity(self.bytes() + BATCH_ID_FIELD_BYTES);
        body.extend_from_slice(&self.framed);
        self.groups.iter().for_each(|group| group.write(&mut body, REQUEST_RECORD));
        if self.records <= max_records && BATCH_ID_FIELD_BYTES + body.len() <= max_request_bytes {
            return (request(body, self.records).into_iter().collect(), Vec::new());
        }
        let mut parts: VecDeque<Part> = parts_of(&Bytes::from(body)).collect();
        let (mut requests, mut too_large) = (Vec::new(), Vec::new());
        let (mut body, mut records) = (Vec::new(), 0);
        while let Some(part) = parts.pop_front() {
            let fits = |used: usize, records: usize| {
                records + part.rows <= max_records && BATCH_ID_FIELD_BYTES + used + part.len() <= max_request_bytes
            };
            if fits(body.len(), records) {
                part.write(&mut body);
                records += part.rows;
                continue;
            }
            requests.extend(request(std::mem::take(&mut body), std::mem::take(&mut records)));
            if fits(0, 0) {
                parts.push_front(part);
            } else if let Some([left, right]) = part.split_at(part.rows / 2) {
                parts.push_front(right);
                parts.push_front(left);
            } else {
                too_large.push(TooLarge { name: kind_of(&part.record).to_owned(), bytes: part.record.len(), is_record: true });
            }
        }
        requests.extend(request(body, records));
        (requests, too_large)
    }
}

/// The requests of the two halves of a request's records. `None` when it is not of our making.
pub(super) fn halves(body: &Bytes, records: usize) -> Option<[EncodedRequest; 2]> {
    let mut halves = [(Vec::new(), 0), (Vec::new(), 0)];
    let mut before = 0;
    for part in parts_of(body) {
        let of_left = (records / 2).saturating_sub(before).min(part.rows);
        before += part.rows;
        if of_left > 0 && of_left < part.rows {
            let [left, right] = part.split_at(of_left)?;
            left.add_to(&mut halves[0]);
            right.add_to(&mut halves[1]);
        } else {
            part.add_to(&mut halves[usize::from(of_left == 0)]);
        }
    }
    let [left, right] = halves.map(|(body, records)| request(body, records));
    Some([left?, right?]).filter(|_| before == records)
}

fn request(mut body: Vec<u8>, records: usize) -> Option<EncodedRequest> {
    if records == 0 {
        return None;
    }
    put_batch_id(&mut body);
    Some(EncodedRequest { body: body.into(), spans: 0, records })
}

/// A field of a request: a record, or a group of them.
struct Part {
    /// The `MonitoringRecord`.
    record: Bytes,
    rows: usize,
}

/// The records of a request, whatever else is in it.
fn parts_of(body: &Bytes) -> impl Iterator<Item = Part> {
    let mut rest = body.clone();
    std::iter::from_fn(move || {
        loop {
            let tag = *rest.first()?;
            let (record, len) = split_field(&rest)?;
            let record = rest.slice_ref(record);
            let _field = rest.split_to(len);
            if tag == REQUEST_RECORD {
                let rows = group_in(&record).map_or(1, |group| group.row_count());
                return Some(Part { record, rows });
            }
        }
    })
}

impl Part {
    /// With tag and length.
    fn len(&self) -> usize {
        1 + prost::length_delimiter_len(self.record.len()) + self.record.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_bytes_always(out, REQUEST_RECORD, &self.record);
    }

    fn add_to(&self, half: &mut (Vec<u8>, usize)) {
        self.write(&mut half.0);
        half.1 += self.rows;
    }

    /// `None` for one record.
    fn split_at(&self, rows: usize) -> Option<[Self; 2]> {
        if rows == 0 || rows >= self.rows {
            return None;
        }
        let group = group_in(&self.record)?;
        let part = |group: RecordGroup| {
            let rows = group.row_count();
            Self { record: MonitoringRecord { record: Some(Record::Group(group)) }.encode_to_vec().into(), rows }
        };
        Some([part(group.slice(0..rows)?), part(group.slice(rows..self.rows)?)])
    }
}

fn group_in(record: &[u8]) -> Option<RecordGroup> {
    if record.first() != Some(&GROUP) {
        return None;
    }
    match MonitoringRecord::decode(record).ok()?.record? {
        Record::Group(group) => Some(group),
        _ => None,
    }
}

fn rows_of(record: &MonitoringRecord) -> usize {
    match &record.record {
        Some(Record::Group(group)) => group.row_count(),
        _ => 1,
    }
}

impl<'a> FromIterator<&'a MonitoringRecord> for EncodedRecords {
    fn from_iter<I: IntoIterator<Item = &'a MonitoringRecord>>(records: I) -> Self {
        let mut encoded = Self::default();
        records.into_iter().for_each(|record| encoded.push(record));
        encoded
    }
}

/// What an encoded record is called in messages.
fn kind_of(record: &[u8]) -> &'static str {
    match record.first().map(|tag| tag >> 3) {
        Some(1) => "psi",
        Some(2) => "spc",
        Some(3) => "custom",
        Some(4) => "eval",
        Some(5) => "tag",
        Some(6) => "observability",
        Some(7) => "agent_task",
        Some(8) => "agent_workflow",
        Some(9) => match group_in(record).map(|group| group.kind()) {
            Some(Kind::Psi) => "psi",
            Some(Kind::Spc) => "spc",
            Some(Kind::Custom) => "custom",
            _ => "group",
        },
        _ => "empty",
    }
}

#[cfg(test)]
mod tests;
