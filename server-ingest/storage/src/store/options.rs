//! Settings of a store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::columns::Table;
use crate::lake::LakeError;
use crate::log::{Durability, LogOptions};

/// Settings of a store. All sizes in bytes.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What the lock file says about its holder: the address other programs can ask, such as `http://127.0.0.1:8000`.
    pub holder: String,
    /// When an append is answered.
    pub durability: Durability,
    /// Disk the log may use. Above it appends are refused until a flush lets the log go of something.
    pub log_max_bytes: u64,
    /// Somebody beside the tables reads the log: nothing of it is let go before [`super::Store::let_go`] says so.
    pub hold_log: bool,
    /// When everything is committed and nothing came for so long, the log lets go of its large files.
    pub log_rest_after: Duration,
    /// How long rows stay uncommitted when there are few.
    pub flush_interval: Duration,
    /// Hot rows that start a flush at once.
    pub flush_rows: usize,
    /// Hot bytes that start a flush at once.
    pub flush_bytes: usize,
    /// Hot bytes above which no further frame is applied until a flush is through; callers of [`super::Store::append`] then wait.
    pub hot_max_bytes: usize,
    /// How long [`super::Store::cut`] and [`super::Store::flush`] wait for frames to be applied.
    pub apply_timeout: Duration,
    /// Memory of the indexes that tell which files may hold a trace.
    pub trace_index_bytes: usize,
    /// Merging, expiry and deletion of files.
    pub maintenance: MaintenanceOptions,
    /// Failures for tests.
    pub fault: FaultHook,
}

/// Settings of the background work on the tables' files.
#[derive(Debug, Clone)]
pub struct MaintenanceOptions {
    /// Pause between two rounds. Zero switches the rounds off; what is asked for by [`super::Store::maintain`] is still done.
    pub interval: Duration,
    /// Size that merged files are meant to reach, in bytes. Files above half of it are left as they are.
    pub target_file_bytes: u64,
    /// Files read by one merge.
    pub merge_max_files: usize,
    /// Files of a date that are worth a merge.
    pub merge_min_files: usize,
    /// Younger files are left alone.
    pub merge_min_age: Duration,
    /// When the youngest file of a date is as old as this, two files are worth a merge.
    pub settled_age: Duration,
    /// How long the merging thread rests, as a multiple of the time it works.
    pub rest: f64,
    /// How long a file that was taken out of its table, or that no table names, stays on disk at least.
    pub delete_grace: Duration,
    /// Time between two searches for files that no table names.
    pub sweep_interval: Duration,
    /// Dates that are kept, today's included; `None` keeps all.
    pub retention_days: Option<u32>,
    /// Files that one commit of expiry takes out.
    pub expire_max_files: usize,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            target_file_bytes: 128 * 1024 * 1024,
            merge_max_files: 256,
            merge_min_files: 8,
            merge_min_age: Duration::from_secs(120),
            settled_age: Duration::from_secs(3600),
            rest: 1.0,
            delete_grace: Duration::from_secs(600),
            sweep_interval: Duration::from_secs(600),
            retention_days: None,
            expire_max_files: 500,
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            holder: String::new(),
            durability: Durability::default(),
            log_max_bytes: LogOptions::default().max_bytes,
            hold_log: false,
            log_rest_after: Duration::from_secs(60),
            flush_interval: Duration::from_secs(1),
            flush_rows: 131_072,
            flush_bytes: 64 * 1024 * 1024,
            hot_max_bytes: 128 * 1024 * 1024,
            apply_timeout: Duration::from_secs(10),
            trace_index_bytes: 64 * 1024 * 1024,
            maintenance: MaintenanceOptions::default(),
            fault: FaultHook::default(),
        }
    }
}

impl StoreOptions {
    pub(super) fn log_options(&self) -> LogOptions {
        let defaults = LogOptions::default();
        let segment_bytes = defaults.segment_bytes.min(self.log_max_bytes / 4);
        // Segments come in blocks of 4096 bytes.
        let segment_bytes = (segment_bytes - segment_bytes % 4096).max(16 * 1024);
        LogOptions { durability: self.durability, max_bytes: self.log_max_bytes, segment_bytes, ..defaults }
    }
}

/// A place between two durable steps, where a process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// The Parquet files are synced, the commit is not written.
    AfterParquet,
    /// The commit is durable, the hot rows do not know.
    AfterCommit,
    /// All commits of a flush are durable and known, the log is not trimmed.
    BeforeTrim,
    /// Merged files are synced, or the files that expired are chosen; the commit that takes the old ones out is not written.
    BeforeReplace,
    /// That commit is durable, the hot rows do not know.
    AfterReplace,
    /// The files to delete are chosen, none is deleted.
    BeforeDelete,
    /// Some of them are deleted.
    WhileDeleting,
}

/// What a test wants to happen at a [`FaultPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The step fails; the store goes on as it does after any failure.
    Fail,
    /// The flusher, or the maintainer if it met the point, stops for good, as if the process had died.
    Die,
}

/// Answers what happens at a [`FaultPoint`] of a table.
type FaultAnswer = dyn Fn(FaultPoint, Table) -> Fault + Send + Sync;

/// Asked at every [`FaultPoint`]; without a function, which is the default, nothing happens.
#[derive(Clone, Default)]
pub struct FaultHook(Option<Arc<FaultAnswer>>);

impl FaultHook {
    /// A hook that asks `answer`.
    pub fn new(answer: impl Fn(FaultPoint, Table) -> Fault + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(answer)))
    }

    pub(crate) fn check(&self, point: FaultPoint, table: Table) -> Result<(), LakeError> {
        match self.0.as_ref().map_or(Fault::None, |answer| answer(point, table)) {
            Fault::None => Ok(()),
            Fault::Fail => Err(LakeError::Injected { point, dies: false }),
            Fault::Die => Err(LakeError::Injected { point, dies: true }),
        }
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "FaultHook(on)" } else { "FaultHook(off)" })
    }
}
