//! Trace requests as bytes: reading their fields in place and judging them before they become durable.
//!
//! Terms: a *payload* is one protobuf request message as it came in, decompressed; its [`Envelope`] says which message it
//! is. *Judging* walks every byte of it once and decides what is stored; nothing downstream judges again, replay included.
//!
//! Invariants:
//! - no input panics, and none makes [`judge`] hold more than a bounded list of rejections;
//! - a bad span rejects itself alone; a bad resource or scope rejects the spans under it; only broken framing above the
//!   spans refuses the request;
//! - what [`judge`] accepts, [`crate::columns::Columns::append`] can walk.

mod field;
mod judge;
mod labels;
pub(crate) mod record;
mod value;
mod verdict;

pub use judge::judge;
pub use labels::{SpanLabels, labels_in};
pub use record::records_in;
pub use verdict::{MAX_RECORD_FIELDS, MAX_REJECTED, Malformed, RejectReason, Rejected, Verdict};

pub(crate) use field::{Field, Fields, Wire};
use value::usual_key_value;
pub(crate) use value::{AnyValue, key_value};

/// Which request message a payload is; the value is the field number of `ResourceSpans` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Envelope {
    /// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`.
    Otlp = 1,
    /// `scouter.grpc.v1.InsertMessageRequest`: spans in field 2, monitoring records in field 3.
    Scouter = 2,
}

impl Envelope {
    /// The envelope a stored byte stands for.
    pub fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Otlp),
            2 => Some(Self::Scouter),
            _ => None,
        }
    }

    /// The field of the request that holds `ResourceSpans`.
    pub fn resource_spans_field(self) -> u32 {
        self as u32
    }

    /// The field of the request that holds monitoring records, if it has one.
    pub fn records_field(self) -> Option<u32> {
        match self {
            Self::Otlp => None,
            Self::Scouter => Some(3),
        }
    }
}

#[cfg(test)]
mod tests;
