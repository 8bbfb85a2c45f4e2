//! Spans under their envelopes, and the requests they are sent in.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use opentelemetry_sdk::trace::SpanData;
use scouter_tonic::limits::BATCH_ID_BYTES;

use super::{
    buffer,
    envelope::EncodedEnvelope,
    records::EncodedRecords,
    sdk::write_span,
    span::span_name,
    wire::{delimited, put_bytes_always, put_nested, put_varint, split_field, varint_len},
};

const REQUEST_BATCH_ID: u8 = delimited(4);
const SCOPE_SPANS: u8 = delimited(2);
const SPAN: u8 = delimited(2);

/// A tag and the longest length a request can hold.
pub(super) const FIELD_HEAD_BYTES: usize = 6;
/// `batch_id` with tag and length.
pub(super) const BATCH_ID_FIELD_BYTES: usize = 2 + BATCH_ID_BYTES;

/// Bounds of what an emptied batch keeps.
const MAX_KEPT_GROUPS: usize = 16;
const MAX_KEPT_GROUP_BYTES: usize = 1024 * 1024;

/// So many monitoring records are worth a request.
pub(crate) const RECORDS_WORTH_A_REQUEST: usize = 4096;
/// Monitoring records in one request, at most. More than are worth one, because cutting a group in two costs more than sending it whole.
pub(crate) const MAX_RECORDS_PER_REQUEST: usize = 8192;

/// Encoded spans, grouped by envelope, and monitoring records, ready to be cut into requests.
#[derive(Debug, Default)]
pub struct EncodedBatch {
    groups: Vec<Group>,
    /// Index of the group used last: neighbours usually share their envelope.
    last: usize,
    spans: usize,
    /// Of the spans.
    bytes: usize,
    records: EncodedRecords,
}

#[derive(Debug)]
struct Group {
    envelope: Arc<EncodedEnvelope>,
    /// `Span` fields of a `ScopeSpans`, tag and length included.
    framed: Vec<u8>,
    spans: usize,
}

/// Which message a request is. Both hold the same `ResourceSpans` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFormat {
    /// Scouter's `InsertMessageRequest`, with a `batch_id` of its own.
    Scouter,
    /// OTLP's `ExportTraceServiceRequest`.
    Otlp,
}

impl RequestFormat {
    pub(super) const fn resource_spans(self) -> u8 {
        match self {
            Self::Scouter => delimited(2),
            Self::Otlp => delimited(1),
        }
    }

    /// Bytes of a request beside its spans and their envelopes.
    const fn overhead_bytes(self) -> usize {
        match self {
            Self::Scouter => BATCH_ID_FIELD_BYTES,
            Self::Otlp => 0,
        }
    }
}

/// The bytes of one request. Every attempt sends these same bytes, the `batch_id` of Scouter's included.
#[derive(Clone, Debug)]
pub struct EncodedRequest {
    /// The encoded message.
    pub body: Bytes,
    /// Spans in it.
    pub spans: usize,
    /// Monitoring records in it.
    pub records: usize,
}

/// A span or record that fits no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The span's name, or the record's kind.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: usize,
    /// A monitoring record, and no span.
    pub is_record: bool,
}

impl EncodedBatch {
    /// Adds a span's bytes, as [`SpanWriter`](super::SpanWriter) or [`write_span`] made them.
    #[inline]
    pub fn push(&mut self, envelope: &Arc<EncodedEnvelope>, span: &[u8]) {
        let group = self.group(envelope);
        let before = group.framed.len();
        put_bytes_always(&mut group.framed, SPAN, span);
        group.spans += 1;
        self.bytes += self.groups[self.last].framed.len() - before;
        self.spans += 1;
    }

    /// Encodes a span in place and adds it.
    #[inline]
    pub fn push_span_data(&mut self, envelope: &Arc<EncodedEnvelope>, span: &SpanData) {
        let group = self.group(envelope);
        let before = group.framed.len();
        put_nested(&mut group.framed, SPAN, |out| write_span(out, span));
        group.spans += 1;
        self.bytes += self.groups[self.last].framed.len() - before;
        self.spans += 1;
    }

    /// Bytes that a span of that many bytes adds to a batch.
    pub(crate) fn framed_len(span_bytes: usize) -> usize {
        1 + varint_len(span_bytes as u64) + span_bytes
    }

    /// Adds monitoring records.
    pub fn push_records(&mut self, records: &EncodedRecords) {
        self.records.append(records);
    }

    /// Adds all spans and records of another batch.
    pub(crate) fn append(&mut self, other: &Self) {
        for group in other.groups.iter().filter(|group| group.spans > 0) {
            let own = self.group(&group.envelope);
            own.framed.extend_from_slice(&group.framed);
            own.spans += group.spans;
        }
        self.spans += other.spans;
        self.bytes += other.bytes;
        self.records.append(&other.records);
    }

    /// Spans in the batch.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// Monitoring records in the batch.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Bytes of the spans and records in it, at most.
    pub fn bytes(&self) -> usize {
        self.bytes + self.records.bytes()
    }

    /// True without spans and records.
    pub fn is_empty(&self) -> bool {
        self.spans == 0 && self.records.is_empty()
    }

    /// True when its memory is of an ordinary size, so that keeping it saves more than it costs.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.groups.len() <= MAX_KEPT_GROUPS
            && self.groups.iter().all(|group| group.framed.capacity() <= MAX_KEPT_GROUP_BYTES)
            && self.records.capacity() <= MAX_KEPT_GROUP_BYTES
    }

    /// Removes everything and keeps the memory.
    pub fn clear(&mut self) {
        for group in &mut self.groups {
            group.framed.clear();
            group.spans = 0;
        }
        self.spans = 0;
        self.bytes = 0;
        self.records.clear();
    }

    #[inline]
    fn group(&mut self, envelope: &Arc<EncodedEnvelope>) -> &mut Group {
        let is_last = self.groups.get(self.last).is_some_and(|group| Arc::ptr_eq(&group.envelope, envelope));
        if !is_last {
            self.last = match self.groups.iter().position(|group| Arc::ptr_eq(&group.envelope, envelope)) {
                Some(index) => index,
                None => {
                    self.groups.push(Group { envelope: Arc::clone(envelope), framed: Vec::new(), spans: 0 });
                    self.groups.len() - 1
                }
            };
        }
        &mut self.groups[self.last]
    }

    /// Cuts the batch into requests to Scouter of at most `max_request_bytes` each; see [`EncodedBatch::requests_in`].
    pub fn requests(&self, max_request_bytes: usize) -> (Vec<EncodedRequest>, Vec<TooLarge>) {
        self.requests_in(RequestFormat::Scouter, max_request_bytes)
    }

    /// Cuts the batch into requests of at most `max_request_bytes` each. A span or record that fits no request alone is left out and
    /// named in the second list; everything else is in exactly one request. Spans and records go in requests of their own, and
    /// records in Scouter's only: OTLP has no place for them.
    pub fn requests_in(&self, format: RequestFormat, max_request_bytes: usize) -> (Vec<EncodedRequest>, Vec<TooLarge>) {
        let mut requests = Vec::new();
        let mut too_large = Vec::new();
        let mut plan = Plan::new(format, max_request_bytes);
        for (index, group) in self.groups.iter().enumerate().filter(|(_, group)| group.spans > 0) {
            if plan.fits(self, index, group.framed.len()) {
                plan.add(self, index, 0..group.framed.len(), group.spans);
                continue;
            }
            let mut start = 0;
            while let Some((span, len)) = split_field(&group.framed[start..]) {
                let range = start..start + len;
                start += len;
                if !plan.fits(self, index, len) {
                    if let Some(request) = plan.finish(self) {
                        requests.push(request);
                    }
                    if !plan.fits(self, index, len) {
                        too_large.push(TooLarge { name: span_name(span).unwrap_or("?").to_owned(), bytes: span.len(), is_record: false });
                        continue;
                    }
                }
                plan.add(self, index, range, 1);
            }
        }
        requests.extend(plan.finish(self));
        if format == RequestFormat::Scouter {
            let (of_records, too_large_records) = self.records.requests(max_request_bytes, MAX_RECORDS_PER_REQUEST);
            requests.extend(of_records);
            too_large.extend(too_large_records);
        }
        (requests, too_large)
    }
}

/// A request being put together: which bytes of which groups, and an upper bound of its size.
struct Plan {
    format: RequestFormat,
    max_bytes: usize,
    bytes: usize,
    parts: Vec<Part>,
}

struct Part {
    group: usize,
    range: Range<usize>,
    spans: usize,
}

impl Plan {
    fn new(format: RequestFormat, max_bytes: usize) -> Self {
        Self { format, max_bytes, bytes: format.overhead_bytes(), parts: Vec::new() }
    }

    /// Bytes that `len` bytes of `group` add, its envelope included where the request does not hold it yet.
    fn cost(&self, batch: &EncodedBatch, group: usize, len: usize) -> usize {
        let envelope = &batch.groups[group].envelope;
        let has = |same: &dyn Fn(&Arc<EncodedEnvelope>) -> bool| self.parts.iter().any(|part| same(&batch.groups[part.group].envelope));
        let mut cost = len;
        if !has(&|other| Arc::ptr_eq(other, envelope)) {
            cost += FIELD_HEAD_BYTES + envelope.scope.len();
        }
        if !has(&|other| same_resource(other, envelope)) {
            cost += FIELD_HEAD_BYTES + envelope.resource.bytes.len();
        }
        cost
    }

    fn fits(&self, batch: &EncodedBatch, group: usize, len: usize) -> bool {
        self.bytes + self.cost(batch, group, len) <= self.max_bytes
    }

    fn add(&mut self, batch: &EncodedBatch, group: usize, range: Range<usize>, spans: usize) {
        self.bytes += self.cost(batch, group, range.len());
        match self.parts.last_mut() {
            Some(part) if part.group == group && part.range.end == range.start => {
                part.range.end = range.end;
                part.spans += spans;
            }
            _ => self.parts.push(Part { group, range, spans }),
        }
    }

    /// Builds the request and starts the next one.
    fn finish(&mut self, batch: &EncodedBatch) -> Option<EncodedRequest> {
        let parts = std::mem::take(&mut self.parts);
        let capacity = std::mem::replace(&mut self.bytes, self.format.overhead_bytes());
        let first = parts.first()?;
        let mut body = buffer::take(capacity);
        let envelope = |part: &Part| &batch.groups[part.group].envelope;
        let one_resource = parts.iter().all(|part| same_resource(envelope(part), envelope(first)));
        if one_resource {
            put_resource_spans(&mut body, self.format, batch, &parts.iter().collect::<Vec<_>>());
        } else {
            let mut rest: Vec<&Part> = parts.iter().collect();
            while let Some(first) = rest.first().copied() {
                let (same, others): (Vec<&Part>, Vec<&Part>) =
                    rest.iter().copied().partition(|part| same_resource(envelope(part), envelope(first)));
                put_resource_spans(&mut body, self.format, batch, &same);
                rest = others;
            }
        }
        if self.format == RequestFormat::Scouter {
            put_batch_id(&mut body);
        }
        Some(EncodedRequest { body: buffer::into_bytes(body), spans: parts.iter().map(|part| part.spans).sum(), records: 0 })
    }
}

fn same_resource(one: &Arc<EncodedEnvelope>, other: &Arc<EncodedEnvelope>) -> bool {
    Arc::ptr_eq(&one.resource, &other.resource) || one.resource == other.resource
}

/// Lengths are known here, so they are written directly and nothing is moved afterwards.
fn put_resource_spans(body: &mut Vec<u8>, format: RequestFormat, batch: &EncodedBatch, parts: &[&Part]) {
    let Some(resource) = parts.first().map(|part| &batch.groups[part.group].envelope.resource) else { return };
    let scope_len = |part: &Part| batch.groups[part.group].envelope.scope.len() + part.range.len();
    let len: usize = parts
        .iter()
        .map(|part| {
            let len = scope_len(part);
            1 + varint_len(len as u64) + len
        })
        .sum();
    body.push(format.resource_spans());
    put_varint(body, (resource.bytes.len() + len) as u64);
    body.extend_from_slice(&resource.bytes);
    for part in parts {
        let group = &batch.groups[part.group];
        body.push(SCOPE_SPANS);
        put_varint(body, scope_len(part) as u64);
        body.extend_from_slice(&group.envelope.scope);
        body.extend_from_slice(&group.framed[part.range.clone()]);
    }
}

pub(super) fn put_batch_id(body: &mut Vec<u8>) {
    let batch_id: [u8; BATCH_ID_BYTES] = rand::random();
    put_bytes_always(body, REQUEST_BATCH_ID, &batch_id);
}
