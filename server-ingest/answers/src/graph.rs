//! Which service calls which: an edge is a span whose parent ran in another service.
//!
//! Parent and child may lie in any two files, so the spans of the range are kept while they are read, by their ids. When they become too
//! many, half of the traces are left out, chosen by their ids, which are random; so the graph becomes one of a sample, its counts scaled, and
//! memory stays bounded.

use std::collections::HashMap;

use futures::StreamExt;
use scouter_query::{Engine, QueryError, Reader, Selection};
use scouter_storage::columns::Table;
use serde::Serialize;

use crate::columns::{Columns, id};
use crate::durations::Durations;
use crate::error::AnswerError;
use crate::filter::SpanFilter;
use crate::groups::{ENTRY_BYTES, Growth};
use crate::json::Decimal;
use crate::parameters::Parameters;
use crate::span::is_error_code;

/// Spans that are kept at once. Each takes some 100 bytes.
const MOST_SPANS: usize = 1 << 20;
const BYTES_PER_SPAN: usize = 100;
/// Spans for which memory is taken at once.
const HELD_SPANS: usize = 1 << 14;

/// How far back without a start.
const DEFAULT_RANGE_NANO: i64 = 3_600_000_000_000;

#[derive(Debug, Serialize)]
struct Answer {
    start_unix_nano: Decimal,
    end_unix_nano: Decimal,
    sampled_one_in: u64,
    nodes: Vec<NodeAnswer>,
    edges: Vec<EdgeAnswer>,
}

#[derive(Debug, Serialize)]
struct NodeAnswer {
    service: String,
    span_count: u64,
    error_count: u64,
    entry_count: u64,
}

#[derive(Debug, Serialize)]
struct EdgeAnswer {
    caller: String,
    callee: String,
    call_count: u64,
    error_count: u64,
    p50_nano: Decimal,
    p95_nano: Decimal,
    p99_nano: Decimal,
}

/// A graph of services.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// One of so many traces was looked at.
    pub(crate) sampled_one_in: u64,
    nodes: HashMap<String, Node>,
    /// By caller and callee.
    pub(crate) edges: HashMap<(String, String), Edge>,
}

#[derive(Debug, Default)]
struct Node {
    spans: u64,
    errors: u64,
    entries: u64,
}

/// The calls of one service by another.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    pub(crate) calls: u64,
    errors: u64,
    durations: Durations,
}

struct Kept {
    parent: Option<[u8; 8]>,
    service: u32,
    is_error: bool,
    duration: i64,
}

/// Who calls whom.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn service_graph(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let (from, until) = (parameters.moment("start")?, parameters.moment("end")?);
    let services = parameters.all("service");
    parameters.end(&["start", "end", "service"])?;
    let (range, graph) = engine
        .ask(move |mut reader| async move {
            let bounds = if from.is_some() && until.is_some() { None } else { reader.time_bounds(Table::Spans).await? };
            let end = until.or(bounds.map(|(_, last)| last.saturating_add(1))).unwrap_or(0);
            let start = from.unwrap_or(end.saturating_sub(DEFAULT_RANGE_NANO));
            Ok(((start, end), graph(&mut reader, start, end).await?))
        })
        .await?;
    let is_wanted = |service: &String| services.is_empty() || services.contains(service);
    let scale = graph.sampled_one_in;
    let mut edges: Vec<EdgeAnswer> = graph
        .edges
        .into_iter()
        .filter(|((caller, callee), _)| is_wanted(caller) || is_wanted(callee))
        .map(|((caller, callee), edge)| EdgeAnswer {
            caller,
            callee,
            call_count: edge.calls * scale,
            error_count: edge.errors * scale,
            p50_nano: Decimal(edge.durations.percentile(0.5)),
            p95_nano: Decimal(edge.durations.percentile(0.95)),
            p99_nano: Decimal(edge.durations.percentile(0.99)),
        })
        .collect();
    edges.sort_by(|left, right| (&left.caller, &left.callee).cmp(&(&right.caller, &right.callee)));
    let is_shown = |service: &String| is_wanted(service) || edges.iter().any(|edge| edge.caller == *service || edge.callee == *service);
    let mut nodes: Vec<NodeAnswer> = graph
        .nodes
        .into_iter()
        .filter(|(service, _)| is_shown(service))
        .map(|(service, node)| NodeAnswer {
            service,
            span_count: node.spans * scale,
            error_count: node.errors * scale,
            entry_count: node.entries * scale,
        })
        .collect();
    nodes.sort_by(|left, right| left.service.cmp(&right.service));
    Ok(Answer { start_unix_nano: Decimal(range.0), end_unix_nano: Decimal(range.1), sampled_one_in: scale, nodes, edges })
}

/// The graph of the spans that started in a time range.
pub(crate) async fn graph(reader: &mut Reader, start: i64, end: i64) -> Result<Graph, QueryError> {
    let filter = SpanFilter { from: Some(start), until: Some(end), ..SpanFilter::default() };
    let columns = ["trace_id", "span_id", "parent_span_id", "service_name", "status_code", "duration_nano"];
    let mut rows = reader.rows(Selection::new(Table::Spans, &columns, filter.conditions())).await?;
    let mut sample = Sample { one_in: 1, spans: HashMap::new(), held: 0 };
    let (mut services, mut numbers): (Vec<String>, HashMap<String, u32>) = (Vec::new(), HashMap::new());
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let columns = Columns(&batch);
        let (traces, ids, parents) = (columns.bytes("trace_id")?, columns.bytes("span_id")?, columns.bytes("parent_span_id")?);
        let (names, codes, durations) = (columns.words("service_name")?, columns.codes("status_code")?, columns.integers("duration_nano")?);
        for row in 0..columns.rows() {
            let (Some(trace), Some(span)) = (id::<16>(&traces, row), id::<8>(&ids, row)) else { continue };
            if !sample.has(&trace) {
                continue;
            }
            let name = names.or_empty(row);
            let service = match numbers.get(name) {
                Some(number) => *number,
                None => {
                    let number = u32::try_from(services.len()).unwrap_or(u32::MAX);
                    services.push(name.to_owned());
                    numbers.insert(name.to_owned(), number);
                    reader.hold(2 * (name.len() + size_of::<String>()) + ENTRY_BYTES)?;
                    number
                }
            };
            let kept = Kept {
                parent: id::<8>(&parents, row).filter(|parent| *parent != [0; 8]),
                service,
                is_error: is_error_code(codes.value(row)),
                duration: durations.value(row),
            };
            sample.keep(reader, trace, span, kept)?;
        }
    }
    sample.graph(reader, &services)
}

/// The spans of some of the traces.
struct Sample {
    one_in: u64,
    spans: HashMap<([u8; 16], [u8; 8]), Kept>,
    /// Spans for which memory was taken.
    held: usize,
}

impl Sample {
    /// Whether the trace is looked at: by the last bytes of its id, which are the random ones in every generator.
    fn has(&self, trace: &[u8; 16]) -> bool {
        let [.., a, b, c, d] = *trace;
        let mixed = u64::from(u32::from_be_bytes([a, b, c, d])).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed.is_multiple_of(self.one_in)
    }

    fn keep(&mut self, reader: &Reader, trace: [u8; 16], span: [u8; 8], kept: Kept) -> Result<(), QueryError> {
        self.spans.entry((trace, span)).or_insert(kept);
        if self.spans.len() > self.held {
            reader.hold(HELD_SPANS * BYTES_PER_SPAN)?;
            self.held += HELD_SPANS;
        }
        if self.spans.len() > MOST_SPANS {
            self.one_in *= 2;
            let mut spans = std::mem::take(&mut self.spans);
            spans.retain(|(trace, _), _| self.has(trace));
            self.spans = spans;
        }
        Ok(())
    }

    fn graph(self, reader: &Reader, services: &[String]) -> Result<Graph, QueryError> {
        let mut growth = Growth::default();
        let mut graph = Graph { sampled_one_in: self.one_in, ..Graph::default() };
        let name = |number: u32| services.get(number as usize).cloned().unwrap_or_default();
        let mut nodes: HashMap<u32, Node> = HashMap::new();
        let mut edges: HashMap<(u32, u32), Edge> = HashMap::new();
        for ((trace, _), kept) in &self.spans {
            let caller = kept.parent.and_then(|parent| self.spans.get(&(*trace, parent))).map(|parent| parent.service);
            let node = nodes.entry(kept.service).or_default();
            node.spans += 1;
            node.errors += u64::from(kept.is_error);
            node.entries += u64::from(caller != Some(kept.service));
            if let Some(caller) = caller.filter(|caller| *caller != kept.service) {
                let edge = edges.entry((caller, kept.service)).or_default();
                let of_edge = if edge.calls == 0 { 2 * (size_of::<((String, String), Edge)>() + ENTRY_BYTES) } else { 0 };
                edge.calls += 1;
                edge.errors += u64::from(kept.is_error);
                growth.add(reader, of_edge + edge.durations.add(kept.duration))?;
            }
        }
        graph.nodes = nodes.into_iter().map(|(service, node)| (name(service), node)).collect();
        graph.edges = edges.into_iter().map(|((caller, callee), edge)| ((name(caller), name(callee)), edge)).collect();
        growth.settle(reader)?;
        Ok(graph)
    }
}
