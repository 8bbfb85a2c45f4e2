//! Scouter's own questions and shapes, as its clients send and read them.
//!
//! What its server gets wrong is not repeated here: pages are made of whole traces, an attribute filter compares keys and values and not parts of
//! a text, "5 minutes" is five minutes, nothing is hidden because it is older than a day, and no answer is kept for another caller.

mod dashboards;
mod filters;
mod genai;
mod genai_spans;
mod metrics;

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::StreamExt;
use scouter_query::{Attribute, Condition, Engine, QueryError, Reader, Selection, Trace, hex_text, micros_text};
use scouter_storage::columns::Table;
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::error::AnswerError;
use crate::filter::equal;
use crate::json::typed_attributes;
use crate::search::{Key, Order, Summary, page, page_before};
use crate::trace::{BYTES_PER_TRACE, read_trace_id, traces_with};
pub use dashboards::{DashboardQuestion, ModelPricing, agent_metrics, tool_metrics};
pub use filters::TraceFilters;
use filters::{Cursor, nanos_text};
pub use genai::{GenAiMetrics, GenAiTable, genai_metrics};
pub use genai_spans::{GenAiSpanFilters, genai_conversation, genai_spans};
pub use metrics::{TraceMetricsQuestion, trace_metrics};

/// Traces whose spans are given out together.
const MOST_TRACES: usize = 1000;

/// What a failed trace's status is.
const ERROR: i32 = 2;

#[derive(Debug, Serialize)]
struct TracePage {
    items: Vec<TraceListItem>,
    has_next: bool,
    next_cursor: Option<Cursor>,
    has_previous: bool,
    previous_cursor: Option<Cursor>,
}

#[derive(Debug, Serialize)]
struct TraceListItem {
    trace_id: String,
    service_name: String,
    scope_name: String,
    scope_version: String,
    root_operation: String,
    start_time: String,
    end_time: Option<String>,
    duration_ms: Option<i64>,
    status_code: i32,
    status_message: Option<String>,
    span_count: usize,
    has_errors: bool,
    error_count: usize,
    resource_attributes: Vec<Attribute>,
    entity_ids: Vec<String>,
    queue_ids: Vec<String>,
}

/// The status of a whole trace: failed if a span failed, else that of its root.
fn status_of(summary: &Summary) -> i32 {
    if summary.error_count > 0 { ERROR } else { summary.root.status_code }
}

fn item(summary: Summary) -> TraceListItem {
    let (start, duration) = (summary.start_unix_nano.0, summary.duration_nano.0);
    let status_code = status_of(&summary);
    let message = match &summary.first_error {
        Some(error) if summary.root.status_code != ERROR => error.message.clone(),
        _ => summary.root.status_message.clone(),
    };
    let resource_attributes = typed_attributes(&summary.root.resource_attributes)
        .into_iter()
        .map(|attribute| Attribute { value: attribute.value.plain(), key: attribute.key })
        .collect();
    TraceListItem {
        trace_id: summary.trace_id,
        service_name: summary.root.service,
        scope_name: if summary.root.scope_name.is_empty() { "unknown".to_owned() } else { summary.root.scope_name },
        scope_version: summary.root.scope_version,
        root_operation: summary.root.name,
        start_time: summary.start_time,
        end_time: Some(micros_text(start.saturating_add(duration).div_euclid(1000))),
        duration_ms: Some(duration / 1_000_000),
        status_code,
        status_message: (!message.is_empty()).then_some(message),
        span_count: summary.span_count,
        has_errors: summary.error_count > 0,
        error_count: summary.error_count,
        resource_attributes,
        entity_ids: summary.entity_ids,
        queue_ids: summary.queue_ids,
    }
}

/// `POST /scouter/trace/paginated`.
///
/// # Errors
/// A filter cannot be read.
pub async fn paginated(engine: &Engine, filters: TraceFilters) -> Result<impl Serialize + use<>, AnswerError> {
    let question = filters.read()?;
    // Before no place there is nothing: whoever turns back without a cursor gets the first page.
    let (wanted, cursor, is_back) = (question.limit, question.cursor, question.is_back && question.cursor.is_some());
    let mut found = engine
        .ask(move |mut reader| async move {
            let accepts = |summary: &Summary| question.accepts(summary, status_of(summary));
            match cursor {
                Some(before) if is_back => page_before(&mut reader, &question.conditions, before, wanted + 1, accepts).await,
                after => page(&mut reader, &question.conditions, Order::Newest, after, wanted + 1, accepts).await,
            }
        })
        .await?;
    let is_more = found.len() > wanted;
    if is_more {
        // The one too many lies in the direction of the reading.
        let extra = if is_back { 0 } else { wanted };
        found.remove(extra);
    }
    let (has_next, has_previous) = if is_back { (cursor.is_some(), is_more) } else { (is_more, cursor.is_some()) };
    let at = |place: Option<&(Key, Summary)>| {
        place.map(|(key, _)| Cursor { start_time: nanos_text(key.number), trace_id: hex_text(&key.trace) })
    };
    Ok(TracePage {
        has_next,
        next_cursor: has_next.then(|| at(found.last())).flatten(),
        has_previous,
        previous_cursor: has_previous.then(|| at(found.first())).flatten(),
        items: found.into_iter().map(|(_, summary)| item(summary)).collect(),
    })
}

/// `POST /scouter/trace/spans/filters`: the spans of the newest trace that the filters find.
///
/// # Errors
/// A filter cannot be read.
pub async fn spans_of_newest(engine: &Engine, filters: TraceFilters) -> Result<Trace, AnswerError> {
    let question = filters.read()?;
    let found = engine
        .ask(move |mut reader| async move {
            let accepts = |summary: &Summary| question.accepts(summary, status_of(summary));
            page(&mut reader, &question.conditions, Order::Newest, question.cursor, 1, accepts).await
        })
        .await?;
    match found.first() {
        Some((key, _)) => Ok(engine.trace(key.trace).await?),
        None => Ok(Trace::default()),
    }
}

/// The body of `POST /scouter/trace/spans/tags`.
#[derive(Debug, Deserialize)]
pub struct TagsQuestion {
    /// What is tagged; traces are meant.
    #[serde(default = "trace_entity")]
    pub entity_type: String,
    /// The tags.
    pub tag_filters: Vec<TagFilter>,
    /// Whether a trace must have all of them.
    #[serde(default)]
    pub match_all: bool,
    /// Only spans of this service.
    pub service_name: Option<String>,
}

/// A tag to find.
#[derive(Debug, Deserialize)]
pub struct TagFilter {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

fn trace_entity() -> String {
    "trace".to_owned()
}

/// `POST /scouter/trace/spans/tags`: the spans of the traces with tags, whether a span brought the tag or a tag record did.
///
/// # Errors
/// No tag is named, or too many traces have them.
pub async fn spans_by_tags(engine: &Engine, question: TagsQuestion) -> Result<Trace, AnswerError> {
    if question.tag_filters.is_empty() {
        return Err(AnswerError::parameter("tag_filters is empty", "name a tag as {\"key\": \"env\", \"value\": \"prod\"}"));
    }
    let service = question.service_name.clone();
    let traces = engine
        .ask(move |mut reader| async move {
            let mut found: Option<HashSet<[u8; 16]>> = None;
            for tag in &question.tag_filters {
                let tagged = tagged(&mut reader, &question.entity_type, tag).await?;
                found = Some(match found {
                    None => tagged,
                    Some(found) if question.match_all => found.intersection(&tagged).copied().collect(),
                    Some(found) => found.union(&tagged).copied().collect(),
                });
            }
            let found = found.unwrap_or_default();
            if found.len() > MOST_TRACES {
                return Err(QueryError::TooManyRows { limit: MOST_TRACES });
            }
            Ok(found.into_iter().collect::<Vec<_>>())
        })
        .await?;
    let mut spans: Vec<_> = engine.traces(traces).await?.into_iter().flat_map(|trace| trace.spans).collect();
    if let Some(service) = service {
        spans.retain(|span| span.service_name == service);
    }
    Ok(Trace { spans })
}

/// The traces that have a tag. A record gives a trace the one value of a key, the latest; its spans' tags of that key count where none does.
async fn tagged(reader: &mut Reader, entity_type: &str, tag: &TagFilter) -> Result<HashSet<[u8; 16]>, QueryError> {
    let mut traces = traces_with(reader, vec![Condition::Tag(equal(&tag.key, &tag.value))]).await?;
    let conditions = [("entity_type", entity_type), ("key", &tag.key)];
    let conditions = conditions.map(|(column, value)| Condition::OneOf(column, vec![value.to_owned()])).to_vec();
    let columns = ["entity_id", "value", "created_at_unix_nano"];
    let mut rows = reader.rows(Selection::new(Table::Tag, &columns, conditions)).await?;
    let mut latest: HashMap<[u8; 16], (i64, bool)> = HashMap::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let before = latest.len();
        let columns = Columns(&batch);
        let (ids, values, times) = (columns.words("entity_id")?, columns.words("value")?, columns.integers("created_at_unix_nano")?);
        for row in 0..columns.rows() {
            let Some(trace) = crate::filter::trace_id(ids.or_empty(row)) else { continue };
            let (time, is_wanted) = (times.value(row), values.or_empty(row) == tag.value);
            let known = latest.entry(trace).or_insert((time, is_wanted));
            if time >= known.0 {
                *known = (time, is_wanted);
            }
        }
        reader.hold((latest.len() - before) * BYTES_PER_TRACE * 2)?;
    }
    for (trace, (_, is_wanted)) in latest {
        if is_wanted {
            traces.insert(trace);
        } else {
            traces.remove(&trace);
        }
    }
    Ok(traces)
}

#[derive(Debug, Serialize)]
struct Baggage {
    baggage: Vec<BaggageRecord>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct BaggageRecord {
    created_at: String,
    trace_id: String,
    scope: String,
    key: String,
    value: String,
}

/// `GET /scouter/trace/baggage`: what came as attributes `baggage.<key>`.
///
/// # Errors
/// The id is none.
pub async fn baggage(engine: &Engine, trace_id: &str) -> Result<impl Serialize + use<>, AnswerError> {
    const PREFIX: &str = "baggage.";
    let trace = read_trace_id(trace_id)?;
    let records = engine
        .ask(move |mut reader| async move {
            let columns = ["start_unix_nano", "scope_name", "attributes"];
            let mut rows = reader.rows(Selection::new(Table::Spans, &columns, vec![Condition::Traces(vec![trace])])).await?;
            let mut records = BTreeSet::new();
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let columns = Columns(&batch);
                let (starts, scopes, attributes) =
                    (columns.integers("start_unix_nano")?, columns.words("scope_name")?, columns.words("attributes")?);
                for row in 0..columns.rows() {
                    for attribute in typed_attributes(attributes.or_empty(row)) {
                        let Some(key) = attribute.key.strip_prefix(PREFIX) else { continue };
                        records.insert(BaggageRecord {
                            created_at: micros_text(starts.value(row).div_euclid(1000)),
                            trace_id: hex_text(&trace),
                            scope: scopes.owned(row),
                            key: key.to_owned(),
                            value: attribute.value.text().unwrap_or_else(|| attribute.value.plain().to_string()),
                        });
                    }
                }
            }
            Ok(records)
        })
        .await?;
    Ok(Baggage { baggage: records.into_iter().collect() })
}
