//! Rows of the `spans` table back to OTLP messages.

use arrow::array::{Array, AsArray, BinaryArray, Int32Array, Int64Array, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::json_read::{JsonError, attributes_from_json, objects_of_strings};
use super::spans::KINDS;

/// One stored span with what its request said about where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSpan {
    /// The resource; empty when there was none.
    pub resource: Resource,
    /// Schema URL of the resource.
    pub resource_schema_url: String,
    /// The scope; empty when there was none.
    pub scope: InstrumentationScope,
    /// Schema URL of the scope.
    pub scope_schema_url: String,
    /// The span. `status` is absent when it is unset and without a message.
    pub span: Span,
}

/// A batch does not hold what its table must.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A column is not there.
    #[error("column {column} is missing")]
    ColumnMissing {
        /// Its name.
        column: &'static str,
    },
    /// A column cannot be read as the type the table gives it.
    #[error("column {column} cannot be read as {expected}")]
    ColumnType {
        /// Its name.
        column: &'static str,
        /// The type of the table.
        expected: DataType,
        /// What the conversion said.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// A row holds text that is not canonical JSON.
    #[error("row {row}, column {column}")]
    Json {
        /// The row in the batch.
        row: usize,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        #[source]
        source: JsonError,
    },
    /// A row holds a value that nothing writes there.
    #[error("row {row}, column {column}: a value no span has")]
    Value {
        /// The row in the batch.
        row: usize,
        /// The column.
        column: &'static str,
    },
}

/// All rows of a batch of the `spans` table as OTLP, in row order.
///
/// # Errors
/// The batch is not one of this table.
pub fn span_to_otlp(batch: &RecordBatch) -> Result<Vec<StoredSpan>, ReadError> {
    let reader = SpanReader::new(batch)?;
    (0..batch.num_rows()).map(|row| reader.row(row)).collect()
}

/// Reads single rows of a batch. Strings may be plain, views or dictionaries, as the reader of a file made them.
#[derive(Debug)]
pub struct SpanReader {
    trace_id: BinaryArray,
    span_id: BinaryArray,
    parent_span_id: BinaryArray,
    start_unix_nano: Int64Array,
    duration_nano: Int64Array,
    status_code: Int32Array,
    texts: [StringArray; TEXTS.len()],
    counts: [Int64Array; COUNTS.len()],
    events: Lists<EventMembers>,
    links: Lists<LinkMembers>,
}

const TEXTS: [&str; 12] = [
    "name",
    "kind",
    "status_message",
    "trace_state",
    "scope_name",
    "scope_version",
    "scope_schema_url",
    "resource_schema_url",
    "attributes",
    "scope_attributes",
    "resource_attributes",
    "resource_entity_refs",
];

const COUNTS: [&str; 6] = [
    "flags",
    "dropped_attributes_count",
    "dropped_events_count",
    "dropped_links_count",
    "resource_dropped_attributes_count",
    "scope_dropped_attributes_count",
];

#[derive(Debug)]
struct Lists<T> {
    offsets: Vec<usize>,
    members: T,
}

#[derive(Debug)]
struct EventMembers {
    time_unix_nano: Int64Array,
    name: StringArray,
    attributes: StringArray,
    dropped_attributes_count: Int64Array,
}

#[derive(Debug)]
struct LinkMembers {
    trace_id: BinaryArray,
    span_id: BinaryArray,
    trace_state: StringArray,
    flags: Int64Array,
    attributes: StringArray,
    dropped_attributes_count: Int64Array,
}

impl SpanReader {
    /// Finds and converts the columns that OTLP needs; derived ones need not be there.
    ///
    /// # Errors
    /// A column is missing or of another type.
    pub fn new(batch: &RecordBatch) -> Result<Self, ReadError> {
        let find = |name: &str| batch.column_by_name(name).map(AsRef::as_ref);
        let binary = |name| binary(find(name), name);
        let long = |name| long(find(name), name);
        let mut texts = Vec::new();
        for name in TEXTS {
            texts.push(text(find(name), name)?);
        }
        let mut counts = Vec::new();
        for name in COUNTS {
            counts.push(long(name)?);
        }
        Ok(Self {
            trace_id: binary("trace_id")?,
            span_id: binary("span_id")?,
            parent_span_id: binary("parent_span_id")?,
            start_unix_nano: long("start_unix_nano")?,
            duration_nano: long("duration_nano")?,
            status_code: converted(find("status_code"), "status_code", &DataType::Int32)?.as_primitive::<Int32Type>().clone(),
            texts: texts.try_into().expect("one array a name"),
            counts: counts.try_into().expect("one array a name"),
            events: lists(find("events"), "events", |member| {
                Ok(EventMembers {
                    time_unix_nano: self::long(member("time_unix_nano"), "events.time_unix_nano")?,
                    name: text(member("name"), "events.name")?,
                    attributes: text(member("attributes"), "events.attributes")?,
                    dropped_attributes_count: self::long(member("dropped_attributes_count"), "events.dropped_attributes_count")?,
                })
            })?,
            links: lists(find("links"), "links", |member| {
                Ok(LinkMembers {
                    trace_id: self::binary(member("trace_id"), "links.trace_id")?,
                    span_id: self::binary(member("span_id"), "links.span_id")?,
                    trace_state: text(member("trace_state"), "links.trace_state")?,
                    flags: self::long(member("flags"), "links.flags")?,
                    attributes: text(member("attributes"), "links.attributes")?,
                    dropped_attributes_count: self::long(member("dropped_attributes_count"), "links.dropped_attributes_count")?,
                })
            })?,
        })
    }

    /// The span in a row below the batch's row count.
    ///
    /// # Errors
    /// The row holds what no span has.
    pub fn row(&self, row: usize) -> Result<StoredSpan, ReadError> {
        let [name, kind, status_message, trace_state, scope_name, scope_version, scope_schema_url, resource_schema_url]: [&str; 8] =
            std::array::from_fn(|index| self.texts[index].value(row));
        let [.., attributes, scope_attributes, resource_attributes, entity_refs] = &self.texts;
        let mut counts = [0; COUNTS.len()];
        for (index, column) in COUNTS.into_iter().enumerate() {
            counts[index] = unsigned(&self.counts[index], row, column)?;
        }
        let [flags, dropped_attributes_count, dropped_events_count, dropped_links_count, resource_dropped, scope_dropped] = counts;
        let start = self.start_unix_nano.value(row);
        let status = Status { message: status_message.to_owned(), code: self.status_code.value(row) };
        Ok(StoredSpan {
            resource: Resource {
                attributes: attributes_at(resource_attributes, row, "resource_attributes")?,
                dropped_attributes_count: resource_dropped,
                entity_refs: entity_refs_at(entity_refs, row)?,
            },
            resource_schema_url: resource_schema_url.to_owned(),
            scope: InstrumentationScope {
                name: scope_name.to_owned(),
                version: scope_version.to_owned(),
                attributes: attributes_at(scope_attributes, row, "scope_attributes")?,
                dropped_attributes_count: scope_dropped,
            },
            scope_schema_url: scope_schema_url.to_owned(),
            span: Span {
                trace_id: self.trace_id.value(row).to_vec(),
                span_id: self.span_id.value(row).to_vec(),
                trace_state: trace_state.to_owned(),
                parent_span_id: if self.parent_span_id.is_null(row) { Vec::new() } else { self.parent_span_id.value(row).to_vec() },
                flags,
                name: name.to_owned(),
                kind: kind_number(kind).ok_or(ReadError::Value { row, column: "kind" })?,
                start_time_unix_nano: start as u64,
                end_time_unix_nano: start.wrapping_add(self.duration_nano.value(row)) as u64,
                attributes: attributes_at(attributes, row, "attributes")?,
                dropped_attributes_count,
                events: self.events.range(row).map(|item| self.events.members.event(item)).collect::<Result<_, _>>()?,
                dropped_events_count,
                links: self.links.range(row).map(|item| self.links.members.link(item)).collect::<Result<_, _>>()?,
                dropped_links_count,
                status: (status != Status::default()).then_some(status),
            },
        })
    }
}

impl<T> Lists<T> {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }
}

impl EventMembers {
    fn event(&self, item: usize) -> Result<Event, ReadError> {
        Ok(Event {
            time_unix_nano: self.time_unix_nano.value(item) as u64,
            name: self.name.value(item).to_owned(),
            attributes: attributes_at(&self.attributes, item, "events.attributes")?,
            dropped_attributes_count: unsigned(&self.dropped_attributes_count, item, "events.dropped_attributes_count")?,
        })
    }
}

impl LinkMembers {
    fn link(&self, item: usize) -> Result<Link, ReadError> {
        Ok(Link {
            trace_id: self.trace_id.value(item).to_vec(),
            span_id: self.span_id.value(item).to_vec(),
            trace_state: self.trace_state.value(item).to_owned(),
            attributes: attributes_at(&self.attributes, item, "links.attributes")?,
            dropped_attributes_count: unsigned(&self.dropped_attributes_count, item, "links.dropped_attributes_count")?,
            flags: unsigned(&self.flags, item, "links.flags")?,
        })
    }
}

fn kind_number(kind: &str) -> Option<i32> {
    match KINDS.iter().position(|name| *name == kind) {
        Some(number) => i32::try_from(number).ok(),
        None => kind.parse().ok(),
    }
}

fn unsigned(column: &Int64Array, row: usize, name: &'static str) -> Result<u32, ReadError> {
    u32::try_from(column.value(row)).map_err(|_| ReadError::Value { row, column: name })
}

fn attributes_at(column: &StringArray, row: usize, name: &'static str) -> Result<Vec<KeyValue>, ReadError> {
    attributes_from_json(column.value(row)).map_err(|source| ReadError::Json { row, column: name, source })
}

fn entity_refs_at(column: &StringArray, row: usize) -> Result<Vec<EntityRef>, ReadError> {
    const COLUMN: &str = "resource_entity_refs";
    if column.is_null(row) {
        return Ok(Vec::new());
    }
    let objects = objects_of_strings(column.value(row)).map_err(|source| ReadError::Json { row, column: COLUMN, source })?;
    Ok(objects
        .into_iter()
        .map(|members| {
            let mut entity_ref = EntityRef::default();
            for (key, mut strings) in members {
                match key.as_str() {
                    "schema_url" => entity_ref.schema_url = strings.pop().unwrap_or_default(),
                    "type" => entity_ref.r#type = strings.pop().unwrap_or_default(),
                    "id_keys" => entity_ref.id_keys = strings,
                    "description_keys" => entity_ref.description_keys = strings,
                    _ => {}
                }
            }
            entity_ref
        })
        .collect())
}

/// A column, or the member of one, as the type its table has but for dictionaries.
pub(super) fn converted(column: Option<&dyn Array>, name: &'static str, to: &DataType) -> Result<arrow::array::ArrayRef, ReadError> {
    let column = column.ok_or(ReadError::ColumnMissing { column: name })?;
    cast(column, to).map_err(|source| ReadError::ColumnType { column: name, expected: to.clone(), source })
}

fn binary(column: Option<&dyn Array>, name: &'static str) -> Result<BinaryArray, ReadError> {
    Ok(converted(column, name, &DataType::Binary)?.as_binary::<i32>().clone())
}

fn text(column: Option<&dyn Array>, name: &'static str) -> Result<StringArray, ReadError> {
    Ok(converted(column, name, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn long(column: Option<&dyn Array>, name: &'static str) -> Result<Int64Array, ReadError> {
    Ok(converted(column, name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn lists<'a, T>(
    column: Option<&'a dyn Array>,
    name: &'static str,
    members: impl FnOnce(&dyn Fn(&str) -> Option<&'a dyn Array>) -> Result<T, ReadError>,
) -> Result<Lists<T>, ReadError> {
    let column = column.ok_or(ReadError::ColumnMissing { column: name })?;
    let list = column.as_list_opt::<i32>().ok_or(ReadError::ColumnMissing { column: name })?;
    let structs: &StructArray = list.values().as_struct_opt().ok_or(ReadError::ColumnMissing { column: name })?;
    let members = members(&|member| structs.column_by_name(member).map(AsRef::as_ref))?;
    Ok(Lists { offsets: list.value_offsets().iter().map(|offset| *offset as usize).collect(), members })
}
