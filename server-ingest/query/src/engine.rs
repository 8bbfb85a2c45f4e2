//! The verbs: [`Engine::sql`] and [`Engine::sql_batches`] for statements, [`Engine::trace`] and [`Engine::traces`] for traces by id,
//! [`Engine::ask`] for everything else.

pub(crate) mod session;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::answer::{self, SqlAnswer, SqlBatches};
use crate::cut_source::CutSource;
use crate::error::{Phase, QueryError};
use crate::reader::Reader;
use crate::statement;
use crate::stop::{self, Stop};
use crate::threads::QueryThreads;
use crate::trace::{self, Trace};
use session::Sessions;

/// What a query may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of one answer.
    pub max_rows: usize,
    /// From the question to the answer, waiting for a turn included.
    pub timeout: Duration,
    /// What all running queries hold together: sorts, joins, groups, and the answers while they are put together.
    pub memory_bytes: usize,
    /// Threads of all queries, and how many ways one query is split.
    pub target_partitions: usize,
    /// Queries that run at once; more wait for their turn.
    pub concurrent_queries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_rows: 1_000_000, timeout: Duration::from_secs(60), memory_bytes: 512 << 20, target_partitions: 2, concurrent_queries: 4 }
    }
}

/// Answers questions from the cuts of a [`CutSource`]. Starting threads is left to the first question.
///
/// Its futures need a tokio runtime with time enabled; the work itself happens elsewhere. Dropping a future stops its query.
pub struct Engine {
    shared: Arc<Shared>,
    threads: QueryThreads,
    limits: Limits,
}

pub(crate) struct Shared {
    pub(crate) source: Arc<dyn CutSource>,
    pub(crate) sessions: Sessions,
    turns: Semaphore,
    pub(crate) limits: Limits,
}

impl Engine {
    /// An engine over `source`.
    pub fn new(source: Arc<dyn CutSource>, limits: Limits) -> Self {
        let turns = Semaphore::new(limits.concurrent_queries.max(1));
        Self {
            shared: Arc::new(Shared { source, sessions: Sessions::new(limits), turns, limits }),
            threads: QueryThreads::new(limits.target_partitions),
            limits,
        }
    }

    /// The limits it was made with.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Answers one read-only SQL statement: `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW TABLES`, `SHOW COLUMNS`, `DESCRIBE`.
    ///
    /// Tables are those of [`scouter_storage::columns::Table`]; the views `trace_spans`, `trace_tags`, `trace_baggage` and `trace_entities`
    /// have the columns of Scouter's tables of those names. Beyond DataFusion's functions there are `attr(json, key)`, the text of one
    /// attribute; `attr_int`, `attr_double`, `attr_bool`, its value if it is of that type; `hex(binary)` and `unhex(text)`.
    /// `trace_id = unhex('...')` and `trace_id = X'...'` use the indexes and bloom filters of the files.
    ///
    /// # Errors
    /// Every refusal and failure as [`QueryError`] says.
    pub fn sql<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<SqlAnswer, QueryError>> {
        let shared = Arc::clone(&self.shared);
        let sql = sql.to_owned();
        Box::pin(self.within_limits(|stop| async move {
            let stream = shared.run_text(&sql, &stop).await?;
            answer::collect(stream, shared.limits, shared.sessions.memory_pool()).await
        }))
    }

    /// Answers a statement as [`Engine::sql`] does, in Arrow's columns.
    ///
    /// # Errors
    /// As [`Engine::sql`].
    pub fn sql_batches<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<SqlBatches, QueryError>> {
        let shared = Arc::clone(&self.shared);
        let sql = sql.to_owned();
        Box::pin(self.within_limits(|stop| async move {
            let stream = shared.run_text(&sql, &stop).await?;
            answer::collect_batches(stream, shared.limits, shared.sessions.memory_pool()).await
        }))
    }

    /// Runs a question that is not SQL, within the same limits and on the same threads. Dropping the future stops it.
    ///
    /// # Errors
    /// Those of the question, and [`QueryError::Timeout`].
    pub async fn ask<T, Q, A>(&self, question: Q) -> Result<T, QueryError>
    where
        T: Send + 'static,
        Q: FnOnce(Reader) -> A + Send + 'static,
        A: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        self.within_limits(|stop| async move { question(Reader::new(shared, stop)).await }).await
    }

    /// The spans of a trace in tree order, none if it is unknown.
    ///
    /// A span that was delivered twice comes once. See [`Trace`] for the order and for what is done with broken trees.
    ///
    /// # Errors
    /// As [`QueryError`] says; a trace of more than [`Limits::max_rows`] spans is refused.
    pub fn trace(&self, trace_id: [u8; 16]) -> BoxFuture<'_, Result<Trace, QueryError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(self.within_limits(move |stop| async move {
            let stream = shared.run_text(&trace::lookup_sql(&[trace_id]), &stop).await?;
            let traces = trace::collect(stream, shared.limits, shared.sessions.memory_pool()).await?;
            Ok(traces.into_iter().next().unwrap_or_default())
        }))
    }

    /// Several traces in one reading, each as [`Engine::trace`] gives it, in the order of their first spans. Unknown ones are left out.
    ///
    /// # Errors
    /// As [`Engine::trace`].
    pub fn traces(&self, trace_ids: Vec<[u8; 16]>) -> BoxFuture<'_, Result<Vec<Trace>, QueryError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(self.within_limits(|stop| async move {
            if trace_ids.is_empty() {
                return Ok(Vec::new());
            }
            let stream = shared.run_text(&trace::lookup_sql(&trace_ids), &stop).await?;
            trace::collect(stream, shared.limits, shared.sessions.memory_pool()).await
        }))
    }

    /// How many questions have a turn. One that was given up has it until its work has ended, which is soon.
    pub fn running(&self) -> usize {
        self.limits.concurrent_queries.max(1).saturating_sub(self.shared.turns.available_permits())
    }

    /// What running questions hold of [`Limits::memory_bytes`].
    pub fn memory_used(&self) -> usize {
        self.shared.sessions.memory_pool().reserved()
    }

    async fn within_limits<T, Q, W>(&self, question: Q) -> Result<T, QueryError>
    where
        T: Send + 'static,
        Q: FnOnce(Stop) -> W,
        W: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let stop = Stop::default();
        let work = question(stop.clone());
        let work = async move {
            let _turn = shared.turns.acquire().await.expect("the semaphore is never closed");
            work.await
        };
        let running =
            self.threads.spawn(work, stop).map_err(|error| QueryError::Internal(format!("could not start query threads: {error}")))?;
        match tokio::time::timeout(self.limits.timeout, running).await {
            Ok(Ok(answer)) => answer,
            // The text of a panic may quote data, so it goes to the log of the process alone, where the panic hook writes it.
            Ok(Err(_)) => Err(QueryError::Internal("the query ended in a panic or was shut down".to_owned())),
            Err(_) => Err(QueryError::Timeout { limit: self.limits.timeout }),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Shared {
    async fn run_text(&self, sql: &str, stop: &Stop) -> Result<SendableRecordBatchStream, QueryError> {
        self.run(statement::parse(sql)?, stop).await
    }

    async fn run(&self, statement: Statement, stop: &Stop) -> Result<SendableRecordBatchStream, QueryError> {
        let memory_bytes = self.limits.memory_bytes;
        let failed_plan = |error| QueryError::from_datafusion(&error, Phase::Plan, memory_bytes);
        let mentioned = self.sessions.mentioned(&statement).map_err(failed_plan)?;
        let mut cuts = Vec::with_capacity(mentioned.tables.len());
        for table in mentioned.tables {
            cuts.push((table, self.source.cut(table).await?));
        }
        let state = self.sessions.with_cuts(cuts, &mentioned.views).await.map_err(failed_plan)?;
        let plan = state.statement_to_plan(statement).await.map_err(|error| mentioned.unknown.explain(failed_plan(error)))?;
        statement::judge_plan(&plan)?;
        self.start(&state, &plan, stop).await
    }

    /// Plans in full, and begins to work.
    pub(crate) async fn start(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        stop: &Stop,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let failed = |phase| move |error| QueryError::from_datafusion(&error, phase, self.limits.memory_bytes);
        let optimized = state.optimize(plan).map_err(failed(Phase::Plan))?;
        let guarded = stop::guard_joins(optimized, stop).map_err(failed(Phase::Plan))?;
        let physical = state.query_planner().create_physical_plan(&guarded, state).await.map_err(failed(Phase::Plan))?;
        execute_stream(physical, state.task_ctx()).map_err(failed(Phase::Run))
    }
}
