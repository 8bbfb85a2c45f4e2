//! A store whose tables several servers share, and whose frames come from a log that they share too.
//!
//! The log has **sources**, its partitions; each is read by one server at a time, which offers the frames to its store. A commit says of each
//! source how far the table gets by it, and is made only if the table has none of its rows: when a source was taken over by another server
//! that has committed, the commit fails, the rows that are not in the tables are dropped, and a new **epoch** begins, in which the sources are
//! read anew from where the log says they are settled.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::applier::{Offered, Settled, Shared};
use super::hot::Origin;
use super::tables::Tables;
use super::{Source, Store, StoreError, StoreOptions, open};
use crate::columns::Table;
use crate::lake::{LakeTable, Objects};
use crate::log::Frame;

/// A reader sees what others committed so long ago.
const LOOK_AGE: Duration = Duration::from_millis(300);

/// The tables, for looking at what others have committed.
#[derive(Clone)]
pub(super) struct SharedTables(Arc<Tables>);

impl SharedTables {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        Self(tables)
    }

    /// Has readers see what others committed to `table`, unless the table is being committed to: nobody waits for that. Blocking.
    pub(super) fn look(&self, shared: &Shared, table: Table) -> Result<(), StoreError> {
        match self.0.try_lock(table) {
            Some(lake_table) => self.look_at(lake_table, shared, LOOK_AGE),
            None => Ok(()),
        }
    }

    fn look_at(&self, mut lake_table: MutexGuard<'_, LakeTable>, shared: &Shared, age: Duration) -> Result<(), StoreError> {
        let table = lake_table.table();
        lake_table.look(&self.0.runtime, age)?;
        shared.hot().replaced(table, lake_table.snapshot());
        Ok(())
    }
}

impl std::fmt::Debug for SharedTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedTables")
    }
}

impl Store {
    /// Opens the tables in an object store, for one of several servers. Blocking; may be called inside or outside of a runtime.
    ///
    /// # Errors
    /// [`StoreError::Lake`] when a table cannot be read.
    pub fn open_shared(objects: &Objects, options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let objects = objects.clone();
        open::on_own_thread(move || open::open_shared(&objects, &options))
    }

    pub(super) fn shared_tables(&self) -> Option<&SharedTables> {
        match &self.source {
            Source::Shared { tables, .. } => Some(tables),
            Source::Log(_) | Source::ReadOnly { .. } => None,
        }
    }

    /// Where the tables are, if servers share them.
    pub fn objects(&self) -> Option<&Objects> {
        match &self.source {
            Source::Shared { objects, .. } => Some(objects),
            Source::Log(_) | Source::ReadOnly { .. } => None,
        }
    }

    /// Begins a new epoch: drops the rows that are not in the tables. Its frames are to be read again.
    pub fn begin_epoch(&self) -> u64 {
        self.shared.drop_rows()
    }

    /// Before the first frame of some sources: looks how far the tables are. Gives, for each, a position before which some table has all rows;
    /// a log that ends before it is not the one that the tables were filled from. Frames before it are offered all the same, if they are not
    /// settled: other tables may lack their rows. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Lake`] when a table cannot be read.
    pub fn begin_sources(&self, sources: &[Arc<str>]) -> Result<Vec<u64>, StoreError> {
        let Some(tables) = self.shared_tables() else { return Err(StoreError::ReadOnly) };
        for table in Table::ALL {
            tables.look_at(tables.0.lock(table), &self.shared, Duration::ZERO)?;
        }
        let snapshots = tables.0.snapshots();
        let known = |source: &Arc<str>| snapshots.iter().filter_map(|snapshot| snapshot.sources.get(&**source)).max().copied();
        Ok(sources.iter().map(|source| known(source).unwrap_or(0)).collect())
    }

    /// Takes the frame at `offset` of a source, the next one or a later one than that before. Blocks for about `patience` while there is no
    /// room.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::Closed`]: nothing is taken any more.
    pub fn offer(&self, epoch: u64, source: &Arc<str>, offset: u64, frame: &Frame, patience: Duration) -> Result<Offered, StoreError> {
        self.check_alive()?;
        if self.closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(self.shared.apply_from(epoch, Origin { source, offset }, frame, patience))
    }

    /// How far everything is in the tables, as it changes.
    pub fn settled(&self) -> watch::Receiver<Settled> {
        self.shared.settled.subscribe()
    }

    /// Whether this server is the one that merges, expires and deletes the files of shared tables.
    pub fn set_maintains(&self, maintains: bool) {
        self.shared.maintains.store(maintains, Ordering::Release);
    }
}
