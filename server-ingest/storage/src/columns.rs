//! From judged bytes to Arrow columns, and back.

mod promoted;
mod table;

use arrow::record_batch::RecordBatch;

use crate::otlp::Envelope;

pub use table::Table;

/// The rows of all tables that are not yet handed over.
#[derive(Debug, Default)]
pub struct Columns {}

impl Columns {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the rows of a payload that [`crate::otlp::judge`] accepted, but for the rejected indexes (ascending).
    /// Never fails.
    pub fn append(&mut self, _payload: &[u8], _envelope: Envelope, _rejected_spans: &[u32], _rejected_records: &[u32]) {}

    /// Rows in all tables.
    pub fn rows(&self) -> usize {
        0
    }

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        0
    }

    /// The rows of every table that has some; none are left. A table may come more than once.
    pub fn finish(&mut self) -> Vec<(Table, RecordBatch)> {
        Vec::new()
    }
}
