//! Monitoring records as protobuf bytes, written once into a buffer that is reused, and the requests they are sent in.

use prost::Message;
use scouter_tonic::message::MonitoringRecord;

use super::{
    batch::{BATCH_ID_FIELD_BYTES, EncodedRequest, FIELD_HEAD_BYTES, TooLarge, put_batch_id},
    wire::{
        delimited, fixed64_field, put_bytes, put_bytes_always, put_fixed64, put_nested, put_varint, split_field, varint_field, varint_len,
    },
};

const REQUEST_RECORDS: u8 = delimited(3);
const PSI: u8 = delimited(1);
const SPC: u8 = delimited(2);
const CUSTOM: u8 = delimited(3);
/// Of every record: when it was made, and whose it is.
const CREATED_AT: u8 = fixed64_field(1);
const ENTITY_UID: u8 = delimited(2);
/// Of PSI, SPC and custom records: the feature, or the metric.
const NAME: u8 = delimited(3);
const EVAL: u8 = delimited(4);
/// Of an evaluation, in this order: its ids, its context, its trace, its tags, where it comes from and how far it is.
const EVAL_TEXTS: [u8; 4] = [delimited(3), delimited(4), delimited(5), delimited(6)];
const TRACE_ID: u8 = delimited(7);
const TAG: u8 = delimited(8);
const RECORD_SOURCE: u8 = delimited(9);
const STATUS: u8 = delimited(10);
const BIN_ID: u8 = varint_field(4);
const BIN_COUNT: u8 = varint_field(5);
const VALUE: u8 = fixed64_field(4);

/// Monitoring records as they stand in a request, tag and length included.
#[derive(Clone, Debug, Default)]
pub struct EncodedRecords {
    framed: Vec<u8>,
    records: usize,
}

/// Whose record it is, and of which feature or metric: the part that all its records share, encoded once.
#[derive(Clone, Debug)]
pub struct RecordSubject(Vec<u8>);

impl RecordSubject {
    /// `name` is a feature's or a metric's.
    pub fn new(entity_uid: &str, name: &str) -> Self {
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, ENTITY_UID, entity_uid.as_bytes());
        put_bytes(&mut bytes, NAME, name.as_bytes());
        Self(bytes)
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
    /// Adds a record of any kind.
    pub fn push(&mut self, record: &MonitoringRecord) {
        self.framed.reserve(FIELD_HEAD_BYTES + 16);
        self.framed.push(REQUEST_RECORDS);
        put_varint(&mut self.framed, record.encoded_len() as u64);
        record.encode_raw(&mut self.framed);
        self.records += 1;
    }

    /// Adds how many values of a feature fell into one bin.
    pub fn push_psi(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, bin_id: i64, bin_count: u64) {
        let (bin_id, len_id) = (bin_id as u64, varint_field_len(bin_id as u64));
        let len = fixed64_len(created_at_unix_nano) + subject.0.len() + len_id + varint_field_len(bin_count);
        let out = self.begin(PSI, len);
        put_fixed64(out, CREATED_AT, created_at_unix_nano);
        out.extend_from_slice(&subject.0);
        for (tag, value) in [(BIN_ID, bin_id), (BIN_COUNT, bin_count)] {
            if value != 0 {
                out.push(tag);
                put_varint(out, value);
            }
        }
    }

    /// Adds a sample mean of a feature. NaN and infinities are values.
    pub fn push_spc(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, value: f64) {
        self.push_value(SPC, subject, created_at_unix_nano, value);
    }

    /// Adds a value of a metric. NaN and infinities are values.
    pub fn push_custom(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, value: f64) {
        self.push_value(CUSTOM, subject, created_at_unix_nano, value);
    }

    fn push_value(&mut self, kind: u8, subject: &RecordSubject, created_at_unix_nano: u64, value: f64) {
        let len = fixed64_len(created_at_unix_nano) + subject.0.len() + fixed64_len(value.to_bits());
        let out = self.begin(kind, len);
        put_fixed64(out, CREATED_AT, created_at_unix_nano);
        out.extend_from_slice(&subject.0);
        put_fixed64(out, VALUE, value.to_bits());
    }

    /// Adds an evaluation.
    pub fn push_eval(&mut self, eval: &EvalRef<'_>) {
        put_nested(&mut self.framed, REQUEST_RECORDS, |out| {
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

    /// Writes what stands in front of a record whose length is known.
    fn begin(&mut self, kind: u8, len: usize) -> &mut Vec<u8> {
        let out = &mut self.framed;
        out.push(REQUEST_RECORDS);
        put_varint(out, (1 + varint_len(len as u64) + len) as u64);
        out.push(kind);
        put_varint(out, len as u64);
        self.records += 1;
        out
    }

    /// Adds all records of another one.
    pub(crate) fn append(&mut self, other: &Self) {
        self.framed.extend_from_slice(&other.framed);
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

    /// Their bytes in a request.
    pub fn bytes(&self) -> usize {
        self.framed.len()
    }

    /// Removes everything and keeps the memory.
    pub fn clear(&mut self) {
        self.framed.clear();
        self.records = 0;
    }

    pub(super) fn capacity(&self) -> usize {
        self.framed.capacity()
    }

    /// Cuts the records into requests of at most `max_request_bytes` and `max_records` each. A record that fits no request alone is left
    /// out and named in the second list; everything else is in exactly one request.
    pub(crate) fn requests(&self, max_request_bytes: usize, max_records: usize) -> (Vec<EncodedRequest>, Vec<TooLarge>) {
        let mut requests = Vec::new();
        let mut too_large = Vec::new();
        let (mut start, mut end, mut records) = (0, 0, 0);
        let mut cut = |range: std::ops::Range<usize>, records: usize| {
            if records > 0 {
                let mut body = Vec::with_capacity(range.len() + BATCH_ID_FIELD_BYTES);
                body.extend_from_slice(&self.framed[range]);
                put_batch_id(&mut body);
                requests.push(EncodedRequest { body: body.into(), spans: 0, records });
            }
        };
        while let Some((record, len)) = split_field(&self.framed[end..]) {
            if BATCH_ID_FIELD_BYTES + len > max_request_bytes {
                too_large.push(TooLarge { name: kind_of(record).to_owned(), bytes: record.len(), is_record: true });
                cut(start..end, std::mem::take(&mut records));
                end += len;
                start = end;
                continue;
            }
            if records == max_records || BATCH_ID_FIELD_BYTES + (end - start) + len > max_request_bytes {
                cut(start..end, std::mem::take(&mut records));
                start = end;
            }
            end += len;
            records += 1;
        }
        cut(start..end, records);
        (requests, too_large)
    }
}

impl<'a> FromIterator<&'a MonitoringRecord> for EncodedRecords {
    fn from_iter<I: IntoIterator<Item = &'a MonitoringRecord>>(records: I) -> Self {
        let mut encoded = Self::default();
        records.into_iter().for_each(|record| encoded.push(record));
        encoded
    }
}

/// One request of encoded `MonitoringRecord` messages, whatever its size.
pub(super) fn one_request<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Option<EncodedRequest> {
    let mut encoded = EncodedRecords::default();
    for record in records {
        put_bytes_always(&mut encoded.framed, REQUEST_RECORDS, record);
        encoded.records += 1;
    }
    encoded.requests(usize::MAX, usize::MAX).0.pop()
}

fn varint_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

fn fixed64_len(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
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
        _ => "empty",
    }
}

#[cfg(test)]
mod tests;
