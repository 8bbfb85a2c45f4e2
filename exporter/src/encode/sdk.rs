//! The SDK's `SpanData` as a `Span` message.

use opentelemetry::{
    KeyValue,
    trace::{SpanId, Status},
};
use opentelemetry_sdk::trace::SpanData;

use super::{
    span::{
        LinkRef, SpanHead, SpanWriter, StatusRef, put_event, put_head, put_link, put_span_attributes, put_status, put_trace_state,
        unix_nano,
    },
    value::ValueRef,
};

/// Writes `span` as an OTLP `Span` message, without tag and length, at the end of `out`.
///
/// Allocates nothing but what `out` needs to grow, for spans of up to 32 attributes a collection.
pub fn write_span(out: &mut Vec<u8>, span: &SpanData) {
    let context = &span.span_context;
    let head = SpanHead {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        parent_span_id: (span.parent_span_id != SpanId::INVALID).then(|| span.parent_span_id.to_bytes()),
        parent_is_remote: span.parent_span_is_remote,
        trace_flags: context.trace_flags().to_u8(),
        trace_state: "",
        name: &span.name,
        kind: span.span_kind.clone(),
        start_unix_nano: unix_nano(span.start_time),
        end_unix_nano: unix_nano(span.end_time),
    };
    put_head(out, &head, |out| put_trace_state(out, context.trace_state().into_iter()));
    put_span_attributes(out, span.attributes.len(), at(&span.attributes));
    for event in span.events.iter() {
        put_event(
            out,
            &event.name,
            unix_nano(event.timestamp),
            event.dropped_attributes_count,
            event.attributes.len(),
            at(&event.attributes),
        );
    }
    for link in span.links.iter() {
        let linked = &link.span_context;
        let head = LinkRef {
            trace_id: linked.trace_id().to_bytes(),
            span_id: linked.span_id().to_bytes(),
            trace_state: "",
            trace_flags: linked.trace_flags().to_u8(),
            is_remote: linked.is_remote(),
            attributes: &[],
            dropped_attributes: link.dropped_attributes_count,
        };
        let trace_state = |out: &mut Vec<u8>| put_trace_state(out, linked.trace_state().into_iter());
        put_link(out, &head, trace_state, link.attributes.len(), at(&link.attributes));
    }
    put_status(
        out,
        match &span.status {
            Status::Unset => StatusRef::Unset,
            Status::Ok => StatusRef::Ok,
            Status::Error { description } => StatusRef::Error(description),
        },
    );
    SpanWriter::resume(out).dropped(span.dropped_attributes_count, span.events.dropped_count, span.links.dropped_count);
}

#[inline]
fn at<'a>(attributes: &'a [KeyValue]) -> impl Fn(usize) -> (&'a str, ValueRef<'a>) {
    move |index| {
        let attribute = &attributes[index];
        (attribute.key.as_str(), ValueRef::from(&attribute.value))
    }
}
