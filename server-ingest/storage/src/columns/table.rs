//! The tables, their Arrow schemas and their sort orders. `docs/storage-columns.md` is the page for readers.
//!
//! Types keep to what Delta Lake knows (no unsigned integer, no fixed-size binary; nothing inside a list is non-null, for
//! which Delta has no rule), but for dictionaries, which the writer of the table replaces by their values.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::promoted::{PROMOTED, Shape};

/// One stored table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// One row a span.
    Spans,
    /// Bin counts of a population stability profile.
    Psi,
    /// Sample means for control charts.
    Spc,
    /// User-defined metrics.
    Custom,
    /// Interactions of a model or an agent, to be evaluated.
    Eval,
    /// Tags of traces and other entities.
    Tag,
    /// Request metrics of a service.
    Observability,
    /// Results of single evaluation tasks.
    AgentTask,
    /// Results of evaluation workflows.
    AgentWorkflow,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 9] =
        [Self::Spans, Self::Psi, Self::Spc, Self::Custom, Self::Eval, Self::Tag, Self::Observability, Self::AgentTask, Self::AgentWorkflow];

    /// Version of the columns below and of the canonical JSON in them. Readers of stored files compare it.
    pub const FORMAT_VERSION: u32 = 1;

    /// The name in SQL and of the folder in the lake; record tables are named as Scouter names them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Psi => "psi_drift",
            Self::Spc => "spc_drift",
            Self::Custom => "custom_drift",
            Self::Eval => "agent_eval_record",
            Self::Tag => "tags",
            Self::Observability => "observability_metric",
            Self::AgentTask => "agent_eval_task",
            Self::AgentWorkflow => "agent_eval_workflow",
        }
    }

    /// The table with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The columns, in order. `date` is the partition: the UTC day of `start_time` (spans) or `created_at` (records).
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; Table::ALL.len()]> = LazyLock::new(|| Table::ALL.map(|table| Arc::new(table.build_schema())));
        Arc::clone(&SCHEMAS[self as usize])
    }

    /// The order of rows inside a file: what a search filters by first, then time.
    pub fn sort_columns(self) -> &'static [&'static str] {
        match self {
            Self::Spans => &["service_name", "start_unix_nano"],
            Self::Psi => &["entity_uid", "feature", "created_at_unix_nano"],
            Self::Spc => &["entity_uid", "feature", "created_at_unix_nano"],
            Self::Custom => &["entity_uid", "metric", "created_at_unix_nano"],
            Self::Tag => &["entity_type", "entity_id", "key", "created_at_unix_nano"],
            Self::Eval | Self::Observability | Self::AgentTask | Self::AgentWorkflow => &["entity_uid", "created_at_unix_nano"],
        }
    }

    fn build_schema(self) -> Schema {
        let mut fields = match self {
            Self::Spans => span_fields(),
            _ => record_fields(self),
        };
        fields.push(Field::new("date", DataType::Date32, false));
        Schema::new(fields)
    }
}

/// The element of a list column of plain strings.
pub(super) fn string_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, true))
}

/// The members of one event.
pub(super) fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time_unix_nano", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("attributes", DataType::Utf8, true),
        Field::new("dropped_attributes_count", DataType::Int64, true),
    ])
}

/// The members of one link.
pub(super) fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Binary, true),
        Field::new("span_id", DataType::Binary, true),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("flags", DataType::Int64, true),
        Field::new("attributes", DataType::Utf8, true),
        Field::new("dropped_attributes_count", DataType::Int64, true),
    ])
}

/// The element of a list column of structs.
pub(super) fn struct_element(members: Fields) -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(members), true))
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A string that repeats from row to row.
fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn strings() -> DataType {
    DataType::List(string_element())
}

fn present(columns: &[(&str, DataType)]) -> Vec<Field> {
    columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect()
}

fn span_fields() -> Vec<Field> {
    let mut fields = present(&[("trace_id", DataType::Binary), ("span_id", DataType::Binary)]);
    fields.push(Field::new("parent_span_id", DataType::Binary, true));
    fields.extend(present(&[
        ("start_time", timestamp()),
        ("start_unix_nano", DataType::Int64),
        ("duration_nano", DataType::Int64),
        ("service_name", word()),
        ("name", word()),
        ("kind", word()),
        ("status_code", DataType::Int32),
        ("status_message", word()),
        ("scope_name", word()),
        ("scope_version", word()),
        ("scope_schema_url", word()),
        ("resource_schema_url", word()),
        ("trace_state", word()),
        ("flags", DataType::Int64),
        ("dropped_attributes_count", DataType::Int64),
        ("dropped_events_count", DataType::Int64),
        ("dropped_links_count", DataType::Int64),
        ("resource_dropped_attributes_count", DataType::Int64),
        ("scope_dropped_attributes_count", DataType::Int64),
    ]));
    fields.extend(PROMOTED.iter().map(|promoted| {
        let data_type = match promoted.shape {
            Shape::Word => word(),
            Shape::Text => DataType::Utf8,
            Shape::Integer => DataType::Int64,
        };
        Field::new(promoted.column, data_type, true)
    }));
    fields.extend(present(&[
        ("attributes", DataType::Utf8),
        ("resource_attributes", word()),
        ("scope_attributes", word()),
        ("events", DataType::List(struct_element(event_fields()))),
        ("links", DataType::List(struct_element(link_fields()))),
    ]));
    fields.extend([
        Field::new("resource_entity_refs", word(), true),
        Field::new("input", DataType::Utf8, true),
        Field::new("output", DataType::Utf8, true),
    ]);
    fields.extend(present(&[("entity_ids", strings()), ("queue_ids", strings())]));
    fields.push(Field::new("tags", DataType::Utf8, true));
    fields
}

fn record_fields(table: Table) -> Vec<Field> {
    use DataType::{Boolean, Float64, Int32, Int64, Utf8};
    let mut fields = present(&[("created_at", timestamp()), ("created_at_unix_nano", Int64)]);
    if table != Table::Tag {
        fields.extend(present(&[("entity_uid", word())]));
    }
    match table {
        Table::Spans => {}
        Table::Psi => fields.extend(present(&[("feature", word()), ("bin_id", Int64), ("bin_count", Int64)])),
        Table::Spc => fields.extend(present(&[("feature", word()), ("value", Float64)])),
        Table::Custom => fields.extend(present(&[("metric", word()), ("value", Float64)])),
        Table::Eval => {
            fields.extend(present(&[("uid", Utf8), ("record_id", Utf8), ("session_id", Utf8), ("context", Utf8)]));
            fields.push(Field::new("trace_id", DataType::Binary, true));
            fields.extend(present(&[("tags", strings()), ("record_source", word()), ("status", word())]));
        }
        Table::Tag => fields.extend(present(&[("entity_type", word()), ("entity_id", Utf8), ("key", word()), ("value", Utf8)])),
        Table::Observability => {
            fields.extend(present(&[("request_count", Int64), ("error_count", Int64), ("route_metrics", Utf8)]));
        }
        Table::AgentTask => fields.extend(present(&[
            ("record_uid", Utf8),
            ("task_id", word()),
            ("task_type", word()),
            ("start_time", timestamp()),
            ("start_time_unix_nano", Int64),
            ("end_time", timestamp()),
            ("end_time_unix_nano", Int64),
            ("passed", Boolean),
            ("value", Float64),
            ("assertion", Utf8),
            ("operator", word()),
            ("expected", Utf8),
            ("actual", Utf8),
            ("message", Utf8),
            ("condition", Boolean),
            ("stage", Int32),
        ])),
        Table::AgentWorkflow => fields.extend(present(&[
            ("record_uid", Utf8),
            ("total_tasks", Int64),
            ("passed_tasks", Int64),
            ("failed_tasks", Int64),
            ("pass_rate", Float64),
            ("duration_ms", Int64),
            ("execution_plan", Utf8),
        ])),
    }
    fields
}
