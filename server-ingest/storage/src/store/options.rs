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
    /// Failures for tests.
    pub fault: FaultHook,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            holder: String::new(),
            durability: Durability::default(),
            log_max_bytes: LogOptions::default().max_bytes,
            flush_interval: Duration::from_secs(1),
            flush_rows: 131_072,
            flush_bytes: 64 * 1024 * 1024,
            hot_max_bytes: 128 * 1024 * 1024,
            apply_timeout: Duration::from_secs(10),
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
}

/// What a test wants to happen at a [`FaultPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The step fails; the store goes on as it does after any failure.
    Fail,
    /// The flusher stops for good, as if the process had died.
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
