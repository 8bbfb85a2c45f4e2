//! Monitoring records: which entities have some, and how they went over time.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use scouter_query::{Condition, Engine, QueryError, Reader, Selection, json_values};
use scouter_storage::columns::Table;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::columns::Columns;
use crate::error::AnswerError;
use crate::groups::{ENTRY_BYTES, Groups};
use crate::json::Decimal;
use crate::parameters::Parameters;
use crate::series::{Buckets, bucket_length};

const TIME: &str = "created_at_unix_nano";
/// Names of one entity that are listed.
const MOST_NAMES: usize = 200;
/// Series of one answer.
const MOST_SERIES: usize = 500;
/// Rows beside the series.
const MOST_RECORDS: usize = 100;

/// A kind of record, as the API names it.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    table: Table,
    /// What its series are named by, if that is a column.
    series: Option<&'static str>,
    /// The column that is averaged.
    value: Option<&'static str>,
    has_records: bool,
}

const KINDS: [Kind; 7] = [
    Kind { name: "psi", table: Table::Psi, series: Some("feature"), value: None, has_records: false },
    Kind { name: "spc", table: Table::Spc, series: Some("feature"), value: Some("value"), has_records: false },
    Kind { name: "custom", table: Table::Custom, series: Some("metric"), value: Some("value"), has_records: false },
    Kind { name: "eval", table: Table::Eval, series: Some("status"), value: None, has_records: true },
    Kind { name: "observability", table: Table::Observability, series: None, value: None, has_records: false },
    Kind { name: "task", table: Table::AgentTask, series: Some("task_id"), value: Some("value"), has_records: true },
    Kind { name: "workflow", table: Table::AgentWorkflow, series: None, value: Some("pass_rate"), has_records: true },
];

#[derive(Debug, Serialize)]
struct Kinds {
    kinds: Vec<KindAnswer>,
}

#[derive(Debug, Serialize)]
struct KindAnswer {
    kind: &'static str,
    table: &'static str,
    row_count: u64,
    entities: Vec<Entity>,
}

#[derive(Debug, Serialize)]
struct Entity {
    entity: String,
    row_count: u64,
    first_unix_nano: Decimal,
    last_unix_nano: Decimal,
    names: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct EntityRows {
    rows: u64,
    first: i64,
    last: i64,
    names: BTreeSet<String>,
}

/// What records there are of which entities.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn record_kinds(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let range = (parameters.moment("start")?, parameters.moment("end")?);
    parameters.end(&["start", "end"])?;
    let kinds = engine
        .ask(move |mut reader| async move {
            let mut kinds = Vec::with_capacity(KINDS.len());
            for kind in KINDS {
                kinds.push(kind_answer(&mut reader, kind, range).await?);
            }
            Ok(kinds)
        })
        .await?;
    Ok(Kinds { kinds })
}

async fn kind_answer(reader: &mut Reader, kind: Kind, (from, until): (Option<i64>, Option<i64>)) -> Result<KindAnswer, QueryError> {
    let mut columns = vec!["entity_uid", TIME];
    columns.extend(kind.series.filter(|column| *column != "status"));
    let mut rows = reader.rows(Selection::new(kind.table, &columns, Condition::time(kind.table, from, until))).await?;
    let mut entities: Groups<String, EntityRows> = Groups::default();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let columns = Columns(&batch);
        let (uids, times) = (columns.words("entity_uid")?, columns.integers(TIME)?);
        let names = kind.series.filter(|column| *column != "status").map(|column| columns.words(column)).transpose()?;
        let mut grown = 0;
        for row in 0..columns.rows() {
            let time = times.value(row);
            let of = match entities.get_mut(uids.or_empty(row)) {
                Some(of) => of,
                None => entities.of(uids.owned(row))?,
            };
            (of.first, of.last) = if of.rows == 0 { (time, time) } else { (of.first.min(time), of.last.max(time)) };
            of.rows += 1;
            if let Some(name) = names.as_ref().and_then(|names| names.get(row))
                && of.names.len() < MOST_NAMES
                && !of.names.contains(name)
            {
                of.names.insert(name.to_owned());
                grown += size_of::<String>() + ENTRY_BYTES + name.len();
            }
        }
        reader.hold(grown + entities.grown())?;
    }
    let mut entities: Vec<Entity> = entities
        .into_iter()
        .map(|(entity, of)| Entity {
            entity,
            row_count: of.rows,
            first_unix_nano: Decimal(of.first),
            last_unix_nano: Decimal(of.last),
            names: of.names,
        })
        .collect();
    entities.sort_by(|left, right| left.entity.cmp(&right.entity));
    let row_count = entities.iter().map(|entity| entity.row_count).sum();
    Ok(KindAnswer { kind: kind.name, table: kind.table.name(), row_count, entities })
}

#[derive(Debug, Serialize)]
struct RecordSeries {
    kind: &'static str,
    entity: String,
    bucket_nano: Decimal,
    series: Vec<Series>,
    records: Vec<Map<String, Value>>,
}

#[derive(Debug, Serialize)]
struct Series {
    name: String,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    start_unix_nano: Decimal,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bins: Option<Vec<Bin>>,
}

#[derive(Debug, Serialize)]
struct Bin {
    bin_id: i64,
    bin_count: i64,
}

#[derive(Debug, Default)]
struct Bucket {
    count: u64,
    /// Of the finite values: how many, their sum, the smallest, the largest.
    values: Option<(u64, f64, f64, f64)>,
    passed: Option<u64>,
    sum: Option<i64>,
    bins: BTreeMap<i64, i64>,
}

impl Bucket {
    fn add_value(&mut self, value: f64) {
        if value.is_finite() {
            let (count, sum, min, max) = self.values.unwrap_or((0, 0.0, value, value));
            self.values = Some((count + 1, sum + value, min.min(value), max.max(value)));
        }
    }

    fn point(self, start: i64) -> Point {
        let bins = self.bins.into_iter().map(|(bin_id, bin_count)| Bin { bin_id, bin_count }).collect::<Vec<_>>();
        Point {
            start_unix_nano: Decimal(start),
            count: self.count,
            mean: self.values.map(|(count, sum, _, _)| sum / count as f64),
            min: self.values.map(|(_, _, min, _)| min),
            max: self.values.map(|(_, _, _, max)| max),
            passed: self.passed,
            sum: self.sum,
            bins: (!bins.is_empty()).then_some(bins),
        }
    }
}

/// Buckets by the name of their series.
#[derive(Debug, Default)]
struct Folded {
    series: BTreeMap<String, BTreeMap<i64, Bucket>>,
    /// Bytes for which memory is not taken yet.
    grown: usize,
}

impl Folded {
    fn bucket(&mut self, name: &str, start: i64) -> Result<&mut Bucket, QueryError> {
        if !self.series.contains_key(name) {
            if self.series.len() >= MOST_SERIES {
                return Err(QueryError::TooManyRows { limit: MOST_SERIES });
            }
            self.series.insert(name.to_owned(), BTreeMap::new());
            self.grown += name.len() + ENTRY_BYTES;
        }
        let bucket = self.series.entry(name.to_owned()).or_default().entry(start).or_default();
        self.grown += if bucket.count == 0 { size_of::<(i64, Bucket)>() + ENTRY_BYTES } else { 0 };
        Ok(bucket)
    }
}

/// The records of one entity over time.
///
/// # Errors
/// There is no such kind, or no entity is named.
pub async fn record_series(engine: &Engine, kind: &str, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let Some(kind) = KINDS.into_iter().find(|known| known.name == kind) else {
        return Err(AnswerError::NotFound { what: "kind of record", name: kind.to_owned() });
    };
    let Some(entity) = parameters.one("entity")? else {
        return Err(AnswerError::parameter("entity is missing", "name one; GET /api/v1/records lists them"));
    };
    let names = parameters.all("name");
    let range = (parameters.moment("start")?, parameters.moment("end")?);
    let length = bucket_length(&mut parameters)?;
    parameters.end(&["entity", "name", "start", "end", "bucket"])?;
    let mut conditions = Condition::time(kind.table, range.0, range.1);
    conditions.push(Condition::OneOf("entity_uid", vec![entity.clone()]));
    if let (Some(column), false) = (kind.series, names.is_empty()) {
        conditions.push(Condition::OneOf(column, names));
    }
    let (buckets, folded, records) = engine
        .ask(move |mut reader| async move {
            let buckets = Buckets::over(&mut reader, kind.table, range, length).await?.check()?;
            let folded = fold(&mut reader, kind, conditions.clone(), buckets).await?;
            let records = if kind.has_records { newest(&mut reader, kind, conditions).await? } else { Vec::new() };
            Ok((buckets, folded, records))
        })
        .await?;
    let series = folded
        .series
        .into_iter()
        .map(|(name, buckets)| Series { name, points: buckets.into_iter().map(|(start, bucket)| bucket.point(start)).collect() })
        .collect();
    Ok(RecordSeries { kind: kind.name, entity, bucket_nano: Decimal(buckets.length), series, records })
}

async fn fold(reader: &mut Reader, kind: Kind, conditions: Vec<Condition>, buckets: Buckets) -> Result<Folded, QueryError> {
    let mut columns = vec![TIME];
    columns.extend(kind.series);
    columns.extend(kind.value);
    match kind.table {
        Table::Psi => columns.extend(["bin_id", "bin_count"]),
        Table::Observability => columns.extend(["request_count", "error_count"]),
        Table::AgentTask => columns.push("passed"),
        _ => {}
    }
    let mut rows = reader.rows(Selection::new(kind.table, &columns, conditions)).await?;
    let mut folded = Folded::default();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let columns = Columns(&batch);
        let times = columns.integers(TIME)?;
        let names = kind.series.map(|column| columns.words(column)).transpose()?;
        let values = kind.value.map(|column| columns.doubles(column)).transpose()?;
        let longs = |name: &str| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (bins, bin_counts, requests, errors) = (longs("bin_id"), longs("bin_count"), longs("request_count"), longs("error_count"));
        let passed = batch.column_by_name("passed").and_then(|column| column.as_boolean_opt());
        for row in 0..columns.rows() {
            let start = buckets.of(times.value(row));
            if let (Some(requests), Some(errors)) = (requests, errors) {
                for (name, number) in [("requests", requests.value(row)), ("errors", errors.value(row))] {
                    let bucket = folded.bucket(name, start)?;
                    bucket.count += 1;
                    bucket.sum = Some(bucket.sum.unwrap_or(0).saturating_add(number));
                }
                continue;
            }
            let name = names.as_ref().map_or(kind.value.unwrap_or_default(), |names| names.or_empty(row));
            let bucket = folded.bucket(name, start)?;
            bucket.count += 1;
            values.into_iter().for_each(|values| bucket.add_value(values.value(row)));
            if let Some(passed) = passed {
                bucket.passed = Some(bucket.passed.unwrap_or(0) + u64::from(passed.value(row)));
            }
            if let (Some(bins), Some(counts)) = (bins, bin_counts) {
                let before = bucket.bins.len();
                let bin = bucket.bins.entry(bins.value(row)).or_default();
                *bin = bin.saturating_add(counts.value(row));
                let new_bins = bucket.bins.len() - before;
                folded.grown += new_bins * (size_of::<(i64, i64)>() + ENTRY_BYTES);
            }
        }
        reader.hold(std::mem::take(&mut folded.grown))?;
    }
    Ok(folded)
}

/// How much larger rows are as JSON values than in columns, about.
const JSON_GROWTH: usize = 4;

/// The newest rows as JSON.
async fn newest(reader: &mut Reader, kind: Kind, conditions: Vec<Condition>) -> Result<Vec<Map<String, Value>>, QueryError> {
    let schema = kind.table.schema();
    // Names of columns live as long as the process.
    let columns: Vec<&'static str> = RECORD_COLUMNS.iter().copied().filter(|name| schema.column_with_name(name).is_some()).collect();
    let mut rows = reader.rows(Selection::new(kind.table, &columns, conditions).largest(TIME, MOST_RECORDS)).await?;
    let mut records = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        reader.hold(batch.get_array_memory_size() * JSON_GROWTH)?;
        append_json(&mut records, &batch)?;
    }
    Ok(records)
}

/// The columns of the kinds whose rows are shown.
const RECORD_COLUMNS: [&str; 33] = [
    "created_at",
    "created_at_unix_nano",
    "entity_uid",
    "uid",
    "record_id",
    "session_id",
    "context",
    "trace_id",
    "tags",
    "record_source",
    "status",
    "record_uid",
    "task_id",
    "task_type",
    "start_time",
    "start_time_unix_nano",
    "end_time",
    "end_time_unix_nano",
    "passed",
    "value",
    "assertion",
    "operator",
    "expected",
    "actual",
    "message",
    "condition",
    "stage",
    "total_tasks",
    "passed_tasks",
    "failed_tasks",
    "pass_rate",
    "duration_ms",
    "execution_plan",
];

/// Columns whose text is JSON.
const JSON_COLUMNS: [&str; 5] = ["context", "assertion", "expected", "actual", "execution_plan"];

fn append_json(records: &mut Vec<Map<String, Value>>, batch: &RecordBatch) -> Result<(), QueryError> {
    let first = records.len();
    records.resize_with(first + batch.num_rows(), Map::new);
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let values = shown(field.name(), column).map_err(|error| QueryError::Internal(error.to_string()))?;
        for (record, value) in records[first..].iter_mut().zip(values) {
            record.insert(field.name().clone(), value);
        }
    }
    Ok(())
}

fn shown(name: &str, column: &ArrayRef) -> Result<Vec<Value>, arrow::error::ArrowError> {
    if *column.data_type() == DataType::Int64 {
        return Ok(column
            .as_primitive::<Int64Type>()
            .iter()
            .map(|number| number.map_or(Value::Null, |number| number.to_string().into()))
            .collect());
    }
    let values = json_values(column)?;
    if !JSON_COLUMNS.contains(&name) {
        return Ok(values);
    }
    Ok(values.into_iter().map(|value| value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(value)).collect())
}
