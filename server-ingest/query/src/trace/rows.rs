//! From rows of the spans table to spans without a place.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::{Attribute, SpanEvent, SpanId, SpanLink, TimedSpan, TraceId, TraceSpan, attributes};
use crate::functions::hex_text;
use crate::timestamp::micros_text;

/// The columns that a span is made of.
pub(super) const COLUMNS: [&str; 15] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_unix_nano",
    "duration_nano",
    "service_name",
    "name",
    "kind",
    "status_code",
    "status_message",
    "attributes",
    "events",
    "links",
    "input",
    "output",
];

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Adds the spans in `batch` and tells about how many bytes they take. Rows whose ids have other lengths are no spans.
pub(super) fn append(spans: &mut Vec<TimedSpan>, batch: &RecordBatch) -> Result<usize, ArrowError> {
    let columns = Columns { batch };
    let (trace_ids, span_ids, parents) = (columns.bytes("trace_id")?, columns.bytes("span_id")?, columns.bytes("parent_span_id")?);
    let (starts, durations) = (columns.integers("start_unix_nano")?, columns.integers("duration_nano")?);
    let (services, names, kinds) = (columns.texts("service_name")?, columns.texts("name")?, columns.texts("kind")?);
    let (status_codes, status_messages) = (columns.get("status_code")?, columns.texts("status_message")?);
    let status_codes = status_codes.as_primitive_opt::<Int32Type>().ok_or_else(|| other_type("status_code"))?;
    let attribute_texts = columns.texts("attributes")?;
    let (inputs, outputs) = (columns.texts("input")?, columns.texts("output")?);
    let (events, links) = (Events::new(&columns)?, Links::new(&columns)?);

    let mut bytes = 0;
    for row in 0..batch.num_rows() {
        let (Ok(trace_id), Ok(span_id)) = (trace_ids.value(row).try_into(), span_ids.value(row).try_into()) else { continue };
        let (start, duration) = (starts.value(row), durations.value(row));
        let status_message = or_empty(&status_messages, row);
        let json_bytes = attribute_texts.value_length(row) + value_length(&inputs, row) + value_length(&outputs, row);
        let span = TraceSpan {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            parent_span_id: parents.is_valid(row).then(|| parents.value(row)).and_then(SpanId::present),
            span_name: or_empty(&names, row).to_owned(),
            span_kind: kinds.is_valid(row).then(|| kinds.value(row).to_owned()),
            start_time: micros_text(start.div_euclid(1000)),
            end_time: micros_text(start.saturating_add(duration).div_euclid(1000)),
            duration_ms: (duration / NANOS_PER_MILLI).max(0),
            duration_nano: duration,
            status_code: status_codes.value(row),
            status_message: (!status_message.is_empty()).then(|| status_message.to_owned()),
            attributes: attributes::parse(or_empty(&attribute_texts, row)),
            events: events.of(row),
            links: links.of(row),
            depth: 0,
            path: Vec::new(),
            root_span_id: SpanId(span_id),
            service_name: or_empty(&services, row).to_owned(),
            span_order: 0,
            input: json_or_text(&inputs, row),
            output: json_or_text(&outputs, row),
        };
        bytes += json_bytes.unsigned_abs() as usize * JSON_GROWTH + heap_bytes(&span);
        spans.push(TimedSpan { start_unix_nano: start, span });
    }
    Ok(bytes)
}

/// How much larger values are than their JSON text, about.
const JSON_GROWTH: usize = 4;

/// What a span takes beyond its own attributes.
fn heap_bytes(span: &TraceSpan) -> usize {
    let lists: usize =
        span.events.iter().map(|event| &event.attributes).chain(span.links.iter().map(|link| &link.attributes)).map(Vec::len).sum();
    size_of::<TimedSpan>()
        + 128
        + span.span_name.len()
        + span.service_name.len()
        + span.status_message.as_ref().map_or(0, String::len)
        + span.events.len() * (size_of::<SpanEvent>() + 64)
        + span.links.len() * (size_of::<SpanLink>() + 96)
        + lists * (size_of::<Attribute>() + 64)
}

fn value_length(texts: &StringArray, row: usize) -> i32 {
    if texts.is_valid(row) { texts.value_length(row) } else { 0 }
}

fn or_empty(texts: &StringArray, row: usize) -> &str {
    if texts.is_valid(row) { texts.value(row) } else { "" }
}

/// What Scouter keeps as input and output is JSON where it can be, else text.
fn json_or_text(texts: &StringArray, row: usize) -> Value {
    if texts.is_null(row) {
        return Value::Null;
    }
    let text = texts.value(row);
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn other_type(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column {name} of the spans has another type than expected"))
}

struct Columns<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn get(&self, name: &str) -> Result<&'a ArrayRef, ArrowError> {
        self.batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("the spans have no column {name}")))
    }

    fn bytes(&self, name: &str) -> Result<BinaryArray, ArrowError> {
        plain::<BinaryArray>(self.get(name)?, &DataType::Binary, name)
    }

    fn texts(&self, name: &str) -> Result<StringArray, ArrowError> {
        plain::<StringArray>(self.get(name)?, &DataType::Utf8, name)
    }

    fn integers(&self, name: &str) -> Result<&'a Int64Array, ArrowError> {
        self.get(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| other_type(name))
    }

    fn list(&self, name: &str) -> Result<&'a ListArray, ArrowError> {
        self.get(name)?.as_list_opt::<i32>().ok_or_else(|| other_type(name))
    }
}

/// A column in its plain type: dictionaries are looked up, views are copied.
fn plain<A: Array + Clone + 'static>(column: &ArrayRef, data_type: &DataType, name: &str) -> Result<A, ArrowError> {
    let column = if column.data_type() == data_type { Arc::clone(column) } else { arrow::compute::cast(column, data_type)? };
    column.as_any().downcast_ref::<A>().cloned().ok_or_else(|| other_type(name))
}

/// A column of lists of structs, its members as plain columns over the elements of all rows.
struct Members<'a> {
    list: &'a ListArray,
}

impl Members<'_> {
    fn member<A: Array + Clone + 'static>(&self, name: &str, data_type: &DataType) -> Result<A, ArrowError> {
        let elements = self.list.values().as_struct_opt().ok_or_else(|| other_type(name))?;
        plain(elements.column_by_name(name).ok_or_else(|| other_type(name))?, data_type, name)
    }

    /// The elements of a row, in the members.
    fn elements(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.list.value_offsets();
        if self.list.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
    }
}

struct Events<'a> {
    members: Members<'a>,
    times: Int64Array,
    names: StringArray,
    attributes: StringArray,
    dropped: Int64Array,
}

impl<'a> Events<'a> {
    fn new(columns: &Columns<'a>) -> Result<Self, ArrowError> {
        let members = Members { list: columns.list("events")? };
        Ok(Self {
            times: members.member("time_unix_nano", &DataType::Int64)?,
            names: members.member("name", &DataType::Utf8)?,
            attributes: members.member("attributes", &DataType::Utf8)?,
            dropped: members.member("dropped_attributes_count", &DataType::Int64)?,
            members,
        })
    }

    fn of(&self, row: usize) -> Vec<SpanEvent> {
        let event = |element: usize| SpanEvent {
            timestamp: micros_text(self.times.value(element).div_euclid(1000)),
            name: or_empty(&self.names, element).to_owned(),
            attributes: attributes::parse(or_empty(&self.attributes, element)),
            dropped_attributes_count: self.dropped.value(element),
        };
        self.members.elements(row).map(event).collect()
    }
}

struct Links<'a> {
    members: Members<'a>,
    trace_ids: BinaryArray,
    span_ids: BinaryArray,
    trace_states: StringArray,
    attributes: StringArray,
    dropped: Int64Array,
}

impl<'a> Links<'a> {
    fn new(columns: &Columns<'a>) -> Result<Self, ArrowError> {
        let members = Members { list: columns.list("links")? };
        Ok(Self {
            trace_ids: members.member("trace_id", &DataType::Binary)?,
            span_ids: members.member("span_id", &DataType::Binary)?,
            trace_states: members.member("trace_state", &DataType::Utf8)?,
            attributes: members.member("attributes", &DataType::Utf8)?,
            dropped: members.member("dropped_attributes_count", &DataType::Int64)?,
            members,
        })
    }

    fn of(&self, row: usize) -> Vec<SpanLink> {
        let link = |element: usize| SpanLink {
            trace_id: hex_text(self.trace_ids.value(element)),
            span_id: hex_text(self.span_ids.value(element)),
            trace_state: or_empty(&self.trace_states, element).to_owned(),
            attributes: attributes::parse(or_empty(&self.attributes, element)),
            dropped_attributes_count: self.dropped.value(element),
        };
        self.members.elements(row).map(link).collect()
    }
}
