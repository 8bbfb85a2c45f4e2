//! The view `trace_spans`: our spans with the names and shapes of Scouter's 24 columns.
//!
//! Types are Scouter's, but for three for which there is a reason: ids are `Binary`, because a cast would keep lookups from the files'
//! indexes; `span_kind` has 32-bit dictionary keys, because kinds are numbers a client chooses; `service_name` of a span without one is
//! `unknown_service`, as OpenTelemetry names it. `docs/storage-columns.md` has the table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryBuilder, Int64Array, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StringArray, StringBuilder, StringViewBuilder, StructArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::exec_err;
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde_json::Value;

use crate::trace::parse_attributes;

/// The name of the view.
pub(crate) const NAME: &str = "trace_spans";

const SQL: &str = "
SELECT
  trace_id,
  span_id,
  parent_span_id,
  arrow_cast(CASE WHEN flags > 2147483647 THEN flags - 4294967296 ELSE flags END, 'Int32') AS flags,
  arrow_cast(trace_state, 'Utf8') AS trace_state,
  arrow_cast(CASE WHEN scope_name = '' THEN 'unknown' ELSE scope_name END, 'Utf8') AS scope_name,
  arrow_cast(nullif(scope_version, ''), 'Utf8') AS scope_version,
  service_name,
  arrow_cast(name, 'Utf8') AS span_name,
  kind AS span_kind,
  start_time,
  trace_spans_time(start_unix_nano + duration_nano) AS end_time,
  CASE WHEN duration_nano > 0 THEN duration_nano / 1000000 ELSE 0 END AS duration_ms,
  status_code,
  arrow_cast(nullif(status_message, ''), 'Utf8') AS status_message,
  arrow_cast(NULL, 'Utf8') AS label,
  trace_spans_map(attributes) AS attributes,
  trace_spans_map(resource_attributes) AS resource_attributes,
  trace_spans_events(events) AS events,
  trace_spans_links(links) AS links,
  trace_spans_json(input) AS input,
  trace_spans_json(output) AS output,
  trace_spans_search(service_name, name, scope_name, status_code, attributes, events) AS search_blob,
  date AS partition_date
FROM spans";

/// The view over the table `spans` of `state`.
pub(crate) async fn view(state: &SessionState) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(ViewTable::new(state.create_logical_plan(SQL).await?, None)))
}

/// The functions that the view is made of.
pub(crate) fn functions() -> [ScalarUDF; 6] {
    [Shape::Map, Shape::Events, Shape::Links, Shape::Json, Shape::Time, Shape::Search]
        .map(|shape| ScalarUDF::from(ViewFunction { shape, signature: Signature::variadic_any(Volatility::Immutable) }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// Attributes as a map from keys to JSON texts.
    Map,
    Events,
    Links,
    /// JSON text of an input or output, `null` where there is none.
    Json,
    /// A timestamp from nanoseconds.
    Time,
    /// What Scouter's attribute filters search: `|service| |name| |scope| |status| |key=value| ... |event| ...`.
    Search,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ViewFunction {
    shape: Shape,
    signature: Signature,
}

impl ScalarUDFImpl for ViewFunction {
    fn name(&self) -> &str {
        match self.shape {
            Shape::Map => "trace_spans_map",
            Shape::Events => "trace_spans_events",
            Shape::Links => "trace_spans_links",
            Shape::Json => "trace_spans_json",
            Shape::Time => "trace_spans_time",
            Shape::Search => "trace_spans_search",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.shape {
            Shape::Map => map_type(),
            Shape::Events => list_type(event_fields()),
            Shape::Links => list_type(link_fields()),
            Shape::Json | Shape::Search => DataType::Utf8View,
            Shape::Time => time_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let expected = if self.shape == Shape::Search { 6 } else { 1 };
        if args.args.len() != expected {
            return exec_err!("{} takes {expected} arguments; it is meant for the view {NAME}", self.name());
        }
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let answer: ArrayRef = match self.shape {
            Shape::Map => Arc::new(maps(&texts(&arrays[0])?)?),
            Shape::Events => events(&arrays[0])?,
            Shape::Links => links(&arrays[0])?,
            Shape::Json => json(&texts(&arrays[0])?),
            Shape::Time => Arc::new(times(&integers(&arrays[0])?)),
            Shape::Search => search(&arrays)?,
        };
        Ok(ColumnarValue::Array(answer))
    }
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn entry_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8View, true)])
}

fn entries_field() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(entry_fields()), false))
}

fn map_type() -> DataType {
    DataType::Map(entries_field(), false)
}

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("timestamp", time_type(), false),
        Field::new("attributes", map_type(), false),
        Field::new("dropped_attributes_count", DataType::UInt32, false),
    ])
}

fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::FixedSizeBinary(16), false),
        Field::new("span_id", DataType::FixedSizeBinary(8), false),
        Field::new("trace_state", DataType::Utf8, false),
        Field::new("attributes", map_type(), false),
        Field::new("dropped_attributes_count", DataType::UInt32, false),
    ])
}

fn item(members: Fields) -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(members), true))
}

fn list_type(members: Fields) -> DataType {
    DataType::List(item(members))
}

fn texts(array: &ArrayRef) -> Result<StringArray> {
    Ok(arrow::compute::cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn integers(array: &ArrayRef) -> Result<Int64Array> {
    Ok(arrow::compute::cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn times(nanos: &Int64Array) -> TimestampMicrosecondArray {
    nanos.unary::<_, arrow::datatypes::TimestampMicrosecondType>(|nanos| nanos.div_euclid(1000)).with_timezone("UTC")
}

fn maps(texts: &StringArray) -> Result<MapArray> {
    let (mut keys, mut values) = (StringBuilder::new(), StringViewBuilder::new());
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts {
        let attributes = text.map(parse_attributes).unwrap_or_default();
        lengths.push(attributes.len());
        for attribute in attributes {
            keys.append_value(attribute.key);
            values.append_value(attribute.value.to_string());
        }
    }
    let entries = StructArray::try_new(entry_fields(), vec![Arc::new(keys.finish()), Arc::new(values.finish())], None)?;
    Ok(MapArray::try_new(entries_field(), OffsetBuffer::from_lengths(lengths), entries, texts.nulls().cloned(), false)?)
}

fn json(texts: &StringArray) -> ArrayRef {
    let mut out = StringViewBuilder::with_capacity(texts.len());
    for text in texts {
        match text {
            None => out.append_value("null"),
            Some(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => out.append_value(text),
            Some(text) => out.append_value(Value::from(text).to_string()),
        }
    }
    Arc::new(out.finish())
}

/// The elements of a column of lists of structs, as a batch, and the lists around them.
fn elements(lists: &ArrayRef) -> Result<(RecordBatch, ListArray)> {
    let Some(lists) = lists.as_list_opt::<i32>() else { return exec_err!("a list was expected, not {}", lists.data_type()) };
    let Some(structs) = lists.values().as_struct_opt() else { return exec_err!("a list of structs was expected") };
    // The stored structs are never null as a whole, so their columns are all there is.
    let (fields, columns, _) = structs.clone().into_parts();
    let options = RecordBatchOptions::new().with_row_count(Some(lists.values().len()));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    Ok((batch, lists.clone()))
}

fn member(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    match batch.column_by_name(name) {
        Some(column) => Ok(Arc::clone(column)),
        None => exec_err!("the elements have no member {name}"),
    }
}

fn counts(batch: &RecordBatch) -> Result<ArrayRef> {
    let counts = integers(&member(batch, "dropped_attributes_count")?)?;
    Ok(Arc::new(counts.iter().map(|count| Some(u32::try_from(count.unwrap_or(0)).unwrap_or(u32::MAX))).collect::<UInt32Array>()))
}

fn filled(texts: &StringArray) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts.iter().map(Option::unwrap_or_default)))
}

fn list(members: Fields, columns: Vec<ArrayRef>, around: &ListArray) -> Result<ArrayRef> {
    let length = around.values().len();
    let structs = StructArray::try_new_with_length(members.clone(), columns, None, length)?;
    Ok(Arc::new(ListArray::try_new(item(members), around.offsets().clone(), Arc::new(structs), around.nulls().cloned())?))
}

fn events(lists: &ArrayRef) -> Result<ArrayRef> {
    let (batch, around) = elements(lists)?;
    let nanos = integers(&member(&batch, "time_unix_nano")?)?;
    let nanos: Int64Array = nanos.iter().map(|nanos| Some(nanos.unwrap_or(0))).collect();
    let attributes = filled_objects(&batch)?;
    let columns: Vec<ArrayRef> =
        vec![filled(&texts(&member(&batch, "name")?)?), Arc::new(times(&nanos)), Arc::new(maps(&attributes)?), counts(&batch)?];
    list(event_fields(), columns, &around)
}

fn links(lists: &ArrayRef) -> Result<ArrayRef> {
    let (batch, around) = elements(lists)?;
    let attributes = filled_objects(&batch)?;
    let columns: Vec<ArrayRef> = vec![
        fixed(&member(&batch, "trace_id")?, 16)?,
        fixed(&member(&batch, "span_id")?, 8)?,
        filled(&texts(&member(&batch, "trace_state")?)?),
        Arc::new(maps(&attributes)?),
        counts(&batch)?,
    ];
    list(link_fields(), columns, &around)
}

fn filled_objects(batch: &RecordBatch) -> Result<StringArray> {
    let attributes = texts(&member(batch, "attributes")?)?;
    Ok(StringArray::from_iter_values(attributes.iter().map(|text| text.unwrap_or("{}"))))
}

/// Ids of that many bytes. Links are stored as they came, whatever their length: others are cut or filled with zeros.
fn fixed(ids: &ArrayRef, length: usize) -> Result<ArrayRef> {
    let ids: BinaryArray = arrow::compute::cast(ids, &DataType::Binary)?.as_binary::<i32>().clone();
    let mut out = FixedSizeBinaryBuilder::with_capacity(ids.len(), i32::try_from(length).expect("lengths are 8 and 16"));
    for id in &ids {
        let mut bytes = id.unwrap_or_default().to_vec();
        bytes.resize(length, 0);
        out.append_value(bytes)?;
    }
    Ok(Arc::new(out.finish()))
}

fn search(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let [services, names, scopes] = [texts(&columns[0])?, texts(&columns[1])?, texts(&columns[2])?];
    let (status_codes, attributes) = (integers(&columns[3])?, texts(&columns[4])?);
    let (batch, around) = elements(&columns[5])?;
    let event_names = texts(&member(&batch, "name")?)?;
    let mut out = StringViewBuilder::with_capacity(services.len());
    for row in 0..services.len() {
        let mut blob = format!("|{}| |{}| |{}| |{}|", services.value(row), names.value(row), scopes.value(row), status_codes.value(row));
        for attribute in parse_attributes(attributes.value(row)) {
            let value = match attribute.value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            blob.push_str(&format!(" |{}={value}|", attribute.key));
        }
        let offsets = around.value_offsets();
        for event in offsets[row] as usize..offsets[row + 1] as usize {
            blob.push_str(&format!(" |{}|", event_names.value(event)));
        }
        out.append_value(blob);
    }
    Ok(Arc::new(out.finish()))
}
