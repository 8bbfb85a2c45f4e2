//! Figures of a store, for people and for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::columns::Table;
use crate::log::{LogStats, Position};

/// Figures of a store. Counters count from its opening.
#[derive(Debug, Clone)]
pub struct StoreStats {
    /// Rows that are not yet in a table.
    pub hot_rows: usize,
    /// About what they take in memory.
    pub hot_bytes: usize,
    /// The last durable frame.
    pub durable: Position,
    /// The last frame whose rows can be read.
    pub applied: Position,
    /// Everything up to here is in the tables.
    pub committed: Position,
    /// Delta commits.
    pub commits: u64,
    /// Commits that failed and were or will be tried again.
    pub commit_failures: u64,
    /// Checkpoints that failed; the next one is tried some commits later.
    pub checkpoint_failures: u64,
    /// Trims of the log that failed; tried again with the next flush.
    pub trim_failures: u64,
    /// Parquet files written.
    pub files_written: u64,
    /// Rows in them.
    pub rows_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// What was done with the tables' files in the background.
    pub maintenance: MaintenanceStats,
    /// How long the last flush with rows took; zero before the first.
    pub last_flush: Duration,
    /// Figures of the log; zero for a store that is open for reading.
    pub log: LogStats,
    /// One entry a table, in the order of [`Table::ALL`].
    pub tables: Vec<TableStats>,
}

/// Figures of the background work on the tables' files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaintenanceStats {
    /// Merges committed.
    pub merges: u64,
    /// Files they took out.
    pub files_merged: u64,
    /// Rows they read.
    pub rows_merged: u64,
    /// Bytes of the files they took out.
    pub merged_bytes_read: u64,
    /// Bytes of the files they wrote.
    pub merged_bytes_written: u64,
    /// Spans that were in twice and were left out.
    pub duplicates_removed: u64,
    /// Files of dates past their retention that were taken out.
    pub files_expired: u64,
    /// Rows in them.
    pub rows_expired: u64,
    /// Files deleted from disk.
    pub files_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Steps that failed and are tried again.
    pub failures: u64,
}

/// Figures of one table.
#[derive(Debug, Clone)]
pub struct TableStats {
    /// The table.
    pub table: Table,
    /// Its Delta version, if it exists.
    pub version: Option<i64>,
    /// The position its last commit carries. A table that got no rows since stays behind the others.
    pub committed: Position,
    /// Its files.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that are sealed but not yet in it.
    pub hot_rows: usize,
}

/// What is counted on the way.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) commit_failures: AtomicU64,
    pub(super) checkpoint_failures: AtomicU64,
    pub(super) trim_failures: AtomicU64,
    pub(super) files_written: AtomicU64,
    pub(super) rows_written: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) last_flush_micros: AtomicU64,
    pub(super) merges: AtomicU64,
    pub(super) files_merged: AtomicU64,
    pub(super) rows_merged: AtomicU64,
    pub(super) merged_bytes_read: AtomicU64,
    pub(super) merged_bytes_written: AtomicU64,
    pub(super) duplicates_removed: AtomicU64,
    pub(super) files_expired: AtomicU64,
    pub(super) rows_expired: AtomicU64,
    pub(super) files_deleted: AtomicU64,
    pub(super) bytes_deleted: AtomicU64,
    pub(super) maintenance_failures: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn maintenance(&self) -> MaintenanceStats {
        MaintenanceStats {
            merges: Self::get(&self.merges),
            files_merged: Self::get(&self.files_merged),
            rows_merged: Self::get(&self.rows_merged),
            merged_bytes_read: Self::get(&self.merged_bytes_read),
            merged_bytes_written: Self::get(&self.merged_bytes_written),
            duplicates_removed: Self::get(&self.duplicates_removed),
            files_expired: Self::get(&self.files_expired),
            rows_expired: Self::get(&self.rows_expired),
            files_deleted: Self::get(&self.files_deleted),
            bytes_deleted: Self::get(&self.bytes_deleted),
            failures: Self::get(&self.maintenance_failures),
        }
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
