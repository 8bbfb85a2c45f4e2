//! The files of one version of a table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::log::Position;

/// The files of one version of a table, and the log position up to which it holds every row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Delta version; `None` while the table does not exist.
    pub version: Option<i64>,
    /// Every row of this table that came in at or before this position is in `files`, and none that came in after it.
    pub position: Position,
    /// Of a table that several servers share: by source, the position before which it holds every row. The position above is then counted
    /// by this process alone.
    pub sources: Arc<BTreeMap<String, u64>>,
    /// The files, oldest commit first for those this process wrote. Shared, so that the next version costs no copy of them.
    pub files: Vec<Arc<DataFile>>,
}

/// One Parquet file. Its rows lack the partition column: `date` is the same for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Size of the file.
    pub size_bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The partition: days since 1970-01-01.
    pub date: i32,
    /// Smallest `start_time` (spans) or `created_at` in microseconds since 1970 UTC, if known.
    pub min_time_micros: Option<i64>,
    /// Largest `start_time` (spans) or `created_at` in microseconds since 1970 UTC, if known.
    pub max_time_micros: Option<i64>,
}

impl Snapshot {
    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}
