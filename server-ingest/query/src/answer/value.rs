//! One column at a time, from Arrow to JSON.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, OffsetSizeTrait};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

use crate::functions::hex_text;
use crate::timestamp::{date_text, micros_text, nanos_text, whole_seconds_text};

const MILLIS_PER_DAY: i64 = 86_400_000;

/// The values of a column.
pub(super) fn values(column: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    let array = column.as_ref();
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => array.as_boolean().iter().map(or_null).collect(),
        DataType::Int8 => primitives::<Int8Type>(array, Value::from),
        DataType::Int16 => primitives::<Int16Type>(array, Value::from),
        DataType::Int32 => primitives::<Int32Type>(array, Value::from),
        DataType::Int64 => primitives::<Int64Type>(array, Value::from),
        DataType::UInt8 => primitives::<UInt8Type>(array, Value::from),
        DataType::UInt16 => primitives::<UInt16Type>(array, Value::from),
        DataType::UInt32 => primitives::<UInt32Type>(array, Value::from),
        DataType::UInt64 => primitives::<UInt64Type>(array, Value::from),
        DataType::Float16 => primitives::<Float16Type>(array, |value| double(value.to_f64())),
        DataType::Float32 => primitives::<Float32Type>(array, single),
        DataType::Float64 => primitives::<Float64Type>(array, double),
        DataType::Utf8 => array.as_string::<i32>().iter().map(or_null).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(or_null).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(or_null).collect(),
        DataType::Binary => array.as_binary::<i32>().iter().map(hex).collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().map(hex).collect(),
        DataType::BinaryView => array.as_binary_view().iter().map(hex).collect(),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().iter().map(hex).collect(),
        DataType::Timestamp(unit, _) => timestamps(array, *unit),
        DataType::Date32 => primitives::<Date32Type>(array, |days| date_text(i64::from(days)).into()),
        DataType::Date64 => primitives::<Date64Type>(array, |millis| date_text(millis.div_euclid(MILLIS_PER_DAY)).into()),
        DataType::Dictionary(_, _) => dictionary(array)?,
        DataType::List(_) => list::<i32>(array)?,
        DataType::LargeList(_) => list::<i64>(array)?,
        DataType::FixedSizeList(_, _) => {
            let lists = array.as_fixed_size_list();
            (0..lists.len()).map(|row| array_of(lists.is_valid(row).then(|| lists.value(row)))).collect::<Result<_, _>>()?
        }
        DataType::Struct(_) => structs(array)?,
        DataType::Map(_, _) => maps(array)?,
        _ => displayed(array)?,
    })
}

fn or_null<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

fn hex(bytes: Option<&[u8]>) -> Value {
    or_null(bytes.map(hex_text))
}

fn primitives<T: ArrowPrimitiveType>(array: &dyn Array, to_json: impl Fn(T::Native) -> Value) -> Vec<Value> {
    array.as_primitive::<T>().iter().map(|value| value.map_or(Value::Null, &to_json)).collect()
}

fn double(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None => not_finite(value).into(),
    }
}

/// The shortest decimal that reads back as this `f32`, not the digits of the `f64` it widens to.
fn single(value: f32) -> Value {
    if value.is_finite() { double(value.to_string().parse().unwrap_or_else(|_| f64::from(value))) } else { double(f64::from(value)) }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn timestamps(array: &dyn Array, unit: TimeUnit) -> Vec<Value> {
    match unit {
        TimeUnit::Second => primitives::<TimestampSecondType>(array, |value| whole_seconds_text(value).into()),
        TimeUnit::Millisecond => primitives::<TimestampMillisecondType>(array, |value| match value.checked_mul(1000) {
            Some(micros) => micros_text(micros).into(),
            None => whole_seconds_text(value.div_euclid(1000)).into(),
        }),
        TimeUnit::Microsecond => primitives::<TimestampMicrosecondType>(array, |value| micros_text(value).into()),
        TimeUnit::Nanosecond => primitives::<TimestampNanosecondType>(array, |value| nanos_text(value).into()),
    }
}

/// A dictionary may be far larger than the rows that refer to it, so only what they refer to is taken.
fn dictionary(array: &dyn Array) -> Result<Vec<Value>, ArrowError> {
    let dictionary = array.as_any_dictionary();
    values(&arrow::compute::take(dictionary.values().as_ref(), dictionary.keys(), None)?)
}

fn array_of(elements: Option<ArrayRef>) -> Result<Value, ArrowError> {
    elements.map_or(Ok(Value::Null), |elements| values(&elements).map(Value::Array))
}

/// The elements of all rows are converted at once, then dealt out.
fn list<O: OffsetSizeTrait>(array: &dyn Array) -> Result<Vec<Value>, ArrowError> {
    let lists = array.as_list::<O>();
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[lists.len()].as_usize());
    let mut elements = values(&lists.values().slice(first, last - first))?.into_iter();
    Ok((0..lists.len())
        .map(|row| {
            let of_row: Vec<Value> = elements.by_ref().take(lists.value_length(row).as_usize()).collect();
            if lists.is_valid(row) { Value::Array(of_row) } else { Value::Null }
        })
        .collect())
}

fn structs(array: &dyn Array) -> Result<Vec<Value>, ArrowError> {
    let structs = array.as_struct();
    let mut rows: Vec<Map<String, Value>> = vec![Map::new(); structs.len()];
    for (field, column) in structs.fields().iter().zip(structs.columns()) {
        for (row, value) in rows.iter_mut().zip(values(column)?) {
            row.insert(field.name().clone(), value);
        }
    }
    Ok(rows
        .into_iter()
        .enumerate()
        .map(|(row, members)| if structs.is_valid(row) { Value::Object(members) } else { Value::Null })
        .collect())
}

/// Keys that are not text are written as their JSON.
fn maps(array: &dyn Array) -> Result<Vec<Value>, ArrowError> {
    let maps = array.as_map();
    (0..maps.len())
        .map(|row| {
            if maps.is_null(row) {
                return Ok(Value::Null);
            }
            let entries = maps.value(row);
            let keys = values(entries.column(0))?.into_iter().map(|key| match key {
                Value::String(text) => text,
                other => other.to_string(),
            });
            Ok(Value::Object(keys.zip(values(entries.column(1))?).collect()))
        })
        .collect()
}

fn displayed(array: &dyn Array) -> Result<Vec<Value>, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    (0..array.len())
        .map(|row| if array.is_null(row) { Ok(Value::Null) } else { Ok(formatter.value(row).try_to_string()?.into()) })
        .collect()
}
