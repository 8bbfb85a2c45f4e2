//! Spans as OTLP/JSON, field by field as Scouter's own clients write them: ids in hexadecimal, 64-bit integers as text, and every field,
//! the empty ones too.

use std::fmt::Write;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};

use super::{put_field, put_key, put_number, put_text_field};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn put_trace(out: &mut Vec<u8>, resource_spans: &[ResourceSpans]) {
    out.extend_from_slice(b"{\"request\":{");
    put_list(out, "resourceSpans", resource_spans, put_resource_spans);
    out.extend_from_slice(b"}}");
}

fn put_resource_spans(out: &mut Vec<u8>, spans: &ResourceSpans) {
    let resource = spans.resource.clone().unwrap_or_default();
    put_key(out, "resource");
    out.push(b'{');
    put_attributes(out, &resource.attributes);
    put_field(out, "droppedAttributesCount", resource.dropped_attributes_count);
    put_field(out, "entityRefs", "[]");
    out.push(b'}');
    put_list(out, "scopeSpans", &spans.scope_spans, put_scope_spans);
    put_text_field(out, "schemaUrl", &spans.schema_url);
}

fn put_scope_spans(out: &mut Vec<u8>, spans: &ScopeSpans) {
    let scope = spans.scope.clone().unwrap_or_default();
    put_key(out, "scope");
    out.push(b'{');
    put_text_field(out, "name", &scope.name);
    put_text_field(out, "version", &scope.version);
    put_attributes(out, &scope.attributes);
    put_field(out, "droppedAttributesCount", scope.dropped_attributes_count);
    out.push(b'}');
    put_list(out, "spans", &spans.spans, put_span);
    put_text_field(out, "schemaUrl", &spans.schema_url);
}

fn put_span(out: &mut Vec<u8>, span: &Span) {
    put_text_field(out, "traceId", &hex(&span.trace_id));
    put_text_field(out, "spanId", &hex(&span.span_id));
    put_text_field(out, "traceState", &span.trace_state);
    put_text_field(out, "parentSpanId", &hex(&span.parent_span_id));
    put_field(out, "flags", span.flags);
    put_text_field(out, "name", &span.name);
    put_field(out, "kind", span.kind);
    put_text_field(out, "startTimeUnixNano", &span.start_time_unix_nano.to_string());
    put_text_field(out, "endTimeUnixNano", &span.end_time_unix_nano.to_string());
    put_attributes(out, &span.attributes);
    put_field(out, "droppedAttributesCount", span.dropped_attributes_count);
    put_list(out, "events", &span.events, put_event);
    put_field(out, "droppedEventsCount", span.dropped_events_count);
    put_list(out, "links", &span.links, put_link);
    put_field(out, "droppedLinksCount", span.dropped_links_count);
    let Status { message, code } = span.status.clone().unwrap_or_default();
    put_key(out, "status");
    out.push(b'{');
    put_text_field(out, "message", &message);
    put_field(out, "code", code);
    out.push(b'}');
}

fn put_event(out: &mut Vec<u8>, event: &span::Event) {
    put_text_field(out, "timeUnixNano", &event.time_unix_nano.to_string());
    put_text_field(out, "name", &event.name);
    put_attributes(out, &event.attributes);
    put_field(out, "droppedAttributesCount", event.dropped_attributes_count);
}

fn put_link(out: &mut Vec<u8>, link: &span::Link) {
    put_text_field(out, "traceId", &hex(&link.trace_id));
    put_text_field(out, "spanId", &hex(&link.span_id));
    put_text_field(out, "traceState", &link.trace_state);
    put_attributes(out, &link.attributes);
    put_field(out, "droppedAttributesCount", link.dropped_attributes_count);
    put_field(out, "flags", link.flags);
}

fn put_attributes(out: &mut Vec<u8>, attributes: &[KeyValue]) {
    put_list(out, "attributes", attributes, put_attribute);
}

fn put_attribute(out: &mut Vec<u8>, attribute: &KeyValue) {
    put_text_field(out, "key", &attribute.key);
    put_key(out, "value");
    put_value(out, attribute.value.as_ref());
}

/// A value that is not there becomes the text `null`, as existing clients send it: an empty object is more than existing servers can read.
fn put_value(out: &mut Vec<u8>, value: Option<&AnyValue>) {
    out.push(b'{');
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => put_text_field(out, "stringValue", text),
        Some(Value::BoolValue(truth)) => put_field(out, "boolValue", truth),
        Some(Value::IntValue(number)) => put_text_field(out, "intValue", &number.to_string()),
        Some(Value::DoubleValue(number)) if number.is_finite() => {
            put_key(out, "doubleValue");
            put_number(out, *number);
        }
        Some(Value::DoubleValue(number)) => put_text_field(out, "stringValue", &number.to_string()),
        Some(Value::ArrayValue(list)) => {
            put_key(out, "arrayValue");
            out.extend_from_slice(b"{\"values\":[");
            for (index, value) in list.values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_value(out, Some(value));
            }
            out.extend_from_slice(b"]}");
        }
        Some(Value::KvlistValue(map)) => {
            put_key(out, "kvlistValue");
            out.push(b'{');
            put_list(out, "values", &map.values, put_attribute);
            out.push(b'}');
        }
        Some(Value::BytesValue(bytes)) => put_text_field(out, "bytesValue", &base64(bytes)),
        // Values that only profiles have, by an index into a dictionary that spans do not carry.
        Some(_) | None => put_text_field(out, "stringValue", "null"),
    }
    out.push(b'}');
}

/// `"key":[{...},{...}]`.
fn put_list<T>(out: &mut Vec<u8>, key: &str, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_key(out, key);
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'{');
        put(out, item);
        out.push(b'}');
    }
    out.push(b']');
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

/// With padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0_usize, |bits, (index, byte)| bits | usize::from(*byte) << (16 - 8 * index));
        for place in 0..4 {
            let is_padding = place > chunk.len();
            text.push(if is_padding { '=' } else { char::from(BASE64[bits >> (18 - 6 * place) & 63]) });
        }
    }
    text
}
