//! The thread that keeps the tables' files few, young enough and no more than are named: expiry, merging, deletion.
//!
//! A **round** takes each table in turn. It does bounded steps: at most [`MERGES_A_ROUND`] merges of a table, each of bounded input, each
//! ending in one commit; it rests between batches of rows and goes on with the next table. A table's lock is held for commits only, so that
//! flushes wait for a few syncs at most. Failures are counted, logged, and tried again in a later round.
//!
//! Invariants:
//! - one **owner** does this for a storage folder: see [`Owner`];
//! - rows are neither lost nor doubled, whatever dies when: a merge is one commit that names the new file and takes out the old ones;
//! - a file is deleted only when no version of the table that is on disk or held by a reader in this process names it, and its grace is
//!   over for readers outside.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::applier::Shared;
use super::stats::Counters;
use super::tables::Tables;
use super::{FaultPoint, MaintenanceOptions};
use crate::columns::Table;
use crate::lake::{self, LakeError, LakeTable, MergeRules, Pace, Replacing, Unnamed};

/// Merges of one table before the next table has its turn.
const MERGES_A_ROUND: usize = 4;

/// Files deleted in one step.
const DELETES_A_STEP: usize = 200;

/// What others commit to a shared table is known to a round that is younger than this.
const LOOK_AGE: Duration = Duration::from_secs(1);

/// Pause after a merge that failed.
const MERGE_BACKOFF: Duration = Duration::from_secs(60);

const MILLIS_A_DAY: u64 = 86_400_000;

/// How the round that answers a request ended.
#[derive(Debug, Clone)]
pub(super) struct Maintained {
    pub(super) request: u64,
    pub(super) outcome: Result<(), Arc<LakeError>>,
}

/// How other threads talk to the maintainer.
#[derive(Debug)]
pub(super) struct MaintenanceControl {
    requested: Mutex<u64>,
    changed: Condvar,
    stop: AtomicBool,
    pub(super) maintained: watch::Sender<Maintained>,
}

impl Default for MaintenanceControl {
    fn default() -> Self {
        let nothing = Maintained { request: 0, outcome: Ok(()) };
        Self { requested: Mutex::default(), changed: Condvar::new(), stop: AtomicBool::new(false), maintained: watch::Sender::new(nothing) }
    }
}

impl MaintenanceControl {
    fn requested(&self) -> MutexGuard<'_, u64> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for rounds until nothing is left to do; gives the number under which their outcome is told.
    pub(super) fn request(&self) -> u64 {
        let mut requested = self.requested();
        *requested += 1;
        self.changed.notify_all();
        *requested
    }

    /// Ends the work at its next step.
    pub(super) fn stop(&self) {
        let _requested = self.requested();
        self.stop.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits for a request or the end of the pause; gives the number of the last request.
    fn wait(&self, pause: Duration, answered: u64) -> u64 {
        let idle = |requested: &mut u64| *requested == answered && !self.is_stopped();
        if pause.is_zero() {
            return *self.changed.wait_while(self.requested(), idle).unwrap_or_else(PoisonError::into_inner);
        }
        *self.changed.wait_timeout_while(self.requested(), pause, idle).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What is remembered of one table between rounds.
#[derive(Default)]
struct TableWork {
    unnamed: Unnamed,
    swept: Option<Instant>,
    not_mergeable: HashSet<PathBuf>,
    /// A merge failed; the next is tried after this, since on a full disk each attempt writes for nothing.
    merge_after: Option<Instant>,
}

/// The maintainer of all tables.
pub(super) struct Maintainer {
    pub(super) shared: Arc<Shared>,
    pub(super) tables: Arc<Tables>,
    work: Vec<TableWork>,
}

impl Maintainer {
    pub(super) fn new(shared: Arc<Shared>, tables: Arc<Tables>) -> Self {
        Self { shared, tables, work: Table::ALL.map(|_| TableWork::default()).into() }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        lake::yield_to_others();
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.rounds())).is_err() {
            // Rows are as safe as before; only files grow in number.
            Counters::add(&shared.counters.maintenance_failures, 1);
            tracing::error!("the maintainer panicked; files are not merged and not deleted until the next start");
        }
        shared.maintenance.maintained.send_modify(|maintained| maintained.request = u64::MAX);
    }

    fn rounds(&mut self) {
        let mut answered = 0;
        loop {
            let control = &self.shared.maintenance;
            let request = control.wait(self.shared.options.maintenance.interval, answered);
            if control.is_stopped() {
                return;
            }
            let is_asked = request != answered;
            answered = request;
            let mut outcome = self.round(is_asked);
            while is_asked && matches!(outcome, Ok(true)) {
                outcome = self.round(is_asked);
            }
            if matches!(outcome, Err(LakeError::Injected { dies: true, .. } | LakeError::Stopped)) {
                return;
            }
            self.shared.maintenance.maintained.send_replace(Maintained { request, outcome: outcome.map(drop).map_err(Arc::new) });
        }
    }

    /// One round over all tables; says whether something was merged or expired, after which there may be more to do. On failure the other
    /// tables are still served; the first error is given.
    fn round(&mut self, is_asked: bool) -> Result<bool, LakeError> {
        let mut failure = None;
        let mut is_busy = false;
        for table in Table::ALL {
            match self.maintain(table, is_asked) {
                Ok(busy) => is_busy |= busy,
                Err(error @ (LakeError::Stopped | LakeError::Injected { dies: true, .. })) => return Err(error),
                Err(error) => {
                    Counters::add(&self.shared.counters.maintenance_failures, 1);
                    tracing::warn!(
                        table = table.name(),
                        error = &error as &dyn std::error::Error,
                        "files not maintained, trying again later"
                    );
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(is_busy), Err)
    }

    fn maintain(&mut self, table: Table, is_asked: bool) -> Result<bool, LakeError> {
        let grace = self.options().delete_grace;
        // A folder belongs to who holds its lock. Of the servers that share tables one is chosen; if two take themselves for it for a while,
        // one of them does the other's work in vain.
        let maintains = self.shared.maintains.load(Ordering::Acquire);
        self.pace().rest()?;
        {
            let mut lake_table = self.tables.lock(table);
            lake_table.look(&self.tables.runtime, LOOK_AGE)?;
            self.shared.hot().replaced(table, lake_table.snapshot());
            if !maintains {
                lake_table.forget_taken_out(grace);
                return Ok(false);
            }
        }
        let mut is_busy = self.expire(table)?;
        let may_merge = is_asked || self.work[table as usize].merge_after.is_none_or(|after| Instant::now() >= after);
        for _ in 0..if may_merge { MERGES_A_ROUND } else { 0 } {
            let merged = self.merge(table);
            self.work[table as usize].merge_after = merged.is_err().then(|| Instant::now() + MERGE_BACKOFF);
            if !merged? {
                break;
            }
            is_busy = true;
        }
        self.delete(table, is_asked)?;
        Ok(is_busy)
    }

    fn options(&self) -> &MaintenanceOptions {
        &self.shared.options.maintenance
    }

    fn pace(&self) -> Pace<'_> {
        Pace::new(&self.shared.maintenance.stop, self.options().rest)
    }

    /// Takes files of dates that are past their retention out of the table, some at a time; says whether there were any.
    fn expire(&self, table: Table) -> Result<bool, LakeError> {
        let Some(days) = self.options().retention_days else { return Ok(false) };
        let today = i32::try_from(now_unix_millis() / MILLIS_A_DAY).unwrap_or(i32::MAX);
        let before = today.saturating_add(1).saturating_sub(i32::try_from(days).unwrap_or(i32::MAX));
        let mut lake_table = self.tables.lock(table);
        let expired = lake_table.snapshot().files.iter().filter(|file| file.date < before);
        let expired: Vec<_> = expired.take(self.options().expire_max_files.max(1)).cloned().collect();
        if expired.is_empty() {
            return Ok(false);
        }
        let replaced = self.replace(&mut lake_table, &expired, Vec::new(), Replacing::Expired { before })?;
        drop(lake_table);
        if replaced {
            let rows: u64 = expired.iter().map(|file| file.rows).sum();
            Counters::add(&self.shared.counters.files_expired, expired.len() as u64);
            Counters::add(&self.shared.counters.rows_expired, rows);
            tracing::info!(table = table.name(), files = expired.len(), rows, "rows past their retention dropped");
        }
        Ok(replaced)
    }

    /// One merge, if one is due; says whether there was one.
    fn merge(&mut self, table: Table) -> Result<bool, LakeError> {
        let options = self.options();
        let rules = MergeRules {
            target_bytes: options.target_file_bytes,
            min_files: options.merge_min_files,
            max_files: options.merge_max_files,
            min_age: options.merge_min_age,
            settled_age: options.settled_age,
        };
        let (place, snapshot) = {
            let lake_table = self.tables.lock(table);
            (lake_table.place(), Arc::clone(lake_table.snapshot()))
        };
        let work = &self.work[table as usize];
        let Some(inputs) = lake::choose(&snapshot.files, now_unix_millis(), &rules, &work.not_mergeable) else { return Ok(false) };
        drop(snapshot);
        let started = Instant::now();
        let merged = match lake::merge(&place, &inputs, &mut self.pace())? {
            Ok(merged) => merged,
            Err(left_out) => {
                tracing::warn!(table = table.name(), file = %left_out.path.display(), why = left_out.why, "file left as it is");
                self.work[table as usize].not_mergeable.insert(left_out.path);
                return Ok(true);
            }
        };
        let (bytes, rows, duplicates) = (merged.file.size_bytes, merged.file.rows, merged.duplicates);
        let mut lake_table = self.tables.lock(table);
        let why = Replacing::Merged { target_bytes: rules.target_bytes };
        let replaced = self.replace(&mut lake_table, &inputs, vec![merged.file], why)?;
        drop(lake_table);
        if replaced {
            let counters = &self.shared.counters;
            Counters::add(&counters.merges, 1);
            Counters::add(&counters.files_merged, inputs.len() as u64);
            Counters::add(&counters.rows_merged, rows + duplicates);
            Counters::add(&counters.merged_bytes_read, inputs.iter().map(|file| file.size_bytes).sum());
            Counters::add(&counters.merged_bytes_written, bytes);
            Counters::add(&counters.duplicates_removed, duplicates);
            let took = started.elapsed();
            tracing::debug!(table = table.name(), files = inputs.len(), rows, bytes, duplicates, ?took, "files merged");
        }
        Ok(replaced)
    }

    /// Commits, and tells readers.
    fn replace(
        &self,
        lake_table: &mut LakeTable,
        removed: &[Arc<lake::DataFile>],
        added: Vec<lake::DataFile>,
        why: Replacing,
    ) -> Result<bool, LakeError> {
        let replaced = lake_table.replace(&self.tables.runtime, removed, added, why)?;
        self.shared.hot().replaced(lake_table.table(), lake_table.snapshot());
        if replaced && let Err(error) = lake_table.maintain(&self.tables.runtime) {
            Counters::add(&self.shared.counters.checkpoint_failures, 1);
            tracing::warn!(table = lake_table.table().name(), error = &error as &dyn std::error::Error, "checkpoint not written");
        }
        Ok(replaced)
    }

    /// Deletes files that nobody may read any more.
    fn delete(&mut self, table: Table, is_asked: bool) -> Result<(), LakeError> {
        let options = self.shared.options.maintenance.clone();
        let grace = options.delete_grace;
        let (place, mut paths) = {
            let mut lake_table = self.tables.lock(table);
            lake_table.freshen(&self.tables.runtime)?;
            self.shared.hot().replaced(table, lake_table.snapshot());
            (lake_table.place(), lake_table.unread_files(grace, DELETES_A_STEP))
        };
        let work = &mut self.work[table as usize];
        if is_asked || work.swept.is_none_or(|swept| swept.elapsed() >= options.sweep_interval) {
            let listed = lake::list(&place)?;
            // Looked at after the listing: a unit whose files were listed is committed by now, or its commit failed and the table is stale.
            let lake_table = self.tables.lock(table);
            if !lake_table.is_stale() {
                let files = lake_table.snapshot().files.iter().map(AsRef::as_ref);
                let named = lake::names_of(files.chain(lake_table.taken_out()));
                paths.extend(work.unnamed.due(place.home(), listed, |path| named.contains(path), grace, DELETES_A_STEP));
                lake::remove_empty_dates(&place, &named);
                work.swept = Some(Instant::now());
                work.not_mergeable.retain(|path| named.contains(path));
            }
        }
        if paths.is_empty() {
            return Ok(());
        }
        let fault = &self.shared.options.fault;
        fault.check(FaultPoint::BeforeDelete, table)?;
        let mut pace = Pace::new(&self.shared.maintenance.stop, options.rest);
        let deleted = lake::delete(&place, &self.tables.runtime, &paths, || {
            fault.check(FaultPoint::WhileDeleting, table)?;
            pace.rest()
        });
        self.shared.trace_index.forget(&paths);
        let (files, bytes) = deleted?;
        Counters::add(&self.shared.counters.files_deleted, files);
        Counters::add(&self.shared.counters.bytes_deleted, bytes);
        Ok(())
    }
}

fn now_unix_millis() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
