//! All tables of the lake, shared by the threads that commit to them.
//!
//! Who holds a table's lock is its only committer in this process, and tells the hot rows of a new version before letting go: so
//! versions reach readers in order. The flusher holds it while it writes and commits a unit; the maintainer for a commit alone, never
//! while it merges or deletes.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use uuid::Uuid;

use super::{StoreError, StoreOptions};
use crate::columns::Table;
use crate::lake::{Home, LakeRuntime, LakeTable, Snapshot};

/// One entry a table, in the order of [`Table::ALL`].
pub(super) struct Tables {
    pub(super) runtime: LakeRuntime,
    tables: Vec<Mutex<LakeTable>>,
}

impl Tables {
    /// Opens all tables in `dir`. Must be called, and the value dropped, outside of a runtime.
    pub(super) fn open(home: &Home, dir: &Path, log_id: Uuid, options: &StoreOptions) -> Result<Self, StoreError> {
        let runtime = LakeRuntime::new().map_err(|error| StoreError::Failed { what: format!("no runtime: {error}") })?;
        let open = |table| LakeTable::open(&runtime, home.clone(), dir, table, log_id, options.fault.clone()).map(Mutex::new);
        let tables = Table::ALL.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { runtime, tables })
    }

    pub(super) fn lock(&self, table: Table) -> MutexGuard<'_, LakeTable> {
        self.tables[table as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while somebody has it.
    pub(super) fn try_lock(&self, table: Table) -> Option<MutexGuard<'_, LakeTable>> {
        match self.tables[table as usize].try_lock() {
            Ok(table) => Some(table),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn snapshots(&self) -> Vec<std::sync::Arc<Snapshot>> {
        Table::ALL.into_iter().map(|table| self.lock(table).snapshot().clone()).collect()
    }
}
