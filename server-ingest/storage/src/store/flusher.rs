//! The thread that moves hot rows into the tables and lets the log go of what is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::FaultPoint;
use super::applier::Shared;
use super::folder::CommittedMark;
use super::stats::Counters;
use super::tables::Tables;
use crate::columns::Table;
use crate::lake::LakeError;
use crate::log::{Log, LogError, Position};
use crate::scheduling;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Rows wait in memory meanwhile, and requests for them; whoever made room on a full disk does not want to wait as well.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How the flush that answers a request ended: everything up to the position is committed, or why not.
#[derive(Debug, Clone)]
pub(super) struct Flushed {
    pub(super) request: u64,
    pub(super) outcome: Result<Position, Arc<LakeError>>,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Number of the last request.
    requested: u64,
    /// There are many hot rows.
    urgent: bool,
    /// One more flush, then the end.
    stop: bool,
}

/// How other threads talk to the flusher.
#[derive(Debug)]
pub(super) struct FlushControl {
    wishes: Mutex<Wishes>,
    changed: Condvar,
    pub(super) flushed: watch::Sender<Flushed>,
}

impl Default for FlushControl {
    fn default() -> Self {
        let nothing = Flushed { request: 0, outcome: Ok(Position(0)) };
        Self { wishes: Mutex::default(), changed: Condvar::new(), flushed: watch::Sender::new(nothing) }
    }
}

impl FlushControl {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a flush that begins after this call; gives the number under which its outcome is told.
    pub(super) fn request(&self) -> u64 {
        let mut wishes = self.wishes();
        wishes.requested += 1;
        self.changed.notify_all();
        wishes.requested
    }

    /// Asks for a flush soon, unless the last one failed and the next one is due later.
    pub(super) fn urge(&self) {
        let mut wishes = self.wishes();
        if !wishes.urgent {
            wishes.urgent = true;
            self.changed.notify_all();
        }
    }

    pub(super) fn stop(&self) {
        self.wishes().stop = true;
        self.changed.notify_all();
    }

    /// Waits until a flush is due. Gives the number of the last request, and whether to stop after it.
    fn wait(&self, pause: Duration, backing_off: bool, answered: u64) -> (u64, bool) {
        let idle = |wishes: &mut Wishes| !wishes.stop && wishes.requested == answered && (backing_off || !wishes.urgent);
        let (mut wishes, _) = self.changed.wait_timeout_while(self.wishes(), pause, idle).unwrap_or_else(PoisonError::into_inner);
        wishes.urgent = false;
        (wishes.requested, wishes.stop)
    }
}

/// The writer of all tables' rows.
pub(super) struct Flusher {
    pub(super) shared: Arc<Shared>,
    pub(super) tables: Arc<Tables>,
    /// `None` where frames come from a log that is not ours to trim.
    pub(super) trimmer: Option<Trimmer>,
}

/// Lets the log go of what is in the tables.
pub(super) struct Trimmer {
    pub(super) mark: CommittedMark,
    /// What the mark says.
    marked: Position,
    trimmed: Position,
    /// When something was trimmed, or the log was last told to rest.
    idle_since: Instant,
}

impl Trimmer {
    pub(super) fn new(mark: CommittedMark) -> Self {
        Self { mark, marked: Position(0), trimmed: Position(0), idle_since: Instant::now() }
    }

    /// All tables have everything up to `committed`.
    fn trim(&mut self, log: &Log, shared: &Shared, committed: Position, is_good: bool) -> Result<(), LakeError> {
        let unneeded = shared.unneeded(committed);
        if committed > self.marked || unneeded > self.trimmed {
            shared.options.fault.check(FaultPoint::BeforeTrim, Table::Spans)?;
            if let Err(error) = self.mark.write(committed) {
                tracing::warn!(error = &error as &dyn std::error::Error, "committed position not noted, the next start decodes more");
            }
            self.marked = committed;
            match log.trim(unneeded) {
                Ok(()) => self.trimmed = unneeded,
                Err(error) => not_trimmed(shared, &error),
            }
            self.idle_since = Instant::now();
        } else if is_good && self.idle_since.elapsed() >= shared.options.log_rest_after {
            // Told again and again, as one call does not wait for what the log's other threads have to do.
            self.idle_since = Instant::now();
            if let Err(error) = log.rest(unneeded) {
                not_trimmed(shared, &error);
            }
        }
        Ok(())
    }
}

/// The rows are safe; only the disk stays used.
fn not_trimmed(shared: &Shared, error: &LogError) {
    Counters::add(&shared.counters.trim_failures, 1);
    tracing::warn!(error = error as &dyn std::error::Error, "log not trimmed");
}

impl Flusher {
    /// Runs until it is told to stop; the last flush comes after that.
    pub(super) fn run(mut self, log: Option<&Log>) {
        // Who waits for an answer must not wait for a whole file: it gives way while it writes one.
        scheduling::be_prompt();
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.work(log))).is_err() {
            shared.fail("the flusher panicked".to_owned());
        }
        // Nobody answers requests any more; those who wait see the sender's last word and then the failure or the closing.
        shared.flush.flushed.send_modify(|flushed| flushed.request = u64::MAX);
    }

    fn work(&mut self, log: Option<&Log>) {
        let mut answered = 0;
        let mut backoff = None;
        loop {
            let pause = backoff.unwrap_or(self.shared.options.flush_interval);
            let (request, stop) = self.shared.flush.wait(pause, backoff.is_some(), answered);
            if self.shared.is_abandoned() {
                return;
            }
            answered = request;
            let outcome = self.flush_and_trim(log);
            backoff = match &outcome {
                Ok(_) => None,
                Err(LakeError::Injected { dies: true, .. }) => return,
                Err(_) => Some(backoff.map_or(FIRST_BACKOFF, |last| (last * 2).min(MAX_BACKOFF))),
            };
            self.shared.flush.flushed.send_replace(Flushed { request, outcome: outcome.map_err(Arc::new) });
            if stop {
                return;
            }
        }
    }

    fn flush_and_trim(&mut self, log: Option<&Log>) -> Result<Position, LakeError> {
        let flushed = self.flush();
        if let Err(LakeError::Injected { dies: true, .. }) = flushed {
            return flushed;
        }
        match (&mut self.trimmer, log) {
            (Some(trimmer), Some(log)) => {
                let committed = self.shared.hot().all_committed();
                trimmer.trim(log, &self.shared, committed, flushed.is_ok())?;
            }
            _ => self.shared.tell_settled(),
        }
        flushed
    }

    /// Commits all hot rows there are when it begins. On failure the other tables are still tried; the first error is given.
    pub(super) fn flush(&mut self) -> Result<Position, LakeError> {
        let target = self.shared.hot().applied();
        loop {
            let committed = self.flush_units()?;
            // A unit that had failed before was committed alone; the rows after it come in the next round.
            if committed >= target {
                return Ok(committed);
            }
        }
    }

    fn flush_units(&mut self) -> Result<Position, LakeError> {
        let started = Instant::now();
        let units = self.shared.hot().units();
        let busy = !units.is_empty();
        let mut failure = None;
        for (table, unit) in units {
            let mut lake_table = self.tables.lock(table);
            debug_assert_eq!(lake_table.table(), table);
            let commit = match lake_table.commit(&self.tables.runtime, &unit.batches, unit.position, &unit.marks) {
                Ok(commit) => commit,
                Err(error @ LakeError::Injected { dies: true, .. }) => return Err(error),
                Err(error @ LakeError::TakenOver { .. }) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "rows that are not in the tables are dropped and read again");
                    self.shared.drop_rows();
                    return Err(error);
                }
                Err(error) => {
                    Counters::add(&self.shared.counters.commit_failures, 1);
                    tracing::warn!(table = table.name(), error = &error as &dyn std::error::Error, "rows not committed, trying again");
                    failure.get_or_insert(error);
                    continue;
                }
            };
            self.shared.hot().committed(table, &unit, commit.snapshot);
            self.shared.made_room();
            let counters = &self.shared.counters;
            Counters::add(&counters.commits, 1);
            Counters::add(&counters.files_written, commit.files);
            Counters::add(&counters.rows_written, commit.rows);
            Counters::add(&counters.bytes_written, commit.bytes);
            tracing::debug!(table = table.name(), position = unit.position.0, rows = commit.rows, "rows committed");
            if let Err(error) = lake_table.maintain(&self.tables.runtime) {
                Counters::add(&counters.checkpoint_failures, 1);
                tracing::warn!(table = table.name(), error = &error as &dyn std::error::Error, "checkpoint not written");
            }
        }
        if busy {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.shared.counters.last_flush_micros.store(micros, std::sync::atomic::Ordering::Relaxed);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(self.shared.hot().all_committed()),
        }
    }
}
