//! Spans over time: counts, errors and percentiles in buckets, also by group.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::StreamExt;
use scouter_query::{Engine, QueryError, Reader, Selection};
use scouter_storage::columns::{Table, promoted_column};
use serde::Serialize;

use crate::columns::{Columns, Words};
use crate::durations::Durations;
use crate::error::AnswerError;
use crate::filter::{FILTER_PARAMETERS, SpanFilter, State};
use crate::groups::{ENTRY_BYTES, Groups, Growth};
use crate::json::Decimal;
use crate::parameters::Parameters;
use crate::span::is_error_code;

const MILLI: i64 = 1_000_000;
const SECOND: i64 = 1000 * MILLI;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Lengths of buckets that a person reads easily.
const ROUND: [i64; 27] = [
    MILLI,
    2 * MILLI,
    5 * MILLI,
    10 * MILLI,
    20 * MILLI,
    50 * MILLI,
    100 * MILLI,
    200 * MILLI,
    500 * MILLI,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
];

/// Buckets where nobody says how long they are to be.
const WANTED_BUCKETS: i64 = 60;
const MOST_BUCKETS: i64 = 2000;
const MOST_GROUPS: usize = 50;

/// A time range cut into buckets of one length. Buckets begin at multiples of their length since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) length: i64,
}

impl Buckets {
    /// Buckets of `length`, or of a round one, over the times that a question names, else over those of `table`.
    pub(crate) async fn over(
        reader: &mut Reader,
        table: Table,
        range: (Option<i64>, Option<i64>),
        length: Option<i64>,
    ) -> Result<Self, QueryError> {
        let (from, until) = range;
        let bounds = if from.is_some() && until.is_some() { None } else { reader.time_bounds(table).await? };
        let start = from.or(bounds.map(|(first, _)| first)).or(until).unwrap_or(0);
        let end = until.or(bounds.map(|(_, last)| last.saturating_add(1))).unwrap_or(start).max(start);
        let span = end.saturating_sub(start).max(1);
        let length = length.unwrap_or_else(|| {
            let smallest = span / WANTED_BUCKETS;
            ROUND.into_iter().find(|length| *length >= smallest).unwrap_or_else(|| (smallest / DAY + 1) * DAY)
        });
        Ok(Self { start, end, length })
    }

    /// Whether there are too many of them to be drawn.
    pub(crate) fn check(self) -> Result<Self, QueryError> {
        if self.end.saturating_sub(self.start) / self.length > MOST_BUCKETS {
            return Err(QueryError::TooManyRows { limit: usize::try_from(MOST_BUCKETS).unwrap_or(usize::MAX) });
        }
        Ok(self)
    }

    /// The start of the bucket that a moment is in.
    pub(crate) fn of(self, moment: i64) -> i64 {
        moment.div_euclid(self.length).saturating_mul(self.length)
    }
}

/// Takes the length of buckets from the parameters.
pub(crate) fn bucket_length(parameters: &mut Parameters) -> Result<Option<i64>, AnswerError> {
    match parameters.duration("bucket")? {
        Some(length) if length < MILLI => Err(AnswerError::parameter("bucket is shorter than 1ms", "write a longer one, such as 1s")),
        length => Ok(length),
    }
}

#[derive(Debug, Serialize)]
struct Series {
    start_unix_nano: Decimal,
    end_unix_nano: Decimal,
    bucket_nano: Decimal,
    groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    group: Option<String>,
    is_rest: bool,
    total: Numbers,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    start_unix_nano: Decimal,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Debug, Serialize)]
struct Numbers {
    count: u64,
    error_count: u64,
    p50_nano: Decimal,
    p95_nano: Decimal,
    p99_nano: Decimal,
    max_nano: Decimal,
}

/// What is counted in a bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) errors: u64,
    pub(crate) durations: Durations,
}

impl Tally {
    /// Tells by how many bytes it grew.
    pub(crate) fn add(&mut self, duration: i64, is_error: bool) -> usize {
        self.count += 1;
        self.errors += u64::from(is_error);
        self.durations.add(duration)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.durations.merge(&other.durations);
    }

    pub(crate) fn percentile(&self, share: f64) -> Decimal {
        Decimal(self.durations.percentile(share))
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            count: self.count,
            error_count: self.errors,
            p50_nano: self.percentile(0.5),
            p95_nano: self.percentile(0.95),
            p99_nano: self.percentile(0.99),
            max_nano: Decimal(self.durations.max()),
        }
    }
}

/// By what spans are grouped.
#[derive(Debug, Clone, Copy)]
enum By {
    Nothing,
    Text(&'static str),
    Integer(&'static str),
    Status,
}

impl By {
    fn read(name: &str) -> Option<Self> {
        let column = match name {
            "service" => return Some(Self::Text("service_name")),
            "operation" => return Some(Self::Text("name")),
            "kind" => return Some(Self::Text("kind")),
            "status" => return Some(Self::Status),
            key => promoted_column(key)?,
        };
        let is_integer = Table::Spans.schema().field_with_name(column).is_ok_and(|field| field.data_type().is_integer());
        Some(if is_integer { Self::Integer(column) } else { Self::Text(column) })
    }

    fn column(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Status => None,
            Self::Text(column) | Self::Integer(column) => Some(column),
        }
    }
}

/// The groups of the rows of a batch.
enum Labels<'a> {
    None,
    Words(Words<'a>),
    Owned(Vec<Option<String>>),
}

impl Labels<'_> {
    fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Words(words) => words.get(row),
            Self::Owned(labels) => labels[row].as_deref(),
        }
    }
}

type ByLabel = Groups<Option<String>, BTreeMap<i64, Tally>>;

/// Counts, errors and percentiles of the spans that pass a filter, in buckets of time.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn series(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let filter = SpanFilter::take(&mut parameters)?;
    let length = bucket_length(&mut parameters)?;
    let by = match parameters.one("by")? {
        None => By::Nothing,
        Some(name) => By::read(&name).ok_or_else(|| {
            AnswerError::parameter(
                format!("by is not one: {name:?}"),
                "write service, operation, kind, status, or an attribute that has a column, such as gen_ai.request.model",
            )
        })?,
    };
    let limit = parameters.count("limit", 10, MOST_GROUPS)?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["bucket", "by", "limit"]].concat())?;
    let conditions = filter.conditions();
    let (buckets, groups) = engine
        .ask(move |mut reader| async move {
            let buckets = Buckets::over(&mut reader, Table::Spans, (filter.from, filter.until), length).await?.check()?;
            let mut columns = vec!["start_unix_nano", "duration_nano", "status_code"];
            columns.extend(by.column());
            let rows = reader.rows(Selection::new(Table::Spans, &columns, conditions)).await?;
            let groups = fold(&reader, rows, buckets, by).await?;
            Ok((buckets, groups))
        })
        .await?;
    Ok(Series {
        start_unix_nano: Decimal(buckets.start),
        end_unix_nano: Decimal(buckets.end),
        bucket_nano: Decimal(buckets.length),
        groups: finish(groups, limit),
    })
}

async fn fold(reader: &Reader, mut rows: scouter_query::Rows, buckets: Buckets, by: By) -> Result<ByLabel, QueryError> {
    let (mut groups, mut growth) = (ByLabel::default(), Growth::default());
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let columns = Columns(&batch);
        let (starts, durations) = (columns.integers("start_unix_nano")?, columns.integers("duration_nano")?);
        let codes = columns.codes("status_code")?;
        let labels = match by {
            By::Nothing => Labels::None,
            By::Text(column) => Labels::Words(columns.words(column)?),
            By::Integer(column) => {
                let numbers = columns.get(column)?.as_primitive::<Int64Type>();
                Labels::Owned(numbers.iter().map(|number| number.map(|number| number.to_string())).collect())
            }
            By::Status => Labels::Owned(codes.iter().map(|code| code.map(|code| State::of(code).name().to_owned())).collect()),
        };
        let mut row = 0;
        while row < columns.rows() {
            // Rows of a file are sorted: neighbours are mostly of one group.
            let label = labels.get(row);
            let first = row;
            while row < columns.rows() && labels.get(row) == label {
                row += 1;
            }
            let label = label.map(str::to_owned);
            let tallies = groups.of(label)?;
            let mut grown = 0;
            for row in first..row {
                let tally = tallies.entry(buckets.of(starts.value(row))).or_default();
                grown += if tally.count == 0 { size_of::<(i64, Tally)>() + ENTRY_BYTES } else { 0 };
                grown += tally.add(durations.value(row), is_error_code(codes.value(row)));
            }
            growth.add(reader, grown + groups.grown())?;
        }
    }
    growth.settle(reader)?;
    Ok(groups)
}

/// The largest groups, and the rest as one.
fn finish(groups: ByLabel, limit: usize) -> Vec<Group> {
    let mut groups: Vec<(Option<String>, BTreeMap<i64, Tally>)> = groups.into_iter().collect();
    let count = |tallies: &BTreeMap<i64, Tally>| tallies.values().map(|tally| tally.count).sum::<u64>();
    groups.sort_by(|left, right| count(&right.1).cmp(&count(&left.1)).then_with(|| left.0.cmp(&right.0)));
    let rest = groups.split_off(limit.min(groups.len()));
    let mut finished: Vec<Group> = groups.into_iter().map(|(label, tallies)| finished(label, false, &tallies)).collect();
    if !rest.is_empty() {
        let mut together: BTreeMap<i64, Tally> = BTreeMap::new();
        for (start, tally) in rest.into_iter().flat_map(|(_, tallies)| tallies) {
            together.entry(start).or_default().merge(&tally);
        }
        finished.push(self::finished(None, true, &together));
    }
    finished
}

fn finished(group: Option<String>, is_rest: bool, tallies: &BTreeMap<i64, Tally>) -> Group {
    let mut total = Tally::default();
    tallies.values().for_each(|tally| total.merge(tally));
    let points = tallies.iter().map(|(start, tally)| Point { start_unix_nano: Decimal(*start), numbers: tally.numbers() }).collect();
    Group { group, is_rest, total: total.numbers(), points }
}
