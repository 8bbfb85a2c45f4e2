//! The verbs of the storage: [`Store::append`] makes a frame durable, [`Store::cut`] gives a reader everything that is.
//!
//! ```text
//! append ─▶ log (fsync, answer) ─▶ hand-over ─▶ applier: columns ─▶ sealed batches ─▶ flusher: sorted Parquet, Delta commit ─▶ trim
//!                                                   └────────────── hot rows ───────────────┘
//! ```
//!
//! Terms: **hot rows** are applied but not yet committed; to **seal** is to finish the column builders into batches that no
//! longer change; a **unit** is the sealed batches of one table that one commit covers (see [`crate::lake`]); a **cut** is a
//! table's snapshot and its hot rows at one instant.
//!
//! Invariants:
//! - frames are applied in position order, each once; a sealed batch ends at a frame's end;
//! - for every table, snapshot and hot rows together are the rows of all applied frames, each once, whenever the state's lock
//!   is free: a unit's rows leave the hot rows in the critical section that puts in the snapshot that has them;
//! - merging and expiry ([`maintainer`]) change files and never positions; a reader's cut keeps the files it names;
//! - a unit that may be in the table is never merged with later rows: a failed commit is tried again with the same rows at the
//!   same position, so that the `txn` comparison still means something;
//! - the log is trimmed up to T only if every table has committed each of its rows at or before T. A table without rows since
//!   its last commit holds nothing back: replay starts after T, so nothing of it can be missing or come twice. Whoever reads
//!   frames beside the tables holds it back too ([`StoreOptions::hold_log`], [`Store::let_go`]);
//! - lock order: a table's lock ([`tables`]), then the state's; no other is taken while one is held.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::columns::Table;
use crate::lake::Objects;
use crate::log::{Frame, Log, LogStats, Position, Replay, Then};

mod applier;
mod cut;
mod error;
mod flusher;
mod folder;
mod handover;
mod hot;
mod maintainer;
mod open;
mod options;
mod partition;
mod shared;
mod stats;
mod tables;

#[cfg(test)]
mod tests;

pub use applier::{Offered, Settled};
pub use cut::Cut;
pub use error::StoreError;
pub use open::Recovery;
pub use options::{Fault, FaultHook, FaultPoint, MaintenanceOptions, StoreOptions};
pub use stats::{MaintenanceStats, StoreStats, TableStats};

use applier::Shared;
use folder::FolderLock;
use handover::Taker;
use shared::SharedTables;
use stats::Counters;

/// Where frames come from.
#[derive(Debug)]
enum Source {
    Log(Arc<Log>),
    /// A log that servers share, of which this store is given frames.
    Shared {
        tables: SharedTables,
        objects: Objects,
    },
    ReadOnly {
        last: Position,
    },
}

#[derive(Debug)]
struct Threads {
    /// `None` where frames are given to the store.
    applier: Option<(JoinHandle<()>, Taker)>,
    flusher: JoinHandle<()>,
    maintainer: JoinHandle<()>,
}

/// The storage of one server, or of a stopped server's folder.
///
/// Dropping it without [`Store::shutdown`] leaves the hot rows to the log: the next opening replays them.
pub struct Store {
    shared: Arc<Shared>,
    source: Source,
    /// `None` after a shutdown and in a store that is open for reading.
    threads: Mutex<Option<Threads>>,
    closing: AtomicBool,
    /// Let go last: by the shutdown, or after all other fields.
    lock: Mutex<Option<FolderLock>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the store in `dir` for its only writer. Rows that only the log has are readable when it answers.
    ///
    /// Blocking; may be called inside or outside of a runtime.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has the folder, [`StoreError::Folder`] when it cannot be made or written.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<(Arc<Self>, Recovery), StoreError> {
        let dir = dir.to_owned();
        open::on_own_thread(move || open::open(&dir, options))
    }

    /// Opens a stopped server's folder for reading, rows that only its log has included. Changes nothing on disk. Blocking.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when a server has the folder, [`StoreError::NotFound`] when there is no storage in it.
    pub fn open_read_only(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let dir = dir.to_owned();
        open::on_own_thread(move || open::open_read_only(&dir))
    }

    /// Makes a frame durable and answers with its position. Its rows are readable right after; [`Store::cut`] waits for them.
    ///
    /// Waits while the log's queue is full. If the future is dropped, the frame may become durable or not.
    pub async fn append(&self, frame: Frame) -> Result<Position, StoreError> {
        Ok(self.log_to_append_to()?.append_durable(frame).await?)
    }

    /// As [`Store::append`]; `then` is called when the frame is durable, also if the future was dropped, and dropped when it never
    /// will be. It runs between a sync and its answers, so it is quick and does not block or panic.
    pub async fn append_then(&self, frame: Frame, then: Then) -> Result<Position, StoreError> {
        Ok(self.log_to_append_to()?.append_durable_then(frame, then).await?)
    }

    fn log_to_append_to(&self) -> Result<&Log, StoreError> {
        let Source::Log(log) = &self.source else { return Err(StoreError::ReadOnly) };
        if self.closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        self.check_alive()?;
        Ok(log)
    }

    /// All rows of a table: at least those of every frame that was durable when this was called.
    ///
    /// # Errors
    /// [`StoreError::Behind`] when they are not applied within [`StoreOptions::apply_timeout`].
    pub async fn cut(&self, table: Table) -> Result<Cut, StoreError> {
        self.wait_applied().await?;
        let shared = Arc::clone(&self.shared);
        let tables = self.shared_tables().cloned();
        // Finishing the builders may take longer than a reactor should be kept.
        let cut = tokio::task::spawn_blocking(move || {
            if let Some(tables) = tables {
                tables.look(&shared, table)?;
            }
            Ok(shared.hot().cut(table, &shared.trace_index))
        });
        cut.await.map_err(|_| StoreError::Closed)?
    }

    /// Waits until there is a durable frame after `position`. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when there will be none any more.
    pub async fn wait_after(&self, position: Position) -> Result<(), StoreError> {
        let mut applied = self.shared.applied.subscribe();
        applied.wait_for(|applied| *applied > position).await.map(|_| ()).map_err(|_| StoreError::Closed)
    }

    /// The durable frames after `after`, as they came in, up to what is durable now. Blocking I/O. Beside the tables there may be one who
    /// reads them: with [`StoreOptions::hold_log`] they stay until [`Store::let_go`].
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`]. The first item is an error when frames after `after` are gone.
    pub fn frames_after(&self, after: Position) -> Result<Replay, StoreError> {
        match &self.source {
            Source::Log(log) => Ok(log.replay(after)),
            Source::Shared { .. } | Source::ReadOnly { .. } => Err(StoreError::ReadOnly),
        }
    }

    /// Says that frames up to `position` are no longer needed by the one for whom the log is held. Never goes back.
    pub fn let_go(&self, position: Position) {
        self.shared.let_go(position);
    }

    /// Commits the rows of every frame that was durable when this was called; answers with a position up to which all rows are
    /// in the tables.
    ///
    /// # Errors
    /// [`StoreError::Lake`] when a table could not be written. The rows stay readable, and are tried again.
    pub async fn flush(&self) -> Result<Position, StoreError> {
        self.wait_applied().await?;
        if matches!(self.source, Source::ReadOnly { .. }) {
            return Err(StoreError::ReadOnly);
        }
        let mut flushed = self.shared.flush.flushed.subscribe();
        let request = self.shared.flush.request();
        let answer = flushed.wait_for(|flushed| flushed.request >= request).await.map_err(|_| StoreError::Closed)?.clone();
        self.check_alive()?;
        if answer.request == u64::MAX {
            return Err(StoreError::Closed);
        }
        answer.outcome.map_err(StoreError::Lake)
    }

    /// Expires, merges and deletes files until nothing is left to do, instead of in the pauses of
    /// [`MaintenanceOptions::interval`]. The rules of those options hold.
    ///
    /// # Errors
    /// [`StoreError::Lake`] with the first failure; nothing is lost by it, and it is tried again later.
    pub async fn maintain(&self) -> Result<(), StoreError> {
        if matches!(self.source, Source::ReadOnly { .. }) {
            return Err(StoreError::ReadOnly);
        }
        let mut maintained = self.shared.maintenance.maintained.subscribe();
        let request = self.shared.maintenance.request();
        let answer = maintained.wait_for(|maintained| maintained.request >= request).await.map_err(|_| StoreError::Closed)?.clone();
        if answer.request == u64::MAX {
            return Err(StoreError::Closed);
        }
        answer.outcome.map_err(StoreError::Lake)
    }

    /// Takes no more frames, commits all rows, trims the log, ends the threads, lets go of the folder. Called again, it answers
    /// at once.
    ///
    /// # Errors
    /// Whatever is said, nothing that was acknowledged is lost: rows that are not in the tables are in the log.
    /// [`StoreError::ShutdownTimeout`]: the work goes on in the background until the process ends.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), StoreError> {
        let started = Instant::now();
        self.closing.store(true, Ordering::Release);
        self.shared.maintenance.stop();
        if !self.is_shut_down() {
            // While the log is open it can be trimmed. How this ends, the last flush below tells again.
            let _ = tokio::time::timeout(deadline, self.flush()).await;
        }
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return Ok(()) };
        let log = match &self.source {
            Source::Log(log) => Some(Arc::clone(log)),
            Source::Shared { .. } | Source::ReadOnly { .. } => None,
        };
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = Arc::clone(&self.shared);
        let (done, ended) = tokio::sync::oneshot::channel();
        let closing = move || {
            let closed = close(log.as_deref(), &shared, threads);
            // Readers may take the folder next; they must not be mistaken for us.
            let _ = lock.as_ref().map(|lock| lock.set_holder(""));
            drop(lock);
            let _ = done.send(closed);
        };
        let thread = std::thread::Builder::new().name("scouter-closing".to_owned()).spawn(closing);
        thread.map_err(|error| StoreError::Failed { what: format!("no thread: {error}") })?;
        match tokio::time::timeout(deadline.saturating_sub(started.elapsed()), ended).await {
            Ok(Ok(closed)) => closed,
            Ok(Err(_)) => Err(StoreError::Failed { what: "closing it panicked".to_owned() }),
            Err(_) => Err(StoreError::ShutdownTimeout { deadline, committed: self.shared.hot().all_committed() }),
        }
    }

    /// Changes what others are told who find the folder in use.
    pub fn set_holder(&self, holder: &str) -> Result<(), StoreError> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lock) = lock.as_ref() else { return Err(StoreError::Closed) };
        if matches!(self.source, Source::ReadOnly { .. }) {
            return Err(StoreError::ReadOnly);
        }
        lock.set_holder(holder).map_err(|error| StoreError::folder("write the lock file of", Path::new("the storage"), error))
    }

    /// Why nothing can be stored any more, if so: the log failed, or a thread of the store ended. For good.
    pub fn failed(&self) -> Option<String> {
        if let Some(what) = self.shared.failed() {
            return Some(what.to_owned());
        }
        match &self.source {
            Source::Log(log) => log.failed().map(|error| error.to_string()),
            Source::Shared { .. } | Source::ReadOnly { .. } => None,
        }
    }

    /// Why nothing more can be stored now, if so, though it may pass by itself: the disk is full, or the log has spent its budget, or rows
    /// cannot be written into the tables and as many wait in memory as may.
    pub fn obstacle(&self) -> Option<StoreError> {
        if let Source::Log(log) = &self.source
            && let Some(error) = log.obstacle()
        {
            return Some(error.into());
        }
        let error = self.shared.flush.flushed.borrow().outcome.as_ref().err().map(Arc::clone)?;
        (self.shared.hot().bytes() > self.shared.options.hot_max_bytes).then_some(StoreError::Lake(error))
    }

    /// Figures. Cheap enough for a scrape, not for a request.
    pub fn stats(&self) -> StoreStats {
        let hot = self.shared.hot();
        let (hot_rows, hot_bytes, applied, committed) = (hot.rows(), hot.bytes(), hot.applied(), hot.all_committed());
        let figures = hot.figures();
        drop(hot);
        let tables = Table::ALL.into_iter().zip(figures).map(|(table, figures)| TableStats {
            table,
            version: figures.snapshot.version,
            committed: figures.snapshot.position,
            files: figures.snapshot.files.len(),
            rows: figures.snapshot.rows(),
            bytes: figures.snapshot.size_bytes(),
            hot_rows: figures.sealed_rows,
        });
        let counters = &self.shared.counters;
        StoreStats {
            hot_rows,
            hot_bytes,
            durable: self.durable(),
            applied,
            committed,
            commits: Counters::get(&counters.commits),
            commit_failures: Counters::get(&counters.commit_failures),
            checkpoint_failures: Counters::get(&counters.checkpoint_failures),
            trim_failures: Counters::get(&counters.trim_failures),
            files_written: Counters::get(&counters.files_written),
            rows_written: Counters::get(&counters.rows_written),
            bytes_written: Counters::get(&counters.bytes_written),
            maintenance: counters.maintenance(),
            last_flush: Duration::from_micros(Counters::get(&counters.last_flush_micros)),
            log: match &self.source {
                Source::Log(log) => log.stats(),
                Source::Shared { .. } | Source::ReadOnly { .. } => LogStats::default(),
            },
            tables: tables.collect(),
        }
    }

    /// The last durable frame.
    pub fn durable(&self) -> Position {
        match &self.source {
            Source::Log(log) => log.durable(),
            Source::Shared { .. } => self.shared.hot().applied(),
            Source::ReadOnly { last } => *last,
        }
    }

    fn is_shut_down(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        match self.shared.failed() {
            Some(what) => Err(StoreError::Failed { what: what.to_owned() }),
            None => Ok(()),
        }
    }

    async fn wait_applied(&self) -> Result<(), StoreError> {
        self.check_alive()?;
        let durable = self.durable();
        let mut applied = self.shared.applied.subscribe();
        let waited = self.shared.options.apply_timeout;
        match tokio::time::timeout(waited, applied.wait_for(|applied| *applied >= durable)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                self.check_alive()?;
                Err(StoreError::Behind { applied: self.shared.hot().applied(), durable, waited })
            }
        }
    }
}

/// The end of a store, blocking. Frames whose append began before the closing are still taken.
fn close(log: Option<&Log>, shared: &Shared, threads: Threads) -> Result<(), StoreError> {
    // The log hands all frames over, then the applier sees the end of the queue.
    let log_closed = log.map_or(Ok(()), Log::close);
    let applied = threads.applier.map_or(Ok(()), |(applier, _)| applier.join());
    shared.flush.stop();
    let flushed = threads.flusher.join();
    // It was stopped before, and its panics are its own.
    let _ = threads.maintainer.join();
    if applied.is_err() || flushed.is_err() {
        return Err(StoreError::Failed { what: "a thread panicked".to_owned() });
    }
    log_closed?;
    let last = shared.flush.flushed.borrow().outcome.clone();
    let committed = last.map_err(StoreError::Lake)?;
    // Everything is in the tables: nothing of the log is needed but its name and the ids of recent batches.
    if let Some(log) = log
        && committed >= log.durable()
        && let Err(error) = log.empty(shared.unneeded(committed))
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "log not emptied, its files stay");
    }
    Ok(())
}

impl Drop for Store {
    fn drop(&mut self) {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return };
        self.shared.abandon();
        if let Some((applier, frames)) = threads.applier {
            frames.abandon();
            let _ = applier.join();
        }
        for thread in [threads.flusher, threads.maintainer] {
            let _ = thread.join();
        }
    }
}
