//! Which partition a row goes to: its day, unless that is far from the day it came in.
//!
//! Clients choose the times of their spans. Were each day a partition, a request whose spans start on thousands of days would make
//! thousands of files, each with its syncs. So a day outside of the **window** around the day of reception is moved to the window's edge;
//! the exact times stay in the row, and pruning by time goes by the files' bounds. Days keep their order, and one batch has at most
//! [`MAX_DATES`] of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::Date32Type;

/// Days before the day of reception that are partitions of their own.
pub(crate) const DAYS_BACK: i32 = 7;

/// Days after it: clocks differ, and clients live in many time zones.
pub(crate) const DAYS_AHEAD: i32 = 1;

/// Partitions that rows received on one day can go to.
#[cfg(test)]
pub(crate) const MAX_DATES: usize = (DAYS_BACK + DAYS_AHEAD + 1) as usize;

const NANOS_A_DAY: u64 = 86_400_000_000_000;

/// The day, counted from 1970, of a frame's reception.
pub(super) fn day_of(received_unix_nano: u64) -> i32 {
    i32::try_from(received_unix_nano / NANOS_A_DAY).expect("2^64 nanoseconds are 213,503 days")
}

/// Moves days outside of the window around `received_day` to its edges. `date` is the last column.
pub(super) fn bound_dates(batch: RecordBatch, received_day: i32) -> RecordBatch {
    let (first, last) = (received_day - DAYS_BACK, received_day + DAYS_AHEAD);
    let (schema, mut columns, rows) = batch.into_parts();
    if let Some(dates) = columns.last_mut() {
        let days = dates.as_primitive::<Date32Type>();
        if min(days).is_some_and(|day| day < first) || max(days).is_some_and(|day| day > last) {
            *dates = Arc::new(days.unary::<_, Date32Type>(|day| day.clamp(first, last))) as ArrayRef;
        }
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).expect("the column has the type and length of the one it replaces")
}
