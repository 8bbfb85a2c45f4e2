//! Traces that have a span which passes a filter, page by page.
//!
//! A trace's place in the order is a number and its id: the start of its first span that passes, or the duration of its longest; of equal
//! numbers the smaller id comes first. Spans are read in that order; each trace that is met is looked up whole, which gives its exact
//! place and all that is shown of it. A trace is final once the reading is past its place: everything that may come later is behind it.
//! So a page is exact without grouping the whole table, however many numbers are equal, and the next one begins with a comparison.

mod summary;

use std::cmp::Reverse;
use std::collections::HashSet;

use futures::StreamExt;
use scouter_query::{Condition, Direction, Engine, QueryError, Reader, Selection, hex_text};
use scouter_storage::columns::Table;
use serde::Serialize;

use crate::columns::{Columns, id};
use crate::error::AnswerError;
use crate::filter::{FILTER_PARAMETERS, SpanFilter, trace_id};
use crate::parameters::Parameters;
pub(crate) use summary::{Summary, summaries};

/// Traces on one page.
const MOST_TRACES: usize = 200;

/// Spans that are read at first, for each trace wanted.
const SPANS_PER_TRACE: usize = 6;
/// Spans that are read at once, at most.
const MOST_SPANS: usize = 1 << 16;
/// Traces that are looked up at once.
const LOOKUP: usize = 64;
/// Traces that a reading leaves out because they are known already. A longer list costs more than reading them again.
const MOST_LEFT_OUT: usize = 2000;
/// What the id of a trace that was met takes, about.
const BYTES_PER_MET: usize = 40;

/// By what traces are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The start of the first span that passes, latest first.
    Newest,
    /// The duration of the longest span that passes, longest first.
    Slowest,
}

impl Order {
    fn column(self) -> &'static str {
        match self {
            Self::Newest => "start_unix_nano",
            Self::Slowest => "duration_nano",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Newest => 'n',
            Self::Slowest => 's',
        }
    }
}

/// A place in the order: larger numbers come first, of equal ones the smaller id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) number: i64,
    pub(crate) trace: [u8; 16],
}

impl Key {
    fn rank(self) -> (Reverse<i64>, [u8; 16]) {
        (Reverse(self.number), self.trace)
    }
}

#[derive(Debug, Serialize)]
struct Page {
    traces: Vec<Summary>,
    next_cursor: Option<String>,
}

/// A page of traces.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn search(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let fingerprint = parameters.fingerprint();
    let filter = SpanFilter::take(&mut parameters)?;
    let order = match parameters.one("sort")?.as_deref() {
        None | Some("newest") => Order::Newest,
        Some("slowest") => Order::Slowest,
        Some(other) => return Err(AnswerError::parameter(format!("sort is not one: {other:?}"), "write newest or slowest")),
    };
    let limit = parameters.count("limit", 50, MOST_TRACES)?;
    let after = parameters.one("cursor")?.map(|text| read_cursor(&text, order, fingerprint)).transpose()?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["sort", "limit", "cursor"]].concat())?;
    let conditions = filter.conditions();
    let found =
        engine.ask(move |mut reader| async move { page(&mut reader, &conditions, order, after, limit + 1, |_| true).await }).await?;
    let next_cursor = (found.len() > limit).then(|| cursor(order, found[limit - 1].0, fingerprint));
    Ok(Page { traces: found.into_iter().take(limit).map(|(_, summary)| summary).collect(), next_cursor })
}

fn cursor(order: Order, key: Key, fingerprint: u64) -> String {
    format!("{}{}.{}.{fingerprint:016x}", order.letter(), key.number, hex_text(&key.trace))
}

fn read_cursor(text: &str, order: Order, fingerprint: u64) -> Result<Key, AnswerError> {
    let refusal = || {
        AnswerError::parameter(
            "cursor is not of this question",
            "take next_cursor of the page before, with the same filter and sort, or begin without one",
        )
    };
    let read = || {
        let mut parts = text.strip_prefix(order.letter())?.split('.');
        let key = Key { number: parts.next()?.parse().ok()?, trace: trace_id(parts.next()?)? };
        let of = u64::from_str_radix(parts.next()?, 16).ok()?;
        (of == fingerprint && parts.next().is_none()).then_some(key)
    };
    read().ok_or_else(refusal)
}

/// The first `wanted` traces behind `after`, in order.
pub(crate) async fn page(
    reader: &mut Reader,
    conditions: &[Condition],
    order: Order,
    after: Option<Key>,
    wanted: usize,
    accepts: impl Fn(&Summary) -> bool + Send,
) -> Result<Vec<(Key, Summary)>, QueryError> {
    // Traces of equal spans that are behind this have a place behind it, and so have all others that are not met yet.
    let mut bound = after;
    let mut batch_spans = (wanted * SPANS_PER_TRACE).max(256);
    // Every trace that was met; those that are on the page or may come onto it.
    let mut met: HashSet<[u8; 16]> = HashSet::new();
    let mut found: Vec<(Key, Summary)> = Vec::new();
    loop {
        let mut narrowed = conditions.to_vec();
        narrowed.extend(bound.map(|key| Condition::Behind { column: order.column(), value: key.number, trace: key.trace }));
        if !met.is_empty() && met.len() <= MOST_LEFT_OUT {
            narrowed.push(Condition::OtherTraces(met.iter().copied().collect()));
        }
        let spans = first(reader, narrowed, order, Reading::InOrder, batch_spans).await?;
        let is_end = spans.len() < batch_spans;
        let mut new: Vec<[u8; 16]> = Vec::new();
        let (mut at, mut is_enough) = (0, false);
        while at < spans.len() && !is_enough {
            // As many traces as can be looked up at once, and the place of the last of their spans.
            let mut reached = spans[at];
            while at < spans.len() && new.len() < LOOKUP.min(wanted + 8) {
                reached = spans[at];
                if met.insert(reached.trace) {
                    new.push(reached.trace);
                }
                at += 1;
            }
            reader.hold(new.len() * BYTES_PER_MET)?;
            for (trace, summary) in summaries(reader, &new, conditions).await? {
                let Some(number) = summary.number(order) else { continue };
                let key = Key { number, trace };
                if accepts(&summary) && after.is_none_or(|after| key.rank() > after.rank()) {
                    reader.hold(summary.bytes())?;
                    found.push((key, summary));
                }
            }
            new.clear();
            is_enough = found.iter().filter(|(key, _)| key.rank() <= reached.rank()).count() >= wanted;
        }
        if is_enough || is_end {
            break;
        }
        bound = spans.last().copied();
        batch_spans = (batch_spans * 2).min(MOST_SPANS);
    }
    found.sort_by_key(|(key, _)| key.rank());
    found.truncate(wanted);
    Ok(found)
}

/// The last `wanted` of the newest traces that stand before `before`, in order.
///
/// Spans are read against the order, from `before` on: by their start, the earliest first, of equal starts the largest id first. A trace on
/// the page is met at its first span that passes, so traces are met in the order of their places, and the first that are met are nearest.
pub(crate) async fn page_before(
    reader: &mut Reader,
    conditions: &[Condition],
    before: Key,
    wanted: usize,
    accepts: impl Fn(&Summary) -> bool + Send,
) -> Result<Vec<(Key, Summary)>, QueryError> {
    let order = Order::Newest;
    let (mut bound, mut batch_spans) = (before, (wanted * SPANS_PER_TRACE).max(256));
    let mut met: HashSet<[u8; 16]> = HashSet::new();
    let mut found: Vec<(Key, Summary)> = Vec::new();
    loop {
        let mut narrowed = conditions.to_vec();
        narrowed.push(Condition::Ahead { column: order.column(), value: bound.number, trace: bound.trace });
        if !met.is_empty() && met.len() <= MOST_LEFT_OUT {
            narrowed.push(Condition::OtherTraces(met.iter().copied().collect()));
        }
        let spans = first(reader, narrowed, order, Reading::AgainstOrder, batch_spans).await?;
        let mut at = 0;
        while at < spans.len() && found.len() < wanted {
            let mut new = Vec::new();
            while at < spans.len() && new.len() < LOOKUP.min(wanted + 8) {
                if met.insert(spans[at].trace) {
                    new.push(spans[at].trace);
                }
                at += 1;
            }
            reader.hold(new.len() * BYTES_PER_MET)?;
            for (trace, summary) in summaries(reader, &new, conditions).await? {
                let Some(number) = summary.number(order) else { continue };
                let key = Key { number, trace };
                if accepts(&summary) && key.rank() < before.rank() {
                    reader.hold(summary.bytes())?;
                    found.push((key, summary));
                }
            }
        }
        if found.len() >= wanted || spans.len() < batch_spans {
            break;
        }
        bound = spans.last().copied().unwrap_or(bound);
        batch_spans = (batch_spans * 2).min(MOST_SPANS);
    }
    found.sort_by_key(|(key, _)| key.rank());
    Ok(found.split_off(found.len().saturating_sub(wanted)))
}

/// Which way the spans are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    InOrder,
    AgainstOrder,
}

/// The places of the first spans.
async fn first(
    reader: &mut Reader,
    conditions: Vec<Condition>,
    order: Order,
    reading: Reading,
    limit: usize,
) -> Result<Vec<Key>, QueryError> {
    let columns = ["trace_id", order.column()];
    let (numbers, ids) = match reading {
        Reading::InOrder => (Direction::LargestFirst, Direction::SmallestFirst),
        Reading::AgainstOrder => (Direction::SmallestFirst, Direction::LargestFirst),
    };
    let selection = Selection::new(Table::Spans, &columns, conditions).first(order.column(), numbers, limit).then("trace_id", ids);
    let mut rows = reader.rows(selection).await?;
    let mut spans = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let columns = Columns(&batch);
        let (ids, numbers) = (columns.bytes("trace_id")?, columns.integers(order.column())?);
        spans.extend((0..columns.rows()).filter_map(|row| Some(Key { trace: id(&ids, row)?, number: numbers.value(row) })));
    }
    Ok(spans)
}
