//! What [`super::judge`] says about a payload.

use scouter_tonic::group::RowFault;
use scouter_tonic::limits::{MAX_ATTRIBUTE_DEPTH, MAX_RECORD_GROUP_BYTES};

/// Most spans, and most records, that one request may have rejected; with more the request is [`Malformed`]. An empty span
/// is two bytes on the wire, so without a bound the list of rejections would be far larger than the request.
pub const MAX_REJECTED: usize = 65_536;

/// Most protobuf fields in one monitoring record, so that decoding it takes memory in proportion to its bytes.
pub const MAX_RECORD_FIELDS: usize = 10_000;

/// What a payload holds and what of it is refused. The counts include the rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Spans in the payload.
    pub spans: u32,
    /// Spans not to be stored, ascending by index.
    pub rejected_spans: Vec<Rejected>,
    /// Monitoring records in the payload.
    pub records: u32,
    /// Records not to be stored, ascending by index.
    pub rejected_records: Vec<Rejected>,
}

/// One span or record that is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in wire order over the whole request, from 0.
    pub index: u32,
    /// What is wrong with it.
    pub reason: RejectReason,
}

/// The request cannot be parsed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (byte {offset} of the request)")]
pub struct Malformed {
    /// Where, in bytes from the start of the payload.
    pub offset: usize,
    /// What was found there.
    pub what: &'static str,
}

/// Why a span or a record is refused for ever. Its text says what was wrong and what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// A trace id of another length.
    #[error("trace_id has {bytes} bytes, expected 16")]
    TraceIdLength {
        /// Its length.
        bytes: usize,
    },
    /// The invalid trace id.
    #[error("trace_id is all zeros, expected an id with a byte that is not")]
    TraceIdZero,
    /// A span id of another length.
    #[error("span_id has {bytes} bytes, expected 8")]
    SpanIdLength {
        /// Its length.
        bytes: usize,
    },
    /// The invalid span id.
    #[error("span_id is all zeros, expected an id with a byte that is not")]
    SpanIdZero,
    /// A parent id of another length.
    #[error("parent_span_id has {bytes} bytes, expected 8, or none for a root span")]
    ParentSpanIdLength {
        /// Its length.
        bytes: usize,
    },
    /// A link to a trace id of another length.
    #[error("the trace_id of a link has {bytes} bytes, expected 16")]
    LinkTraceIdLength {
        /// Its length.
        bytes: usize,
    },
    /// A link to a span id of another length.
    #[error("the span_id of a link has {bytes} bytes, expected 8")]
    LinkSpanIdLength {
        /// Its length.
        bytes: usize,
    },
    /// A protobuf string that is none.
    #[error("{field} is not UTF-8, expected UTF-8 in every protobuf string")]
    NotUtf8 {
        /// Which string.
        field: &'static str,
    },
    /// An attribute value with too many levels of lists and maps.
    #[error("an attribute value has more than {MAX_ATTRIBUTE_DEPTH} levels, expected at most {MAX_ATTRIBUTE_DEPTH}")]
    TooDeep,
    /// The bytes of the span are not the message `Span`.
    #[error("{what} (byte {offset} of the request), expected the protobuf message Span")]
    Broken {
        /// What was found.
        what: &'static str,
        /// Where, in bytes from the start of the payload.
        offset: usize,
    },
    /// The bytes of the record are not the message `MonitoringRecord`.
    #[error("the record cannot be decoded, expected the protobuf message MonitoringRecord")]
    RecordUndecodable,
    /// No kind of record is set, or one that this server does not know.
    #[error("the record has no kind, expected one of psi, spc, custom, eval, tag, observability, agent_task, agent_workflow, group")]
    RecordKindMissing,
    /// A record of too many parts.
    #[error("the record has more than {MAX_RECORD_FIELDS} fields, expected at most {MAX_RECORD_FIELDS}")]
    RecordTooLarge,
    /// A group of too many bytes.
    #[error("the group of records has {bytes} bytes, expected at most {MAX_RECORD_GROUP_BYTES}")]
    GroupTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A row of a group that is no record.
    #[error("{0}")]
    Row(RowFault),
    /// A record that names no profile.
    #[error("entity_uid is empty, expected the uid of the profile the record belongs to")]
    EntityUidEmpty,
    /// A time after the year 2262.
    #[error("{field} is above 9223372036854775807, expected nanoseconds since 1970 in 63 bits")]
    TimeOutOfRange {
        /// Which time.
        field: &'static str,
    },
    /// A trace id of another length in an evaluation record.
    #[error("trace_id has {bytes} bytes, expected 16, or none when the record belongs to no trace")]
    RecordTraceIdLength {
        /// Its length.
        bytes: usize,
    },
}
