//! One OTLP `Span` message from plain values.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::SpanKind;

use super::{
    value::{ValueRef, put_attribute, put_attributes},
    wire::{delimited, fixed64_field, put_bytes, put_bytes_always, put_count, put_fixed64, put_nested, varint_field},
};

const TRACE_ID: u8 = delimited(1);
const SPAN_ID: u8 = delimited(2);
const TRACE_STATE: u8 = delimited(3);
const PARENT_SPAN_ID: u8 = delimited(4);
const NAME: u8 = delimited(5);
const KIND: u8 = varint_field(6);
const START_TIME: u8 = fixed64_field(7);
const END_TIME: u8 = fixed64_field(8);
const ATTRIBUTES: u8 = delimited(9);
const DROPPED_ATTRIBUTES: u8 = varint_field(10);
const EVENTS: u8 = delimited(11);
const DROPPED_EVENTS: u8 = varint_field(12);
const LINKS: u8 = delimited(13);
const DROPPED_LINKS: u8 = varint_field(14);
const STATUS: u8 = delimited(15);
/// Field 16, fixed 32 bits: the tag takes two bytes.
const FLAGS: [u8; 2] = [0x85, 0x01];

const STATUS_MESSAGE: u8 = delimited(2);
const STATUS_CODE: u8 = varint_field(3);

const EVENT_TIME: u8 = fixed64_field(1);
const EVENT_NAME: u8 = delimited(2);
const EVENT_ATTRIBUTES: u8 = delimited(3);
const EVENT_DROPPED_ATTRIBUTES: u8 = varint_field(4);

const LINK_ATTRIBUTES: u8 = delimited(4);
const LINK_DROPPED_ATTRIBUTES: u8 = varint_field(5);
/// Field 6, fixed 32 bits.
const LINK_FLAGS: u8 = 6 << 3 | 5;

const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Nanoseconds since 1970; 0 for times before, the largest value for times after 2554.
#[inline]
pub fn unix_nano(time: SystemTime) -> u64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos())),
        Err(_) => 0,
    }
}

/// The fields every span has.
#[derive(Clone, Debug)]
pub struct SpanHead<'a> {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// `None` for a root span.
    pub parent_span_id: Option<[u8; 8]>,
    /// True when the parent lives in another process.
    pub parent_is_remote: bool,
    /// W3C trace flags; bit 0 is `sampled`.
    pub trace_flags: u8,
    /// W3C `tracestate`, as its header value; often empty.
    pub trace_state: &'a str,
    /// The span's name.
    pub name: &'a str,
    /// What kind of work it stands for.
    pub kind: SpanKind,
    /// Nanoseconds since 1970.
    pub start_unix_nano: u64,
    /// Nanoseconds since 1970.
    pub end_unix_nano: u64,
}

/// A span's outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusRef<'a> {
    /// Nobody said.
    #[default]
    Unset,
    /// Said to be good.
    Ok,
    /// Failed, with a description.
    Error(&'a str),
}

/// A link to another span.
#[derive(Clone, Debug)]
pub struct LinkRef<'a> {
    /// 16 bytes.
    pub trace_id: [u8; 16],
    /// 8 bytes.
    pub span_id: [u8; 8],
    /// W3C `tracestate` of the linked span.
    pub trace_state: &'a str,
    /// W3C trace flags of the linked span.
    pub trace_flags: u8,
    /// True when the linked span lives in another process.
    pub is_remote: bool,
    /// Its attributes; of repeated keys the last one counts.
    pub attributes: &'a [(&'a str, ValueRef<'a>)],
    /// Attributes left out because of a limit.
    pub dropped_attributes: u32,
}

/// Writes one `Span` message, without tag and length, at the end of a buffer. The fields may be written in any order.
///
/// ```
/// use scouter_exporter::encode::{SpanHead, SpanWriter, StatusRef, ValueRef};
/// use scouter_exporter::opentelemetry::trace::SpanKind;
///
/// let mut buffer = Vec::new();
/// let mut span = SpanWriter::begin(&mut buffer, &SpanHead {
///     trace_id: [1; 16], span_id: [2; 8], parent_span_id: None, parent_is_remote: false, trace_flags: 1, trace_state: "",
///     name: "GET /users", kind: SpanKind::Server, start_unix_nano: 1_000, end_unix_nano: 2_000,
/// });
/// span.attributes(&[("http.response.status_code", ValueRef::I64(200))]);
/// span.event("retry", 1_500, &[], 0);
/// span.status(StatusRef::Ok);
/// assert!(buffer.len() > 50);
/// ```
#[derive(Debug)]
pub struct SpanWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> SpanWriter<'a> {
    /// Writes the head and gives a writer for the rest.
    #[inline]
    pub fn begin(out: &'a mut Vec<u8>, head: &SpanHead<'_>) -> Self {
        put_head(out, head, |out| put_bytes(out, TRACE_STATE, head.trace_state.as_bytes()));
        Self { out }
    }

    /// Writes attributes, each key once: the last value of a repeated key. Call it once a span.
    pub fn attributes(&mut self, attributes: &[(&str, ValueRef<'_>)]) {
        put_attributes(self.out, ATTRIBUTES, attributes.len(), |index| attributes[index]);
    }

    /// Writes one attribute. The caller answers for unique keys, as the owner of a map can.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: ValueRef<'_>) {
        put_attribute(self.out, ATTRIBUTES, key, value, 1);
    }

    /// Writes an event; of repeated attribute keys the last one counts.
    pub fn event(&mut self, name: &str, time_unix_nano: u64, attributes: &[(&str, ValueRef<'_>)], dropped_attributes: u32) {
        put_event(self.out, name, time_unix_nano, dropped_attributes, attributes.len(), |index| attributes[index]);
    }

    /// Writes a link.
    pub fn link(&mut self, link: &LinkRef<'_>) {
        put_link(
            self.out,
            link,
            |out| put_bytes(out, TRACE_STATE, link.trace_state.as_bytes()),
            link.attributes.len(),
            |index| link.attributes[index],
        );
    }

    /// Writes the outcome. Call it at most once.
    #[inline]
    pub fn status(&mut self, status: StatusRef<'_>) {
        put_status(self.out, status);
    }

    /// Writes how many attributes, events and links were left out because of limits.
    #[inline]
    pub fn dropped(&mut self, attributes: u32, events: u32, links: u32) {
        put_count(self.out, DROPPED_ATTRIBUTES, attributes);
        put_count(self.out, DROPPED_EVENTS, events);
        put_count(self.out, DROPPED_LINKS, links);
    }

    /// A writer for a span whose head is already written.
    pub(super) fn resume(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }
}

/// Fields 1 to 8 and the flags.
#[inline]
pub(super) fn put_head(out: &mut Vec<u8>, head: &SpanHead<'_>, trace_state: impl FnOnce(&mut Vec<u8>)) {
    // Ids, kind, times and flags have fixed sizes: one reservation covers them and the name.
    out.reserve(96 + head.name.len());
    put_bytes_always(out, TRACE_ID, &head.trace_id);
    put_bytes_always(out, SPAN_ID, &head.span_id);
    trace_state(out);
    if let Some(parent) = head.parent_span_id {
        put_bytes_always(out, PARENT_SPAN_ID, &parent);
    }
    put_bytes(out, NAME, head.name.as_bytes());
    let kind = match head.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    out.extend_from_slice(&[KIND, kind]);
    put_fixed64(out, START_TIME, head.start_unix_nano);
    put_fixed64(out, END_TIME, head.end_unix_nano);
    out.extend_from_slice(&FLAGS);
    out.extend_from_slice(&flags(head.trace_flags, head.parent_is_remote).to_le_bytes());
}

#[inline]
pub(super) fn put_span_attributes<'a>(out: &mut Vec<u8>, len: usize, attribute: impl Fn(usize) -> (&'a str, ValueRef<'a>)) {
    put_attributes(out, ATTRIBUTES, len, attribute);
}

#[inline]
pub(super) fn put_event<'a>(
    out: &mut Vec<u8>,
    name: &str,
    time_unix_nano: u64,
    dropped_attributes: u32,
    len: usize,
    attribute: impl Fn(usize) -> (&'a str, ValueRef<'a>),
) {
    put_nested(out, EVENTS, |out| {
        put_fixed64(out, EVENT_TIME, time_unix_nano);
        put_bytes(out, EVENT_NAME, name.as_bytes());
        put_attributes(out, EVENT_ATTRIBUTES, len, attribute);
        put_count(out, EVENT_DROPPED_ATTRIBUTES, dropped_attributes);
    });
}

pub(super) fn put_link<'a>(
    out: &mut Vec<u8>,
    link: &LinkRef<'_>,
    trace_state: impl FnOnce(&mut Vec<u8>),
    len: usize,
    attribute: impl Fn(usize) -> (&'a str, ValueRef<'a>),
) {
    put_nested(out, LINKS, |out| {
        put_bytes_always(out, TRACE_ID, &link.trace_id);
        put_bytes_always(out, SPAN_ID, &link.span_id);
        trace_state(out);
        put_attributes(out, LINK_ATTRIBUTES, len, attribute);
        put_count(out, LINK_DROPPED_ATTRIBUTES, link.dropped_attributes);
        out.push(LINK_FLAGS);
        out.extend_from_slice(&flags(link.trace_flags, link.is_remote).to_le_bytes());
    });
}

#[inline]
pub(super) fn put_status(out: &mut Vec<u8>, status: StatusRef<'_>) {
    match status {
        // An empty message, as the transform of `opentelemetry-proto` writes it.
        StatusRef::Unset => out.extend_from_slice(&[STATUS, 0]),
        StatusRef::Ok => out.extend_from_slice(&[STATUS, 2, STATUS_CODE, 1]),
        StatusRef::Error(description) => put_nested(out, STATUS, |out| {
            put_bytes(out, STATUS_MESSAGE, description.as_bytes());
            out.extend_from_slice(&[STATUS_CODE, 2]);
        }),
    }
}

/// `k=v,k2=v2`, without building the string.
pub(super) fn put_trace_state<'a>(out: &mut Vec<u8>, entries: impl ExactSizeIterator<Item = (&'a str, &'a str)>) {
    if entries.len() == 0 {
        return;
    }
    put_nested(out, TRACE_STATE, |out| {
        for (index, (key, value)) in entries.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    });
}

/// The name of an encoded span, for messages about it.
pub(crate) fn span_name(span: &[u8]) -> Option<&str> {
    let mut rest = span;
    while let Some(tag) = rest.first() {
        match tag {
            &TRACE_ID | &SPAN_ID | &TRACE_STATE | &PARENT_SPAN_ID => {
                let (_, end) = super::wire::split_field(rest)?;
                rest = &rest[end..];
            }
            &NAME => return std::str::from_utf8(super::wire::split_field(rest)?.0).ok(),
            _ => return None,
        }
    }
    None
}

/// W3C flags in the low 8 bits, "we know whether the parent is remote" and "it is" above them; the rest is zero.
#[inline]
fn flags(trace_flags: u8, is_remote: bool) -> u32 {
    u32::from(trace_flags) | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}
