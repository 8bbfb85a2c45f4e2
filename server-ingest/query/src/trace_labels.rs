//! The views `trace_tags`, `trace_baggage` and `trace_entities`: what Scouter takes from the attributes of spans, under the names and columns of its
//! tables.
//!
//! | view | rows |
//! | --- | --- |
//! | `trace_tags` | a tag of a span each, and the tags that came as records, in the columns of `tags` |
//! | `trace_baggage` | an attribute `baggage.KEY` of a span each |
//! | `trace_entities` | a profile that a span or one of its events names each |
//!
//! A tag or member that several spans have comes once for each: unlike tables with keys, a view drops nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use scouter_storage::columns::Table;
use serde_json::Value;

use crate::trace::parse_attributes;

const BAGGAGE: &str = "baggage.";

/// A view: its name, the tables it reads, and what it is.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) tables: &'static [Table],
    pub(crate) sql: &'static str,
}

pub(crate) const VIEWS: [View; 3] = [
    View {
        name: "trace_tags",
        tables: &[Table::Spans, Table::Tag],
        sql: "
SELECT created_at, arrow_cast(entity_type, 'Utf8') AS entity_type, entity_id, arrow_cast(key, 'Utf8') AS key, value FROM tags
UNION ALL
SELECT created_at, 'trace' AS entity_type, entity_id, entry['key'] AS key, entry['value'] AS value FROM (
  SELECT start_time AS created_at, hex(trace_id) AS entity_id, unnest(trace_labels_members(tags)) AS entry FROM spans WHERE tags IS NOT NULL)",
    },
    View {
        name: "trace_baggage",
        tables: &[Table::Spans],
        sql: "
SELECT created_at, trace_id, scope, entry['key'] AS key, entry['value'] AS value FROM (
  SELECT start_time AS created_at, trace_id, arrow_cast(scope_name, 'Utf8') AS scope, unnest(trace_labels_baggage(attributes)) AS entry
  FROM spans WHERE attributes LIKE '%\"baggage.%')",
    },
    View {
        name: "trace_entities",
        tables: &[Table::Spans],
        sql: "SELECT trace_id, unnest(entity_ids) AS entity_uid, start_time AS tagged_at FROM spans",
    },
];

/// The view of that name.
pub(crate) fn view(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name)
}

/// The functions that the views are made of.
pub(crate) fn functions() -> [ScalarUDF; 2] {
    [Shape::Members, Shape::Baggage]
        .map(|shape| ScalarUDF::from(Labels { shape, signature: Signature::variadic_any(Volatility::Immutable) }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// Every member of an object.
    Members,
    /// The members whose keys begin with `baggage.`, without that.
    Baggage,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Labels {
    shape: Shape,
    signature: Signature,
}

impl ScalarUDFImpl for Labels {
    fn name(&self) -> &str {
        match self.shape {
            Shape::Members => "trace_labels_members",
            Shape::Baggage => "trace_labels_baggage",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(entry()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [objects] = args.args.as_slice() else {
            return exec_err!("{} takes one argument; it is meant for the views of labels", self.name());
        };
        let objects = arrow::compute::cast(&objects.to_array(args.number_rows)?, &DataType::Utf8)?;
        Ok(ColumnarValue::Array(self.entries(objects.as_string::<i32>())?))
    }
}

impl Labels {
    fn entries(&self, objects: &StringArray) -> Result<ArrayRef> {
        let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
        let mut lengths = Vec::with_capacity(objects.len());
        for object in objects {
            let before = arrow::array::ArrayBuilder::len(&keys);
            for attribute in object.map(parse_attributes).unwrap_or_default() {
                let key = match self.shape {
                    Shape::Members => Some(attribute.key.as_str()),
                    Shape::Baggage => attribute.key.strip_prefix(BAGGAGE),
                };
                if let Some(key) = key {
                    keys.append_value(key);
                    match attribute.value {
                        Value::String(text) => values.append_value(text),
                        other => values.append_value(other.to_string()),
                    }
                }
            }
            lengths.push(arrow::array::ArrayBuilder::len(&keys) - before);
        }
        let entries = StructArray::try_new(fields(), vec![Arc::new(keys.finish()), Arc::new(values.finish())], None)?;
        Ok(Arc::new(ListArray::try_new(entry(), OffsetBuffer::from_lengths(lengths), Arc::new(entries), None)?))
    }
}

fn fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Utf8, true)])
}

fn entry() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(fields()), true))
}
