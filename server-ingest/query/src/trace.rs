//! One trace: its spans in tree order, in the shape that Scouter's clients read.
//!
//! Traces come from many processes over many retries, so no shape can be relied on. What is done with each fault:
//!
//! | fault | what is done |
//! | --- | --- |
//! | a span twice | the one that starts first stays, of those the longest |
//! | a parent that is not in the trace | the span is a root, after those that have no parent |
//! | a span that is its own parent | the same |
//! | parents in a circle | its earliest span is a root, after all others; the circle is cut there |
//! | 100,000 levels | `path` keeps the nearest [`MAX_PATH`] ids, the rest is linear; nothing recurses |

mod attributes;
mod id;
mod rows;
mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Limits;
use crate::error::{Phase, QueryError};
use crate::functions::hex_text;
pub(crate) use attributes::parse as parse_attributes;
pub use id::{SpanId, TraceId};
pub use text::trace_tree;
pub use tree::{Node, Place, order as tree_order};

/// The most ids in a [`TraceSpan::path`]. Whole paths take memory that grows with the square of the depth.
pub const MAX_PATH: usize = 128;

/// The spans of one trace, depth first; children and roots in the order in which they start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The spans, each once.
    pub spans: Vec<TraceSpan>,
}

/// A span as Scouter's trace routes show it, with `duration_nano` added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceSpan {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its parent as it was sent, whether that is in the trace or not.
    pub parent_span_id: Option<SpanId>,
    /// What was done.
    pub span_name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `UNSPECIFIED`.
    pub span_kind: Option<String>,
    /// RFC 3339, UTC, microseconds.
    pub start_time: String,
    /// RFC 3339, UTC, microseconds.
    pub end_time: String,
    /// Whole milliseconds; 0 where the end is before the start, as Scouter has it.
    pub duration_ms: i64,
    /// End minus start, exactly; negative where the end is before the start.
    pub duration_nano: i64,
    /// 0 unset, 1 ok, 2 error.
    pub status_code: i32,
    /// What went wrong, if something was said.
    pub status_message: Option<String>,
    /// The attributes in the order in which they were sent, repeated keys repeated.
    pub attributes: Vec<Attribute>,
    /// What happened meanwhile.
    pub events: Vec<SpanEvent>,
    /// Spans of other traces that belong to it.
    pub links: Vec<SpanLink>,
    /// Levels below its root, which is at 0.
    pub depth: i32,
    /// The ids from the root to the span itself; only the last [`MAX_PATH`] of them where it lies deeper.
    pub path: Vec<SpanId>,
    /// The root it lies under.
    pub root_span_id: SpanId,
    /// The service it ran in.
    pub service_name: String,
    /// Its index in tree order.
    pub span_order: i32,
    /// What was put in, where the attribute `scouter.tracing.input` says so.
    pub input: Value,
    /// What came out, where the attribute `scouter.tracing.output` says so.
    pub output: Value,
}

/// A key and its value. Bytes are base64 text; NaN and infinities are text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Value,
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpanEvent {
    /// RFC 3339, UTC, microseconds.
    pub timestamp: String,
    /// What happened.
    pub name: String,
    /// More about it.
    pub attributes: Vec<Attribute>,
    /// Attributes that the application had to leave out.
    pub dropped_attributes_count: i64,
}

/// A span of this or another trace that belongs to a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpanLink {
    /// The trace, in hexadecimal as it was sent.
    pub trace_id: String,
    /// The span, in hexadecimal as it was sent.
    pub span_id: String,
    /// W3C trace state.
    pub trace_state: String,
    /// More about it.
    pub attributes: Vec<Attribute>,
    /// Attributes that the application had to leave out.
    pub dropped_attributes_count: i64,
}

/// The statement that looks traces up. Comparisons with constants are what bloom filters answer.
pub(crate) fn lookup_sql(trace_ids: &[[u8; 16]]) -> String {
    let ids: Vec<String> = trace_ids.iter().map(|id| format!("X'{}'", hex_text(id))).collect();
    let test = match ids.as_slice() {
        [id] => format!("= {id}"),
        ids => format!("IN ({})", ids.join(", ")),
    };
    format!("SELECT {} FROM spans WHERE trace_id {test}", rows::COLUMNS.join(", "))
}

/// The traces whose rows [`lookup_sql`] finds, in the order of their first spans.
pub(crate) async fn collect(
    mut stream: SendableRecordBatchStream,
    limits: Limits,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Vec<Trace>, QueryError> {
    let failed = |error| QueryError::from_datafusion(&error, Phase::Run, limits.memory_bytes);
    let held = MemoryConsumer::new("trace").register(pool);
    let mut spans = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        if spans.len() + batch.num_rows() > limits.max_rows {
            return Err(QueryError::TooManyRows { limit: limits.max_rows });
        }
        let bytes = rows::append(&mut spans, &batch).map_err(|error| failed(error.into()))?;
        held.try_grow(bytes).map_err(failed)?;
    }
    let mut of_trace: HashMap<TraceId, Vec<TimedSpan>> = HashMap::new();
    for span in spans {
        of_trace.entry(span.span.trace_id).or_default().push(span);
    }
    let mut traces = Vec::with_capacity(of_trace.len());
    for (id, spans) in of_trace {
        let first = spans.iter().map(|span| span.start_unix_nano).min();
        let placed = place(&spans);
        held.try_grow(placed.iter().map(|(_, place)| path_length(place.depth) * size_of::<SpanId>()).sum()).map_err(failed)?;
        traces.push(((first, id), Trace { spans: arrange(spans, &placed) }));
    }
    traces.sort_by_key(|(rank, _)| *rank);
    Ok(traces.into_iter().map(|(_, trace)| trace).collect())
}

/// Puts spans in tree order and fills in `depth`, `path`, `root_span_id` and `span_order`.
#[cfg(test)]
fn in_tree_order(spans: Vec<TimedSpan>) -> Vec<TraceSpan> {
    let placed = place(&spans);
    arrange(spans, &placed)
}

/// A span that has no place yet, with its start in full.
#[derive(Debug, Clone)]
struct TimedSpan {
    start_unix_nano: i64,
    span: TraceSpan,
}

fn place(spans: &[TimedSpan]) -> Vec<(usize, tree::Place)> {
    let nodes: Vec<Node> = spans
        .iter()
        .map(|TimedSpan { start_unix_nano, span }| Node {
            id: span.span_id,
            parent: span.parent_span_id,
            start_unix_nano: *start_unix_nano,
            duration_nano: span.duration_nano,
        })
        .collect();
    tree::order(&nodes)
}

fn path_length(depth: usize) -> usize {
    (depth + 1).min(MAX_PATH)
}

fn arrange(spans: Vec<TimedSpan>, placed: &[(usize, tree::Place)]) -> Vec<TraceSpan> {
    let mut spans: Vec<Option<TraceSpan>> = spans.into_iter().map(|timed| Some(timed.span)).collect();
    let mut arranged: Vec<TraceSpan> = Vec::with_capacity(placed.len());
    for (order, (index, place)) in placed.iter().enumerate() {
        let mut span = spans[*index].take().expect("a span has one place");
        let mut path = Vec::with_capacity(path_length(place.depth));
        if let Some(parent) = place.parent {
            let above = &arranged[parent].path;
            path.extend_from_slice(&above[above.len().saturating_sub(MAX_PATH - 1)..]);
        }
        path.push(span.span_id);
        span.root_span_id = place.parent.map_or(span.span_id, |parent| arranged[parent].root_span_id);
        span.depth = i32::try_from(place.depth).unwrap_or(i32::MAX);
        span.span_order = i32::try_from(order).unwrap_or(i32::MAX);
        span.path = path;
        arranged.push(span);
    }
    arranged
}
