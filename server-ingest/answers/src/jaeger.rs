//! Jaeger's query API over HTTP, as Jaeger UI and Grafana's Jaeger data source use it: parameters in, its JSON model out.
//!
//! Spans become Jaeger's by OpenTelemetry's mapping (<https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger/>): kind, status
//! and scope are tags, resources are processes, events are logs, links are references.

mod model;
mod question;

use std::collections::BTreeSet;

use futures::StreamExt;
use scouter_query::{Condition, Engine, Selection};
use scouter_storage::columns::Table;
use serde::Serialize;

use crate::columns::Columns;
use crate::error::AnswerError;
use crate::filter::SpanFilter;
use crate::graph::graph;
use crate::parameters::Parameters;
use crate::search::{Order, page};
use crate::trace::spans;
pub use model::Answer;
use model::{Dependency, Operation, Trace};
use question::Search;

/// Names of one list.
const MOST_NAMES: usize = 10_000;

/// The names of all services.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn services(engine: &Engine) -> Result<Answer<Vec<String>>, AnswerError> {
    Ok(Answer::of_all(names(engine, "service_name", Vec::new()).await?))
}

/// The names of a service's operations.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn operation_names(engine: &Engine, service: &str) -> Result<Answer<Vec<String>>, AnswerError> {
    let conditions = vec![Condition::OneOf("service_name", vec![service.to_owned()])];
    Ok(Answer::of_all(names(engine, "name", conditions).await?))
}

async fn names(engine: &Engine, column: &'static str, conditions: Vec<Condition>) -> Result<Vec<String>, AnswerError> {
    let names = engine
        .ask(move |mut reader| async move {
            let mut rows = reader.rows(Selection::new(Table::Spans, &[column], conditions)).await?;
            let mut names = BTreeSet::new();
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let columns = Columns(&batch);
                let words = columns.words(column)?;
                for row in 0..columns.rows() {
                    let name = words.or_empty(row);
                    if names.len() < MOST_NAMES && !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            }
            Ok(names)
        })
        .await?;
    Ok(names.into_iter().collect())
}

/// The operations of `service`, of `spanKind` if that is given.
///
/// # Errors
/// `service` is missing.
pub async fn operations(engine: &Engine, mut parameters: Parameters) -> Result<Answer<Vec<impl Serialize + use<>>>, AnswerError> {
    let service = parameters.one("service")?.ok_or_else(question::service_missing)?;
    let kind = parameters.one("spanKind")?.map(|kind| kind.to_lowercase());
    let conditions = vec![Condition::OneOf("service_name", vec![service])];
    let found = engine
        .ask(move |mut reader| async move {
            let mut rows = reader.rows(Selection::new(Table::Spans, &["name", "kind"], conditions)).await?;
            let mut found: BTreeSet<(String, String)> = BTreeSet::new();
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let columns = Columns(&batch);
                let (names, kinds) = (columns.words("name")?, columns.words("kind")?);
                let of_batch: BTreeSet<(&str, &str)> = (0..columns.rows()).map(|row| (names.or_empty(row), kinds.or_empty(row))).collect();
                for (name, kind) in of_batch {
                    if found.len() < MOST_NAMES {
                        found.insert((name.to_owned(), model::span_kind(kind)));
                    }
                }
            }
            Ok(found)
        })
        .await?;
    let wanted = found.into_iter().filter(|(_, of)| kind.as_ref().is_none_or(|kind| kind == of));
    Ok(Answer::of_all(wanted.map(|(name, span_kind)| Operation { name, span_kind }).collect()))
}

/// The traces that a search finds, whole, newest first.
///
/// # Errors
/// A parameter cannot be read, or `service` is missing.
pub async fn search(engine: &Engine, parameters: Parameters) -> Result<Answer<Vec<impl Serialize + use<>>>, AnswerError> {
    let search = Search::read(parameters)?;
    let found = engine
        .ask(move |mut reader| async move {
            let traces = match search {
                Search::Ids(traces) => traces,
                Search::Filter(filter, limit) => {
                    let page = page(&mut reader, &filter.conditions(), Order::Newest, None, limit, |_| true).await?;
                    page.into_iter().map(|(key, _)| key.trace).collect()
                }
            };
            if traces.is_empty() {
                return Ok((traces, Vec::new()));
            }
            let found = spans(&mut reader, vec![Condition::Traces(traces.clone())], true).await?;
            Ok((traces, found))
        })
        .await?;
    Ok(Answer::of_all(model::traces(&found.0, found.1)))
}

/// One trace, as a list of one.
///
/// # Errors
/// There is no such trace.
pub async fn trace(engine: &Engine, id: &str) -> Result<Answer<Vec<Trace>>, AnswerError> {
    let trace = question::trace_id(id)?;
    let found = engine.ask(move |mut reader| async move { spans(&mut reader, vec![Condition::Traces(vec![trace])], true).await }).await?;
    let traces = model::traces(&[trace], found);
    if traces.is_empty() {
        return Err(AnswerError::NotFound { what: "trace", name: id.to_owned() });
    }
    Ok(Answer::of_all(traces))
}

/// Which service calls which, in the `lookback` milliseconds before `endTs`.
///
/// # Errors
/// A parameter cannot be read.
pub async fn dependencies(engine: &Engine, mut parameters: Parameters) -> Result<Answer<Vec<impl Serialize + use<>>>, AnswerError> {
    let (start, end) = question::lookback(&mut parameters)?;
    let graph = engine.ask(move |mut reader| async move { graph(&mut reader, start, end).await }).await?;
    let mut edges: Vec<Dependency> = graph
        .edges
        .into_iter()
        .map(|((parent, child), edge)| Dependency { parent, child, call_count: edge.calls * graph.sampled_one_in })
        .collect();
    edges.sort_by(|left, right| (&left.parent, &left.child).cmp(&(&right.parent, &right.child)));
    Ok(Answer::of_all(edges))
}

/// A filter with a service.
fn of_service(service: String) -> SpanFilter {
    SpanFilter { services: vec![service], ..SpanFilter::default() }
}
