//! What a question that is not SQL reads with: rows by typed conditions, all from one cut of each table.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use futures::{Stream, StreamExt};
use scouter_storage::columns::Table;
use scouter_storage::store::Cut;

use crate::condition::{Condition, all_of, time_column};
use crate::engine::Shared;
use crate::error::{Phase, QueryError};
use crate::stop::Stop;
use crate::table::CutTable;

/// The column that says whether a row passes [`Selection::mark`].
pub const MATCHES: &str = "matches";

/// Which values of a column come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The largest.
    LargestFirst,
    /// The smallest.
    SmallestFirst,
}

const NANOS_A_MILLI: i64 = 1_000_000;

fn start_of_milli(nanos: i64) -> i64 {
    nanos.div_euclid(NANOS_A_MILLI).saturating_mul(NANOS_A_MILLI)
}

/// Rows to read.
#[derive(Debug, Clone)]
pub struct Selection {
    /// From which table.
    pub table: Table,
    /// What holds of each of them.
    pub conditions: Vec<Condition>,
    /// Their columns, in this order.
    pub columns: Vec<&'static str>,
    /// Adds the column [`MATCHES`]: whether all of these hold.
    pub mark: Option<Vec<Condition>>,
    /// In the order of this column's values.
    pub order: Option<(&'static str, Direction)>,
    /// Of equal values, in the order of this column's.
    pub then: Option<(&'static str, Direction)>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Selection {
    /// All rows of `table` for which `conditions` hold, in any order.
    pub fn new(table: Table, columns: &[&'static str], conditions: Vec<Condition>) -> Self {
        Self { table, conditions, columns: columns.to_vec(), mark: None, order: None, then: None, limit: None }
    }

    /// The `limit` rows with the largest `column`, largest first.
    pub fn largest(self, column: &'static str, limit: usize) -> Self {
        self.first(column, Direction::LargestFirst, limit)
    }

    /// The first `limit` rows in the order of `column`.
    pub fn first(mut self, column: &'static str, direction: Direction, limit: usize) -> Self {
        self.order = Some((column, direction));
        self.limit = Some(limit);
        self
    }

    /// Rows whose values are equal in the order of `column`.
    pub fn then(mut self, column: &'static str, direction: Direction) -> Self {
        self.then = Some((column, direction));
        self
    }

    /// Also whether `conditions` hold, in the column [`MATCHES`].
    pub fn marking(mut self, conditions: Vec<Condition>) -> Self {
        self.mark = Some(conditions);
        self
    }

    fn plan(&self, cut: &Cut) -> datafusion::error::Result<LogicalPlan> {
        let source = provider_as_source(Arc::new(CutTable::new(self.table, Some(cut.clone()))));
        let mut plan = LogicalPlanBuilder::scan(self.table.name(), source, None)?;
        if let Some(filter) = all_of(&self.conditions) {
            plan = plan.filter(filter)?;
        }
        if let Some((column, direction)) = self.order {
            let keys = [(column, direction)].into_iter().chain(self.then);
            let keys = keys.map(|(column, direction)| ident(column).sort(direction == Direction::SmallestFirst, false));
            plan = plan.sort_with_limit(keys, self.limit)?;
        } else if self.limit.is_some() {
            plan = plan.limit(0, self.limit)?;
        }
        let mut columns: Vec<_> = self.columns.iter().map(|column| ident(*column)).collect();
        if let Some(mark) = &self.mark {
            columns.push(all_of(mark).unwrap_or_else(|| datafusion::logical_expr::lit(true)).alias(MATCHES));
        }
        plan.project(columns)?.build()
    }
}

/// Reads for one question.
pub struct Reader {
    shared: Arc<Shared>,
    stop: Stop,
    cuts: Vec<(Table, Cut)>,
    held: MemoryReservation,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, stop: Stop) -> Self {
        let held = MemoryConsumer::new("question").register(shared.sessions.memory_pool());
        Self { shared, stop, cuts: Vec::new(), held }
    }

    /// The most rows that an answer may be made of.
    pub fn max_rows(&self) -> usize {
        self.shared.limits.max_rows
    }

    /// Takes `bytes` of the memory that queries have together, until the question is answered.
    ///
    /// # Errors
    /// [`QueryError::Memory`] if there are not so many.
    pub fn hold(&self, bytes: usize) -> Result<(), QueryError> {
        self.held.try_grow(bytes).map_err(|error| self.failed(&error, Phase::Run))
    }

    /// Gives back `bytes` of what was taken by [`Reader::hold`].
    pub fn give_back(&self, bytes: usize) {
        self.held.shrink(bytes.min(self.held.size()));
    }

    /// Begins to read. Every selection from a table sees the same rows.
    ///
    /// # Errors
    /// The rows cannot be read, or the selection names a column that does not exist.
    pub async fn rows(&mut self, selection: Selection) -> Result<Rows, QueryError> {
        let cut = self.cut(selection.table).await?;
        let plan = selection.plan(&cut).map_err(|error| self.failed(&error, Phase::Plan))?;
        let state = self.shared.sessions.plain();
        let stream = self.shared.start(&state, &plan, &self.stop).await?;
        Ok(Rows { stream, memory_bytes: self.shared.limits.memory_bytes })
    }

    /// Bounds of the times of all rows in `table`, first and last, in nanoseconds since 1970; none without rows. They are those of whole
    /// milliseconds, which is how files keep them, so that they do not change when rows come into files.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn time_bounds(&mut self, table: Table) -> Result<Option<(i64, i64)>, QueryError> {
        let cut = self.cut(table).await?;
        let in_files = cut.snapshot.files.iter().filter_map(|file| {
            let (first, last) = (file.min_time_micros?, file.max_time_micros?);
            Some((first.saturating_mul(1000), last.saturating_mul(1000)))
        });
        let column = time_column(table);
        let hot = cut.hot.iter().filter_map(|batch| {
            let times = batch.column_by_name(column)?.as_primitive_opt::<Int64Type>()?;
            Some((arrow::compute::min(times)?, arrow::compute::max(times)?))
        });
        let bounds = in_files.chain(hot).reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)));
        Ok(bounds.map(|(first, last)| (start_of_milli(first), start_of_milli(last).saturating_add(NANOS_A_MILLI - 1))))
    }

    async fn cut(&mut self, table: Table) -> Result<Cut, QueryError> {
        if let Some((_, cut)) = self.cuts.iter().find(|(of, _)| *of == table) {
            return Ok(cut.clone());
        }
        let cut = self.shared.source.cut(table).await?;
        self.cuts.push((table, cut.clone()));
        Ok(cut)
    }

    fn failed(&self, error: &datafusion::error::DataFusionError, phase: Phase) -> QueryError {
        QueryError::from_datafusion(error, phase, self.shared.limits.memory_bytes)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reader").field("held_bytes", &self.held.size()).finish_non_exhaustive()
    }
}

/// The rows of a selection, batch by batch. Dropping it stops the reading.
pub struct Rows {
    stream: SendableRecordBatchStream,
    memory_bytes: usize,
}

impl Stream for Rows {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let memory_bytes = self.memory_bytes;
        let failed = |error| QueryError::from_datafusion(&error, Phase::Run, memory_bytes);
        self.stream.poll_next_unpin(context).map(|batch| batch.map(|batch| batch.map_err(failed)))
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Rows").finish_non_exhaustive()
    }
}
