//! Spans as answers show them: lean for a whole trace, full for one.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Schema;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use scouter_query::{QueryError, hex_text};
use serde::Serialize;
use serde_json::Value;

use crate::columns::{Columns, Words, id, integer, range};
use crate::filter::{ERROR, State};
use crate::json::{Decimal, TypedAttribute, json_or_text, typed_attributes};

/// What a lean span is made of.
const LEAN: [&str; 12] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_unix_nano",
    "duration_nano",
    "service_name",
    "name",
    "kind",
    "status_code",
    "gen_ai_operation_name",
    "events",
    "links",
];

/// What the body of a span is made of, beyond [`LEAN`].
const BODY: [&str; 18] = [
    "status_message",
    "trace_state",
    "flags",
    "scope_name",
    "scope_version",
    "scope_schema_url",
    "scope_attributes",
    "resource_schema_url",
    "resource_attributes",
    "attributes",
    "dropped_attributes_count",
    "dropped_events_count",
    "dropped_links_count",
    "entity_ids",
    "queue_ids",
    "tags",
    "input",
    "output",
];

/// The columns to select for spans that are read with [`append`].
pub(crate) fn span_columns(is_full: bool) -> Vec<&'static str> {
    if is_full { LEAN.into_iter().chain(BODY).collect() } else { LEAN.to_vec() }
}

/// A span. Without a body it is lean.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Span {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: Option<String>,
    #[serde(flatten)]
    pub(crate) place: Option<PlaceInTrace>,
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) status: &'static str,
    pub(crate) start_unix_nano: Decimal,
    pub(crate) duration_nano: Decimal,
    pub(crate) event_count: usize,
    pub(crate) link_count: usize,
    pub(crate) genai: Option<String>,
    #[serde(flatten)]
    pub(crate) body: Option<Box<Body>>,
    #[serde(skip)]
    pub(crate) ids: Ids,
}

/// The ids of a span in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
    pub(crate) parent: Option<[u8; 8]>,
}

/// Where a span stands in the tree of its trace.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct PlaceInTrace {
    pub(crate) parent_index: Option<usize>,
    pub(crate) depth: usize,
}

/// The rest of a span.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Body {
    pub(crate) status_message: String,
    pub(crate) trace_state: String,
    pub(crate) flags: i64,
    pub(crate) scope: Scope,
    pub(crate) resource: Resource,
    pub(crate) attributes: Vec<TypedAttribute>,
    pub(crate) events: Vec<Event>,
    pub(crate) links: Vec<Link>,
    pub(crate) dropped_attributes_count: i64,
    pub(crate) dropped_events_count: i64,
    pub(crate) dropped_links_count: i64,
    pub(crate) tags: Vec<Tag>,
    pub(crate) entity_ids: Vec<String>,
    pub(crate) queue_ids: Vec<String>,
    pub(crate) input: Value,
    pub(crate) output: Value,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Scope {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) schema_url: String,
    pub(crate) attributes: Vec<TypedAttribute>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Resource {
    pub(crate) schema_url: String,
    pub(crate) attributes: Vec<TypedAttribute>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Event {
    pub(crate) time_unix_nano: Decimal,
    pub(crate) name: String,
    pub(crate) attributes: Vec<TypedAttribute>,
    pub(crate) dropped_attributes_count: i64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Link {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) trace_state: String,
    pub(crate) flags: i64,
    pub(crate) attributes: Vec<TypedAttribute>,
    pub(crate) dropped_attributes_count: i64,
}

/// One of Scouter's tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Span {
    pub(crate) fn is_error(&self) -> bool {
        self.status == State::Error.name()
    }

    pub(crate) fn end_unix_nano(&self) -> i64 {
        end(self.start_unix_nano.0, self.duration_nano.0)
    }
}

/// When a span ended, not before it started.
pub(crate) fn end(start_unix_nano: i64, duration_nano: i64) -> i64 {
    start_unix_nano.saturating_add(duration_nano.max(0))
}

/// Whether a status code says that a span failed.
pub(crate) fn is_error_code(code: i32) -> bool {
    code == ERROR
}

/// The tags in their column's JSON.
pub(crate) fn tags(json: Option<&str>) -> Vec<Tag> {
    let attributes = typed_attributes(json.unwrap_or_default());
    attributes
        .into_iter()
        .map(|tag| Tag { value: tag.value.text().unwrap_or_else(|| tag.value.plain().to_string()), key: tag.key })
        .collect()
}

/// Adds the spans in `batch`, full if it has the columns for it, and tells about how many bytes they take.
pub(crate) fn append(spans: &mut Vec<Span>, batch: &RecordBatch) -> Result<usize, QueryError> {
    /// How much larger typed attributes are than their JSON.
    const GROWTH: usize = 5;
    let columns = Columns(batch);
    let (trace_ids, span_ids, parents) = (columns.bytes("trace_id")?, columns.bytes("span_id")?, columns.bytes("parent_span_id")?);
    let (starts, durations) = (columns.integers("start_unix_nano")?, columns.integers("duration_nano")?);
    let (services, names, kinds) = (columns.words("service_name")?, columns.words("name")?, columns.words("kind")?);
    let (codes, operations) = (columns.codes("status_code")?, columns.words("gen_ai_operation_name")?);
    let (events, links) = (columns.lists("events")?, columns.lists("links")?);
    let is_full = batch.column_by_name("attributes").is_some();
    let bodies = if is_full { Some(Bodies::new(columns)?) } else { None };
    let mut bytes = 0;
    for row in 0..columns.rows() {
        let (Some(trace), Some(span)) = (id::<16>(&trace_ids, row), id::<8>(&span_ids, row)) else { continue };
        let parent = id::<8>(&parents, row).filter(|parent| *parent != [0; 8]);
        let body = match &bodies {
            Some(bodies) => {
                bytes += bodies.json_bytes(row) * GROWTH;
                Some(Box::new(bodies.of(row)?))
            }
            None => None,
        };
        spans.push(Span {
            trace_id: is_full.then(|| hex_text(&trace)),
            span_id: hex_text(&span),
            parent_span_id: parent.map(|parent| hex_text(&parent)),
            place: None,
            service: services.owned(row),
            name: names.owned(row),
            kind: kinds.owned(row),
            status: State::of(codes.value(row)).name(),
            start_unix_nano: Decimal(starts.value(row)),
            duration_nano: Decimal(durations.value(row)),
            event_count: range(events, row).len(),
            link_count: range(links, row).len(),
            genai: operations.get(row).map(str::to_owned),
            body,
            ids: Ids { trace, span, parent },
        });
        bytes += size_of::<Span>() + 160 + names.or_empty(row).len() + services.or_empty(row).len();
    }
    Ok(bytes)
}

/// The columns of bodies.
struct Bodies<'a> {
    columns: Columns<'a>,
    texts: Vec<(&'static str, Words<'a>)>,
    events: RecordBatch,
    links: RecordBatch,
}

impl<'a> Bodies<'a> {
    fn new(columns: Columns<'a>) -> Result<Self, QueryError> {
        let names = [
            "status_message",
            "trace_state",
            "scope_name",
            "scope_version",
            "scope_schema_url",
            "scope_attributes",
            "resource_schema_url",
            "resource_attributes",
            "attributes",
            "tags",
            "input",
            "output",
        ];
        let texts = names.into_iter().map(|name| Ok((name, columns.words(name)?))).collect::<Result<_, QueryError>>()?;
        Ok(Self { columns, texts, events: elements(columns, "events")?, links: elements(columns, "links")? })
    }

    fn text(&self, name: &str, row: usize) -> Option<&str> {
        self.texts.iter().find(|(of, _)| *of == name).and_then(|(_, words)| words.get(row))
    }

    fn or_empty(&self, name: &str, row: usize) -> &str {
        self.text(name, row).unwrap_or_default()
    }

    fn json_bytes(&self, row: usize) -> usize {
        self.texts.iter().map(|(_, words)| words.or_empty(row).len()).sum::<usize>() + size_of::<Body>()
    }

    fn number(&self, name: &str, row: usize) -> Result<i64, QueryError> {
        Ok(integer(self.columns.integers(name)?, row).unwrap_or(0))
    }

    fn of(&self, row: usize) -> Result<Body, QueryError> {
        Ok(Body {
            status_message: self.or_empty("status_message", row).to_owned(),
            trace_state: self.or_empty("trace_state", row).to_owned(),
            flags: self.number("flags", row)?,
            scope: Scope {
                name: self.or_empty("scope_name", row).to_owned(),
                version: self.or_empty("scope_version", row).to_owned(),
                schema_url: self.or_empty("scope_schema_url", row).to_owned(),
                attributes: typed_attributes(self.or_empty("scope_attributes", row)),
            },
            resource: Resource {
                schema_url: self.or_empty("resource_schema_url", row).to_owned(),
                attributes: typed_attributes(self.or_empty("resource_attributes", row)),
            },
            attributes: typed_attributes(self.or_empty("attributes", row)),
            events: self.events(row)?,
            links: self.links(row)?,
            dropped_attributes_count: self.number("dropped_attributes_count", row)?,
            dropped_events_count: self.number("dropped_events_count", row)?,
            dropped_links_count: self.number("dropped_links_count", row)?,
            tags: tags(self.text("tags", row)),
            entity_ids: self.columns.texts_in_lists("entity_ids")?.of(row).map(str::to_owned).collect(),
            queue_ids: self.columns.texts_in_lists("queue_ids")?.of(row).map(str::to_owned).collect(),
            input: json_or_text(self.text("input", row)),
            output: json_or_text(self.text("output", row)),
        })
    }

    fn events(&self, row: usize) -> Result<Vec<Event>, QueryError> {
        let members = Columns(&self.events);
        let (times, names, attributes) = (members.integers("time_unix_nano")?, members.words("name")?, members.words("attributes")?);
        let dropped = members.integers("dropped_attributes_count")?;
        let event = |at: usize| Event {
            time_unix_nano: Decimal(integer(times, at).unwrap_or(0)),
            name: names.owned(at),
            attributes: typed_attributes(attributes.or_empty(at)),
            dropped_attributes_count: integer(dropped, at).unwrap_or(0),
        };
        Ok(range(self.columns.lists("events")?, row).map(event).collect())
    }

    fn links(&self, row: usize) -> Result<Vec<Link>, QueryError> {
        let members = Columns(&self.links);
        let (trace_ids, span_ids) = (members.bytes("trace_id")?, members.bytes("span_id")?);
        let (states, attributes) = (members.words("trace_state")?, members.words("attributes")?);
        let (flags, dropped) = (members.integers("flags")?, members.integers("dropped_attributes_count")?);
        let link = |at: usize| Link {
            trace_id: hex_text(trace_ids.value(at)),
            span_id: hex_text(span_ids.value(at)),
            trace_state: states.owned(at),
            flags: integer(flags, at).unwrap_or(0),
            attributes: typed_attributes(attributes.or_empty(at)),
            dropped_attributes_count: integer(dropped, at).unwrap_or(0),
        };
        Ok(range(self.columns.lists("links")?, row).map(link).collect())
    }
}

/// The members of the structs in a column of lists, of all rows.
fn elements(columns: Columns<'_>, name: &str) -> Result<RecordBatch, QueryError> {
    let lists = columns.lists(name)?;
    let structs = lists.values().as_struct_opt().ok_or_else(|| QueryError::Internal(format!("column {name} has no structs")))?;
    // Stored structs are never null as a whole.
    let (fields, members, _) = structs.clone().into_parts();
    let options = RecordBatchOptions::new().with_row_count(Some(structs.len()));
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new_with_options(schema, members, &options).map_err(|error| QueryError::Internal(error.to_string()))
}
