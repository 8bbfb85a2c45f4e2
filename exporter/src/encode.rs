//! Spans as OTLP protobuf bytes, written once, forward, into a buffer that is reused.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`SpanWriter`] | writes one `Span` message from plain values; the Python tracer uses it too |
//! | [`write_span`] | writes one `Span` message from the SDK's `SpanData` |
//! | [`EncodedResource`], [`EncodedEnvelope`] | what stands around spans: resource, and resource with scope |
//! | [`EncodedRecords`] | monitoring records; [`RecordSubject`] is the part that records of one feature share |
//! | [`EncodedBatch`] | spans under their envelopes, and records, not yet cut into requests |
//! | [`EncodedRequest`] | the bytes of one request to Scouter or to an OTLP server, sent as they are on every attempt |
//!
//! A span's bytes hold neither resource nor scope, so those can be set late and are written once a request.
//! The bytes equal those of `opentelemetry-proto`'s transform and prost wherever attribute keys are unique;
//! where a key repeats, its last value wins, since OTLP asks for unique keys.
//! Nothing here panics: a time before 1970 is 0, a time after 2554 is the largest one, a value nested deeper than
//! [`MAX_ATTRIBUTE_DEPTH`](scouter_tonic::limits::MAX_ATTRIBUTE_DEPTH) is empty.

mod batch;
mod buffer;
mod envelope;
mod group;
mod halve;
#[cfg(feature = "kafka")]
mod partition;
mod records;
mod sdk;
mod span;
mod value;
mod wire;

#[cfg(test)]
mod tests;

pub use batch::{EncodedBatch, EncodedRequest, RequestFormat, TooLarge};
pub use envelope::{EncodedEnvelope, EncodedResource, ScopeRef};
pub use records::{EncodedRecords, EvalRef, RecordSubject};
pub use sdk::write_span;
pub use span::{LinkRef, SpanHead, SpanWriter, StatusRef, unix_nano};
pub use value::ValueRef;

pub(crate) use batch::{MAX_RECORDS_PER_REQUEST, RECORDS_WORTH_A_REQUEST};
pub(crate) use buffer::keep_on_this_thread;
pub(crate) use halve::first_name;
#[cfg(feature = "kafka")]
pub(crate) use partition::{Id, parts};
pub(crate) use span::span_name;
