//! The order of rows inside a file, and the cut into one run of rows per date.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type};
use arrow::error::ArrowError;

use crate::columns::Table;

/// The rows of one date, in the order of the table's sort columns, without the column `date`.
#[derive(Debug)]
pub(super) struct DateRows {
    pub(super) date: i32,
    pub(super) rows: RecordBatch,
}

/// Joins the batches, sorts the rows by date and the table's sort columns, and gives one slice a date, dates ascending.
pub(super) fn sort_by_date(table: Table, batches: &[RecordBatch]) -> Result<Vec<DateRows>, ArrowError> {
    let schema = table.schema();
    let date_column = schema.index_of("date")?;
    let joined = match batches {
        [one] => one.clone(),
        many => concat_batches(&schema, many)?,
    };
    let order = sorted_indices(table, &joined)?;
    let sorted = take_record_batch(&joined, &order)?;
    drop(joined);
    let dates = sorted.column(date_column).as_primitive::<Date32Type>().values().clone();
    let mut plain = sorted;
    plain.remove_column(date_column);
    Ok(equal_runs(&dates).map(|run| DateRows { date: dates[run.start], rows: plain.slice(run.start, run.len()) }).collect())
}

fn sorted_indices(table: Table, rows: &RecordBatch) -> Result<UInt32Array, ArrowError> {
    let column = |name: &str| {
        rows.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("column {name} is missing in table {}", table.name())))
    };
    let dates = column("date")?;
    let sort_columns = table.sort_columns().iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
    if let [word, time] = sort_columns.as_slice()
        && let Some(indices) = indices_by_word_and_time(dates, word, time)?
    {
        return Ok(indices);
    }
    let keys: Vec<SortColumn> =
        std::iter::once(dates).chain(sort_columns).map(|values| SortColumn { values: values.clone(), options: None }).collect();
    lexsort_to_indices(&keys, None)
}

/// The usual case, (dictionary string, Int64), by integer comparison: strings are compared once a distinct value, not a row.
/// `None` when the columns are of other types.
fn indices_by_word_and_time(dates: &ArrayRef, word: &ArrayRef, time: &ArrayRef) -> Result<Option<UInt32Array>, ArrowError> {
    let is_word = matches!(word.data_type(), DataType::Dictionary(key, _) if **key == DataType::Int32);
    if !is_word || time.data_type() != &DataType::Int64 || time.null_count() > 0 {
        return Ok(None);
    }
    let word = word.as_dictionary::<Int32Type>();
    let ranks = arrow::compute::rank(word.values(), None)?;
    let dates = dates.as_primitive::<Date32Type>().values();
    let time = time.as_primitive::<Int64Type>().values();
    // Nulls first, as `lexsort_to_indices` has it; ranks start at 1.
    let rank = |row: usize| word.key(row).map_or(0, |key| ranks[key]);
    let mut keys: Vec<(u64, u64, u32)> = (0..word.len())
        .map(|row| (u64::from(ascending_u32(dates[row])) << 32 | u64::from(rank(row)), ascending_u64(time[row]), row as u32))
        .collect();
    keys.sort_unstable();
    Ok(Some(keys.into_iter().map(|(_, _, row)| row).collect::<Vec<_>>().into()))
}

fn ascending_u32(value: i32) -> u32 {
    value.cast_unsigned() ^ (1 << 31)
}

fn ascending_u64(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

fn equal_runs(values: &[i32]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    values.chunk_by(|left, right| left == right).map(move |run| {
        let range = start..start + run.len();
        start = range.end;
        range
    })
}
