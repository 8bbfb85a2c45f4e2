//! Rows of any table, made without the decoder.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Date32Array, DictionaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};

use crate::columns::Table;
use crate::lake::schema::time_column;

pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// 2026-01-01, 23:59 UTC: rows on both sides of midnight.
const START_MICROS: i64 = 1_767_311_940_000_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    number: i64,
}

impl Row {
    pub(super) fn some(numbers: Range<i64>) -> Vec<Self> {
        numbers.map(|number| Self { number }).collect()
    }

    /// Out of order, one per millisecond on average, over two dates.
    fn nanos(self) -> i64 {
        (START_MICROS + (self.number * 7_919 % 200) * 1_000_000) * 1000 + self.number
    }
}

/// The rows, with a value in every column that must have one.
pub(super) fn batch(table: Table, rows: &[Row]) -> RecordBatch {
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| {
        let name = field.name().as_str();
        if name == "date" {
            let days = rows.iter().map(|row| i32::try_from(row.nanos().div_euclid(DAY_MICROS * 1000)).unwrap());
            Arc::new(Date32Array::from_iter_values(days)) as ArrayRef
        } else if name == time_column(table) {
            let micros = rows.iter().map(|row| row.nanos().div_euclid(1000));
            Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
        } else {
            column(name, field.data_type(), field.is_nullable(), rows)
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn column(name: &str, data_type: &DataType, nullable: bool, rows: &[Row]) -> ArrayRef {
    let numbers = || rows.iter().map(|row| row.number);
    match data_type {
        DataType::Dictionary(..) => {
            let words: DictionaryArray<Int32Type> = numbers().map(|number| Some(["b", "a", "c", "ä"][(number % 4) as usize])).collect();
            Arc::new(words)
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(numbers().map(|number| format!("{name} {number}")))),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(numbers().map(|number| number.to_be_bytes()))),
        DataType::Int64 if matches!(name, "start_unix_nano" | "created_at_unix_nano") => {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.nanos())))
        }
        _ if nullable => new_null_array(data_type, rows.len()),
        DataType::List(element) => {
            let offsets = arrow::buffer::OffsetBuffer::from_lengths(std::iter::repeat_n(0, rows.len()));
            let values = arrow::array::new_empty_array(element.data_type());
            Arc::new(arrow::array::ListArray::new(element.clone(), offsets, values, None))
        }
        _ => cast(&Int64Array::from_iter_values(numbers().map(|number| number % 2)), data_type).unwrap(),
    }
}

/// The numbers the rows were made from.
pub(super) fn unique_column(table: Table, rows: &RecordBatch) -> Vec<i64> {
    let name = if table == Table::Spans { "start_unix_nano" } else { "created_at_unix_nano" };
    let nanos = rows.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    // The number is what is below a microsecond multiple of a second.
    nanos.values().iter().map(|nanos| nanos % 1_000_000_000).collect()
}
