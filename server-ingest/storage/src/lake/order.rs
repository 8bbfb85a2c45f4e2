//! The order of rows inside a file, and the cut into one run of rows per date.
//!
//! Rows are not moved here: an order names them, and whoever writes them gathers them a few thousand at a time.

use std::ops::Range;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute::{SortColumn, concat, lexsort_to_indices, rank};
use arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type};
use arrow::error::ArrowError;

use crate::columns::Table;
use crate::scheduling::give_way;

/// Rows that are sorted before others may have the CPU: a third of a millisecond.
const SORTED_AT_ONCE: usize = 4096;

/// Where a row is: the index of its batch among the batches that are written together, and its index in that batch.
pub(super) type RowPlace = (usize, usize);

/// The rows of one date, in the order of the table's sort columns.
#[derive(Debug)]
pub(super) struct DateRows {
    pub(super) date: i32,
    pub(super) order: Vec<RowPlace>,
}

/// Rows of one batch that follow one another in it and in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) batch: usize,
    pub(super) start: usize,
    pub(super) rows: usize,
}

impl Run {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.rows
    }
}

/// The runs of an order. Spans of one request are often one: whoever copies does it a run at a time.
pub(super) fn runs(order: &[RowPlace]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &(batch, row) in order {
        match runs.last_mut() {
            Some(run) if run.batch == batch && run.start + run.rows == row => run.rows += 1,
            _ => runs.push(Run { batch, start: row, rows: 1 }),
        }
    }
    runs
}

/// Orders the rows of all batches by date and the table's sort columns, and gives one run a date, dates ascending.
pub(super) fn order_by_date(table: Table, batches: &[RecordBatch]) -> Result<Vec<DateRows>, ArrowError> {
    let dates = columns(table, batches, "date")?;
    let dates: Vec<&PrimitiveArray<Date32Type>> = dates.into_iter().map(|dates| dates.as_primitive()).collect();
    let order = match table.sort_columns() {
        [word, time] => match order_by_word_and_time(&dates, &columns(table, batches, word)?, &columns(table, batches, time)?)? {
            Some(order) => order,
            None => order_by_columns(table, batches)?,
        },
        _ => order_by_columns(table, batches)?,
    };
    let date_of = |place: &RowPlace| dates[place.0].value(place.1);
    Ok(order
        .chunk_by(|left, right| date_of(left) == date_of(right))
        .map(|run| DateRows { date: date_of(&run[0]), order: run.to_vec() })
        .collect())
}

fn columns<'a>(table: Table, batches: &'a [RecordBatch], name: &str) -> Result<Vec<&'a dyn Array>, ArrowError> {
    let column = |batch: &'a RecordBatch| {
        let column = batch.column_by_name(name).map(AsRef::as_ref);
        column.ok_or_else(|| ArrowError::SchemaError(format!("column {name} is missing in table {}", table.name())))
    };
    batches.iter().map(column).collect()
}

/// Any table: its sort columns are joined and compared as Arrow compares them, nulls first.
fn order_by_columns(table: Table, batches: &[RecordBatch]) -> Result<Vec<RowPlace>, ArrowError> {
    let names = std::iter::once("date").chain(table.sort_columns().iter().copied());
    let keys = names.map(|name| Ok(SortColumn { values: concat(&columns(table, batches, name)?)?, options: None }));
    let places: Vec<RowPlace> =
        batches.iter().enumerate().flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row))).collect();
    let order = lexsort_to_indices(&keys.collect::<Result<Vec<_>, ArrowError>>()?, None)?;
    Ok(order.values().iter().map(|row| places[*row as usize]).collect())
}

/// The usual case, (dictionary string, Int64), by integer comparison: strings are compared once a distinct value, not a row.
/// `None` when the columns are of other types.
fn order_by_word_and_time(
    dates: &[&PrimitiveArray<Date32Type>],
    words: &[&dyn Array],
    times: &[&dyn Array],
) -> Result<Option<Vec<RowPlace>>, ArrowError> {
    let is_word = |word: &&dyn Array| matches!(word.data_type(), DataType::Dictionary(key, _) if **key == DataType::Int32);
    let is_time = |time: &&dyn Array| time.data_type() == &DataType::Int64 && time.null_count() == 0;
    let rows: usize = dates.iter().map(|dates| dates.len()).sum();
    if !words.iter().all(is_word) || !times.iter().all(is_time) || rows >= 1 << 32 {
        return Ok(None);
    }
    let dictionaries: Vec<&dyn Array> = words.iter().map(|word| word.as_dictionary::<Int32Type>().values().as_ref()).collect();
    if dictionaries.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let ranks = rank(&concat(&dictionaries)?, None)?;
    let mut keys: Vec<(u64, u64, u32, u32)> = Vec::with_capacity(rows);
    let mut first_rank = 0;
    for (batch, ((dates, word), time)) in dates.iter().zip(words).zip(times).enumerate() {
        let word = word.as_dictionary::<Int32Type>();
        let ranks = &ranks[first_rank..][..word.values().len()];
        first_rank += ranks.len();
        let time = time.as_primitive::<Int64Type>().values();
        // Nulls first, as `lexsort_to_indices` has it; ranks start at 1.
        let rank = |row: usize| word.key(row).map_or(0, |key| ranks[key]);
        let key = |row: usize| {
            let day = u64::from(ascending_u32(dates.value(row))) << 32;
            (day | u64::from(rank(row)), ascending_u64(time[row]), batch as u32, row as u32)
        };
        keys.extend((0..word.len()).map(key));
        give_way();
    }
    for part in keys.chunks_mut(SORTED_AT_ONCE) {
        part.sort_unstable();
        give_way();
    }
    // Merges the parts, which it finds to be in order.
    keys.sort();
    give_way();
    Ok(Some(keys.into_iter().map(|(_, _, batch, row)| (batch as usize, row as usize)).collect()))
}

fn ascending_u32(value: i32) -> u32 {
    value.cast_unsigned() ^ (1 << 31)
}

fn ascending_u64(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}
