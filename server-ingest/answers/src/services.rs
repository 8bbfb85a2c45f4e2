//! Which services there are, and what they do.

use std::collections::HashMap;

use futures::StreamExt;
use scouter_query::{Engine, Selection};
use scouter_storage::columns::Table;
use serde::Serialize;

use crate::columns::Columns;
use crate::error::AnswerError;
use crate::filter::{FILTER_PARAMETERS, SpanFilter};
use crate::groups::Groups;
use crate::json::Decimal;
use crate::parameters::Parameters;
use crate::span::is_error_code;

const MOST_SERVICES: usize = 10_000;
const MOST_OPERATIONS: usize = 10_000;

#[derive(Debug, Serialize)]
struct Services {
    services: Vec<Service>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Service {
    service: String,
    span_count: u64,
    error_count: u64,
    first_seen_unix_nano: Decimal,
    last_seen_unix_nano: Decimal,
}

#[derive(Debug, Serialize)]
struct Operations {
    operations: Vec<Operation>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Operation {
    service: String,
    operation: String,
    kind: String,
    span_count: u64,
    error_count: u64,
    avg_duration_nano: Decimal,
    max_duration_nano: Decimal,
}

#[derive(Debug, Default)]
struct Counts {
    spans: u64,
    errors: u64,
    first: i64,
    last: i64,
    sum: i128,
    max: i64,
}

impl Counts {
    fn add(&mut self, start: i64, duration: i64, is_error: bool) {
        if self.spans == 0 {
            (self.first, self.last, self.max) = (start, start, duration);
        }
        self.spans += 1;
        self.errors += u64::from(is_error);
        self.first = self.first.min(start);
        self.last = self.last.max(start);
        self.sum += i128::from(duration);
        self.max = self.max.max(duration);
    }
}

/// The services with spans in a time range.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn services(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let filter = SpanFilter { from: parameters.moment("start")?, until: parameters.moment("end")?, ..SpanFilter::default() };
    parameters.end(&["start", "end"])?;
    let conditions = filter.conditions();
    let groups = engine
        .ask(move |mut reader| async move {
            let columns = ["service_name", "start_unix_nano", "status_code"];
            let mut rows = reader.rows(Selection::new(Table::Spans, &columns, conditions)).await?;
            let mut groups: Groups<String, Counts> = Groups::default();
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let columns = Columns(&batch);
                let (names, starts, codes) =
                    (columns.words("service_name")?, columns.integers("start_unix_nano")?, columns.codes("status_code")?);
                for row in 0..columns.rows() {
                    let (name, start, is_error) = (names.or_empty(row), starts.value(row), is_error_code(codes.value(row)));
                    match groups.get_mut(name) {
                        Some(counts) => counts.add(start, 0, is_error),
                        None => groups.of(name.to_owned())?.add(start, 0, is_error),
                    }
                }
                reader.hold(groups.grown())?;
            }
            Ok(groups)
        })
        .await?;
    let mut services: Vec<Service> = groups
        .into_iter()
        .map(|(service, counts)| Service {
            service,
            span_count: counts.spans,
            error_count: counts.errors,
            first_seen_unix_nano: Decimal(counts.first),
            last_seen_unix_nano: Decimal(counts.last),
        })
        .collect();
    services.sort_by(|left, right| left.service.cmp(&right.service));
    let truncated = services.len() > MOST_SERVICES;
    services.truncate(MOST_SERVICES);
    Ok(Services { services, truncated })
}

/// The operations of the spans that pass a filter, most frequent first.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn operations(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let filter = SpanFilter::take(&mut parameters)?;
    let limit = parameters.count("limit", 1000, MOST_OPERATIONS)?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["limit"]].concat())?;
    let conditions = filter.conditions();
    let groups = engine
        .ask(move |mut reader| async move {
            let columns = ["service_name", "name", "kind", "start_unix_nano", "duration_nano", "status_code"];
            let mut rows = reader.rows(Selection::new(Table::Spans, &columns, conditions)).await?;
            let mut groups: Groups<(String, String, String), Counts> = Groups::default();
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let columns = Columns(&batch);
                let (services, names, kinds) = (columns.words("service_name")?, columns.words("name")?, columns.words("kind")?);
                let (starts, durations) = (columns.integers("start_unix_nano")?, columns.integers("duration_nano")?);
                let codes = columns.codes("status_code")?;
                // Of each batch first, by borrowed names, which are few.
                let mut of_batch: HashMap<(&str, &str, &str), Counts> = HashMap::new();
                for row in 0..columns.rows() {
                    let key = (services.or_empty(row), names.or_empty(row), kinds.or_empty(row));
                    of_batch.entry(key).or_default().add(starts.value(row), durations.value(row), is_error_code(codes.value(row)));
                }
                for ((service, name, kind), counts) in of_batch {
                    let known = groups.of((service.to_owned(), name.to_owned(), kind.to_owned()))?;
                    known.max = if known.spans == 0 { counts.max } else { known.max.max(counts.max) };
                    known.spans += counts.spans;
                    known.errors += counts.errors;
                    known.sum += counts.sum;
                }
                reader.hold(groups.grown())?;
            }
            Ok(groups)
        })
        .await?;
    let mut operations: Vec<Operation> = groups
        .into_iter()
        .map(|((service, operation, kind), counts)| Operation {
            service,
            operation,
            kind,
            span_count: counts.spans,
            error_count: counts.errors,
            avg_duration_nano: Decimal(i64::try_from(counts.sum / i128::from(counts.spans.max(1))).unwrap_or(0)),
            max_duration_nano: Decimal(counts.max),
        })
        .collect();
    operations.sort_by(|left, right| {
        let names = |of: &Operation| (of.service.clone(), of.operation.clone(), of.kind.clone());
        right.span_count.cmp(&left.span_count).then_with(|| names(left).cmp(&names(right)))
    });
    let truncated = operations.len() > limit;
    operations.truncate(limit);
    Ok(Operations { operations, truncated })
}
