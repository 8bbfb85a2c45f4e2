//! Rows as JSON values.
//!
//! | SQL type | JSON |
//! | --- | --- |
//! | boolean, integers | as they are, exactly |
//! | float | number; `"NaN"`, `"Infinity"`, `"-Infinity"` as text |
//! | decimal | text |
//! | text, dictionary of text | text |
//! | binary | text, lower-case hexadecimal |
//! | timestamp | text, RFC 3339 UTC with microseconds; nanoseconds where the type has them and they are not zero |
//! | date | text, ISO |
//! | list | array |
//! | struct, map with text keys | object |
//! | time, duration, interval and the rest | text as Arrow shows it |

mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::StreamExt;
use serde_json::Value;

use crate::engine::Limits;
use crate::error::{Phase, QueryError};

/// The answer to a SQL statement.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlAnswer {
    /// The names of the columns; the same name may come twice.
    pub columns: Vec<String>,
    /// The rows, each with a value for every column.
    pub rows: Vec<Vec<Value>>,
}

/// Takes every row of `stream`, or fails at the first limit.
pub(crate) async fn collect(
    mut stream: SendableRecordBatchStream,
    limits: Limits,
    pool: &Arc<dyn MemoryPool>,
) -> Result<SqlAnswer, QueryError> {
    let failed = |error| QueryError::from_datafusion(&error, Phase::Run, limits.memory_bytes);
    let held = MemoryConsumer::new("answer").register(pool);
    let columns: Vec<String> = stream.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        if rows.len() + batch.num_rows() > limits.max_rows {
            return Err(QueryError::TooManyRows { limit: limits.max_rows });
        }
        // In pieces, so that little is built before the memory for it is granted.
        for start in (0..batch.num_rows()).step_by(PIECE_ROWS) {
            let piece = batch.slice(start, PIECE_ROWS.min(batch.num_rows() - start));
            let added = append(&mut rows, &piece).map_err(|error| failed(error.into()))?;
            held.try_grow(added).map_err(failed)?;
        }
    }
    Ok(SqlAnswer { columns, rows })
}

/// The answer to a SQL statement, in columns. What it holds counts against the memory of queries until it is dropped.
#[derive(Debug)]
pub struct SqlBatches {
    /// The columns; the same name may come twice.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    held: MemoryReservation,
    memory_bytes: usize,
}

impl SqlBatches {
    /// Takes `bytes` more of the memory of queries, for as long as this is there.
    ///
    /// # Errors
    /// [`QueryError::Memory`] if there are not so many.
    pub fn hold(&self, bytes: usize) -> Result<(), QueryError> {
        self.held.try_grow(bytes).map_err(|error| QueryError::from_datafusion(&error, Phase::Run, self.memory_bytes))
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Takes every batch of `stream`, or fails at the first limit.
pub(crate) async fn collect_batches(
    mut stream: SendableRecordBatchStream,
    limits: Limits,
    pool: &Arc<dyn MemoryPool>,
) -> Result<SqlBatches, QueryError> {
    let failed = |error| QueryError::from_datafusion(&error, Phase::Run, limits.memory_bytes);
    let held = MemoryConsumer::new("answer").register(pool);
    let (schema, mut batches, mut rows) = (stream.schema(), Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        rows += batch.num_rows();
        if rows > limits.max_rows {
            return Err(QueryError::TooManyRows { limit: limits.max_rows });
        }
        held.try_grow(batch.get_array_memory_size()).map_err(failed)?;
        batches.push(batch);
    }
    Ok(SqlBatches { schema, batches, held, memory_bytes: limits.memory_bytes })
}

/// The values of a column as JSON, by the table above.
///
/// # Errors
/// A type that cannot be shown.
pub fn json_values(column: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    value::values(column)
}

const PIECE_ROWS: usize = 1024;

/// Adds the rows of a batch and tells about how many bytes they take.
fn append(rows: &mut Vec<Vec<Value>>, batch: &RecordBatch) -> Result<usize, ArrowError> {
    let first = rows.len();
    rows.extend((0..batch.num_rows()).map(|_| Vec::with_capacity(batch.num_columns())));
    let mut bytes = batch.num_rows() * (size_of::<Vec<Value>>() + batch.num_columns() * size_of::<Value>());
    for column in batch.columns() {
        for (row, value) in rows[first..].iter_mut().zip(value::values(column)?) {
            bytes += heap_bytes(&value);
            row.push(value);
        }
    }
    Ok(bytes)
}

/// What a value holds beyond itself. Values are as deep as their column's type.
fn heap_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| size_of::<Value>() + heap_bytes(value)).sum(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| key.len() + size_of::<(usize, String, Value)>() + heap_bytes(value)).sum()
        }
    }
}
