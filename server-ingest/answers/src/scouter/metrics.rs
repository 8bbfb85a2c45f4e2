//! Scouter's trace metrics: how many traces began in a bucket, how long they took, how many failed.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Datelike, TimeZone, Utc};
use futures::StreamExt;
use scouter_query::{Condition, Engine, QueryError, Reader, Selection, micros_text};
use scouter_storage::columns::Table;
use serde::{Deserialize, Serialize};

use super::filters::{attribute_filters, time};
use crate::columns::{Columns, id};
use crate::durations::Durations;
use crate::error::AnswerError;
use crate::filter::SpanFilter;
use crate::groups::{ENTRY_BYTES, Growth};
use crate::span::{end, is_error_code};
use crate::trace::traces_with;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 1970 began on a Thursday; weeks begin on Mondays.
const MONDAY: i64 = 4 * DAY;
const MOST_BUCKETS: usize = 10_000;
/// What a trace takes while it is put together.
const BYTES_PER_TRACE: usize = size_of::<([u8; 16], Whole)>() + ENTRY_BYTES;

/// The body of `POST /scouter/trace/metrics`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "Scouter's names say it")]
pub struct TraceMetricsQuestion {
    pub start_time: String,
    pub end_time: String,
    #[serde(default = "hour")]
    pub bucket_interval: String,
    pub service_name: Option<String>,
    pub attribute_filters: Option<Vec<String>>,
    pub entity_uid: Option<String>,
}

fn hour() -> String {
    "hour".to_owned()
}

#[derive(Debug, Serialize)]
struct Metrics {
    metrics: Vec<Bucket>,
}

#[derive(Debug, Serialize)]
struct Bucket {
    bucket_start: String,
    trace_count: u64,
    avg_duration_ms: f64,
    p50_duration_ms: Option<f64>,
    p95_duration_ms: Option<f64>,
    p99_duration_ms: Option<f64>,
    error_rate: f64,
}

/// Where buckets begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interval {
    Nanos { length: i64, origin: i64 },
    Months(i32),
}

impl Interval {
    /// `hour`, `5 minutes`, `1 week`: a number, 1 if it is left out, and a unit with or without its plural.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (first, second) = (words.next()?, words.next());
        let (count, unit) = match second {
            Some(unit) => (first.parse::<i64>().ok()?, unit),
            None => (1, first),
        };
        if words.next().is_some() || count < 1 {
            return None;
        }
        let unit = unit.to_lowercase();
        let nanos = |length: i64, origin| count.checked_mul(length).map(|length| Self::Nanos { length, origin });
        match unit.strip_suffix('s').unwrap_or(&unit) {
            "second" => nanos(SECOND, 0),
            "minute" => nanos(60 * SECOND, 0),
            "hour" => nanos(3600 * SECOND, 0),
            "day" => nanos(DAY, 0),
            "week" => nanos(7 * DAY, MONDAY),
            "month" => i32::try_from(count).ok().map(Self::Months),
            "year" => i32::try_from(count.checked_mul(12)?).ok().map(Self::Months),
            _ => None,
        }
    }

    pub(super) fn start_of(self, moment: i64) -> i64 {
        match self {
            Self::Nanos { length, origin } => {
                moment.saturating_sub(origin).div_euclid(length).saturating_mul(length).saturating_add(origin)
            }
            Self::Months(count) => {
                let date = DateTime::<Utc>::from_timestamp_nanos(moment);
                let months = (date.year() * 12 + date.month0() as i32).div_euclid(count) * count;
                let start = Utc.with_ymd_and_hms(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1, 0, 0, 0).single();
                start.and_then(|start| start.timestamp_nanos_opt()).unwrap_or(moment)
            }
        }
    }
}

pub(super) fn interval(text: &str) -> Result<Interval, AnswerError> {
    Interval::read(text).ok_or_else(|| {
        AnswerError::parameter(
            format!("bucket_interval is not one: {text:?}"),
            "write a number and second, minute, hour, day, week, month or year, such as 5 minutes",
        )
    })
}

struct Whole {
    start: i64,
    end: i64,
    is_error: bool,
}

#[derive(Default)]
struct Tally {
    traces: u64,
    errors: u64,
    sum: i128,
    durations: Durations,
}

/// `POST /scouter/trace/metrics`.
///
/// # Errors
/// A time or an interval cannot be read.
pub async fn trace_metrics(engine: &Engine, question: TraceMetricsQuestion) -> Result<impl Serialize + use<>, AnswerError> {
    let range = SpanFilter {
        from: Some(time("start_time", &question.start_time)?),
        until: Some(time("end_time", &question.end_time)?),
        ..SpanFilter::default()
    };
    let interval = interval(&question.bucket_interval)?;
    let narrowed = SpanFilter {
        services: question.service_name.into_iter().collect(),
        entities: question.entity_uid.into_iter().collect(),
        ..range.clone()
    };
    let attributes = attribute_filters(question.attribute_filters.as_deref().unwrap_or_default())?;
    let is_narrowed = !narrowed.services.is_empty() || !narrowed.entities.is_empty() || attributes.is_some();
    let mut narrowed = narrowed.conditions();
    narrowed.extend(attributes);
    let buckets = engine
        .ask(move |mut reader| async move {
            let of = if is_narrowed { Some(traces_with(&mut reader, narrowed).await?) } else { None };
            let traces = whole_traces(&mut reader, range.conditions(), of.as_ref()).await?;
            let mut buckets: BTreeMap<i64, Tally> = BTreeMap::new();
            let mut growth = Growth::default();
            for whole in traces.into_values() {
                let start = interval.start_of(whole.start);
                if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&start) {
                    return Err(QueryError::TooManyRows { limit: MOST_BUCKETS });
                }
                let tally = buckets.entry(start).or_default();
                let of_bucket = if tally.traces == 0 { size_of::<(i64, Tally)>() + ENTRY_BYTES } else { 0 };
                tally.traces += 1;
                tally.errors += u64::from(whole.is_error);
                let duration = whole.end.saturating_sub(whole.start);
                tally.sum += i128::from(duration);
                growth.add(&reader, of_bucket + tally.durations.add(duration))?;
            }
            growth.settle(&reader)?;
            Ok(buckets)
        })
        .await?;
    let millis = |nanos: i64| nanos as f64 / 1e6;
    let metrics = buckets
        .into_iter()
        .map(|(start, tally)| Bucket {
            bucket_start: micros_text(start.div_euclid(1000)),
            trace_count: tally.traces,
            avg_duration_ms: tally.sum as f64 / tally.traces as f64 / 1e6,
            p50_duration_ms: Some(millis(tally.durations.percentile(0.5))),
            p95_duration_ms: Some(millis(tally.durations.percentile(0.95))),
            p99_duration_ms: Some(millis(tally.durations.percentile(0.99))),
            error_rate: tally.errors as f64 / tally.traces as f64,
        })
        .collect();
    Ok(Metrics { metrics })
}

async fn whole_traces(
    reader: &mut Reader,
    conditions: Vec<Condition>,
    of: Option<&HashSet<[u8; 16]>>,
) -> Result<HashMap<[u8; 16], Whole>, QueryError> {
    let columns = ["trace_id", "start_unix_nano", "duration_nano", "status_code"];
    let mut rows = reader.rows(Selection::new(Table::Spans, &columns, conditions)).await?;
    let mut traces: HashMap<[u8; 16], Whole> = HashMap::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let before = traces.len();
        let columns = Columns(&batch);
        let ids = columns.bytes("trace_id")?;
        let (starts, durations, codes) =
            (columns.integers("start_unix_nano")?, columns.integers("duration_nano")?, columns.codes("status_code")?);
        for row in 0..columns.rows() {
            let Some(trace) = id::<16>(&ids, row).filter(|trace| of.is_none_or(|of| of.contains(trace))) else { continue };
            let (start, end) = (starts.value(row), end(starts.value(row), durations.value(row)));
            let whole = traces.entry(trace).or_insert(Whole { start, end, is_error: false });
            whole.start = whole.start.min(start);
            whole.end = whole.end.max(end);
            whole.is_error |= is_error_code(codes.value(row));
        }
        reader.hold((traces.len() - before) * BYTES_PER_TRACE)?;
    }
    Ok(traces)
}

#[cfg(test)]
mod tests;
