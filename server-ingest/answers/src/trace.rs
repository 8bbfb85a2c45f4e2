//! One trace, and one span of it.

use std::collections::{BTreeMap, HashSet};

use futures::StreamExt;
use scouter_query::{Condition, Engine, Node, QueryError, Reader, Selection, SpanId, hex_text, micros_text, tree_order};
use scouter_storage::columns::Table;
use serde::Serialize;

use crate::columns::{Columns, id};
use crate::error::AnswerError;
use crate::filter::{span_id, trace_id};
use crate::groups::ENTRY_BYTES;
use crate::json::Decimal;
use crate::span::{PlaceInTrace, Span, append, span_columns};

/// Traces with more spans are lean unless they are asked for in full.
const AUTO_FULL_SPANS: usize = 1000;

/// How much of each span is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Everything, if the spans are few.
    #[default]
    Auto,
    /// What a waterfall needs.
    Lean,
    /// Everything.
    Full,
}

impl Detail {
    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "lean" => Some(Self::Lean),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

#[derive(Debug, Serialize)]
struct TraceAnswer {
    trace_id: String,
    detail: &'static str,
    start_unix_nano: Decimal,
    start_time: String,
    duration_nano: Decimal,
    span_count: usize,
    error_count: usize,
    services: Vec<ServiceCount>,
    spans: Vec<Span>,
}

/// How often a service occurs in a trace.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServiceCount {
    pub(crate) service: String,
    pub(crate) span_count: usize,
    pub(crate) error_count: usize,
}

/// The spans of a trace in tree order.
///
/// # Errors
/// The id is none, or there is no such trace.
pub async fn trace(engine: &Engine, id: &str, detail: Detail) -> Result<impl Serialize + use<>, AnswerError> {
    let trace_id = read_trace_id(id)?;
    let (spans, is_full) = engine
        .ask(move |mut reader| async move {
            let conditions = vec![Condition::Traces(vec![trace_id])];
            if detail != Detail::Lean {
                // Most traces are small, so one reading is enough for most.
                let mut selection = Selection::new(Table::Spans, &span_columns(true), conditions.clone());
                selection.limit = (detail == Detail::Auto).then_some(AUTO_FULL_SPANS + 1);
                let full = collect(&mut reader, selection).await?;
                if detail == Detail::Full || full.len() <= AUTO_FULL_SPANS {
                    return Ok((in_tree_order(full), true));
                }
            }
            Ok((in_tree_order(spans(&mut reader, conditions, false).await?), false))
        })
        .await?;
    if spans.is_empty() {
        return Err(AnswerError::NotFound { what: "trace", name: id.to_owned() });
    }
    let start = spans.iter().map(|span| span.start_unix_nano.0).min().unwrap_or(0);
    let end = spans.iter().map(Span::end_unix_nano).max().unwrap_or(start);
    let mut services: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for span in &spans {
        let counts = services.entry(&span.service).or_default();
        counts.0 += 1;
        counts.1 += usize::from(span.is_error());
    }
    let services = services
        .into_iter()
        .map(|(service, (span_count, error_count))| ServiceCount { service: service.to_owned(), span_count, error_count })
        .collect();
    let mut spans = spans;
    // The trace says it once.
    spans.iter_mut().for_each(|span| span.trace_id = None);
    Ok(TraceAnswer {
        trace_id: hex_text(&trace_id),
        detail: if is_full { "full" } else { "lean" },
        start_unix_nano: Decimal(start),
        start_time: micros_text(start.div_euclid(1000)),
        duration_nano: Decimal(end.saturating_sub(start)),
        span_count: spans.len(),
        error_count: spans.iter().filter(|span| span.is_error()).count(),
        services,
        spans,
    })
}

/// One span, in full.
///
/// # Errors
/// An id is none, or there is no such span.
pub async fn span(engine: &Engine, trace: &str, id: &str) -> Result<impl Serialize + use<>, AnswerError> {
    let trace_id = read_trace_id(trace)?;
    let Some(wanted) = span_id(id) else {
        return Err(AnswerError::parameter(format!("{id:?} is not a span id"), "write 16 hexadecimal digits"));
    };
    let conditions = vec![Condition::Traces(vec![trace_id]), Condition::Span(wanted)];
    let found = engine.ask(move |mut reader| async move { Ok(in_tree_order(spans(&mut reader, conditions, true).await?)) }).await?;
    let mut span = found.into_iter().next().ok_or_else(|| AnswerError::NotFound { what: "span", name: id.to_owned() })?;
    span.place = None;
    Ok(span)
}

pub(crate) fn read_trace_id(text: &str) -> Result<[u8; 16], AnswerError> {
    trace_id(text).ok_or_else(|| AnswerError::parameter(format!("{text:?} is not a trace id"), "write 32 hexadecimal digits"))
}

/// What the id of a trace takes in a set.
pub(crate) const BYTES_PER_TRACE: usize = size_of::<[u8; 16]>() + ENTRY_BYTES;

/// The traces with a span for which `conditions` hold.
pub(crate) async fn traces_with(reader: &mut Reader, conditions: Vec<Condition>) -> Result<HashSet<[u8; 16]>, QueryError> {
    let mut rows = reader.rows(Selection::new(Table::Spans, &["trace_id"], conditions)).await?;
    let mut traces = HashSet::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let before = traces.len();
        let ids = Columns(&batch).bytes("trace_id")?;
        traces.extend((0..batch.num_rows()).filter_map(|row| id::<16>(&ids, row)));
        reader.hold((traces.len() - before) * BYTES_PER_TRACE)?;
    }
    Ok(traces)
}

/// The spans for which `conditions` hold.
pub(crate) async fn spans(reader: &mut Reader, conditions: Vec<Condition>, is_full: bool) -> Result<Vec<Span>, QueryError> {
    collect(reader, Selection::new(Table::Spans, &span_columns(is_full), conditions)).await
}

/// The spans of a selection with the columns of [`span_columns`].
pub(crate) async fn collect(reader: &mut Reader, selection: Selection) -> Result<Vec<Span>, QueryError> {
    let mut rows = reader.rows(selection).await?;
    let mut spans = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if spans.len() + batch.num_rows() > reader.max_rows() {
            return Err(QueryError::TooManyRows { limit: reader.max_rows() });
        }
        reader.hold(append(&mut spans, &batch)?)?;
    }
    Ok(spans)
}

/// Each span once, where it stands.
pub(crate) fn in_tree_order(spans: Vec<Span>) -> Vec<Span> {
    let nodes: Vec<Node> = spans
        .iter()
        .map(|span| Node {
            id: SpanId(span.ids.span),
            parent: span.ids.parent.map(SpanId),
            start_unix_nano: span.start_unix_nano.0,
            duration_nano: span.duration_nano.0,
        })
        .collect();
    let mut spans: Vec<Option<Span>> = spans.into_iter().map(Some).collect();
    let mut placed = Vec::with_capacity(spans.len());
    for (index, place) in tree_order(&nodes) {
        if let Some(mut span) = spans[index].take() {
            span.place = Some(PlaceInTrace { parent_index: place.parent, depth: place.depth });
            placed.push(span);
        }
    }
    placed
}
