//! What can go wrong with the tables.

use std::io;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use deltalake_core::DeltaTableError;
use parquet::errors::ParquetError;

use crate::store::FaultPoint;

/// Why a table could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakeError {
    /// A file or folder could not be read or written.
    #[error("could not {action} {path}", path = path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The Delta log of a table could not be read or written.
    #[error("the Delta log of {path} could not be {action}", path = path.display())]
    Delta {
        /// What was being done, as a participle.
        action: &'static str,
        /// The table's folder.
        path: PathBuf,
        /// What delta-rs said.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// A file of a table's Delta log does not hold what was written to it.
    #[error("{path} is damaged ({what}); put a copy of it in its place", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, with the offset where that is known.
        what: String,
    },
    /// A Parquet file could not be written.
    #[error("could not write the Parquet file {path}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        #[source]
        source: ParquetError,
    },
    /// A Parquet file could not be read for merging.
    #[error("could not read the Parquet file {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: ParquetError,
    },
    /// Background work was told to stop; nothing of it is visible.
    #[error("stopped by the shutdown")]
    Stopped,
    /// Rows could not be brought into the order of a file.
    #[error("rows of table {table} could not be sorted")]
    Arrow {
        /// Name of the table.
        table: &'static str,
        /// What Arrow said.
        #[source]
        source: ArrowError,
    },
    /// The table in the folder has other columns than this server writes.
    #[error("the table in {path} has other columns than this server writes: {what}", path = path.display())]
    SchemaMismatch {
        /// The table's folder.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
    /// Another program changed the table in a way this server does not read.
    #[error("the table in {path} uses {what}, which this server does not read", path = path.display())]
    Unsupported {
        /// The table's folder.
        path: PathBuf,
        /// The feature.
        what: &'static str,
    },
    /// Others committed to the table at every attempt.
    #[error("{attempts} attempts to commit to {path} met a commit of another writer", path = path.display())]
    Contended {
        /// The table's folder.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// Another server has taken over the source of rows that were to be committed, and has committed some of them. Nothing was committed now.
    #[error("{source_name} was taken over: {path} has its rows before {found}, and these begin at {expected}", path = path.display())]
    TakenOver {
        /// The table's folder.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// The position that the table has.
        found: u64,
        /// The one that it was to have.
        expected: u64,
    },
    /// A test asked for a failure here.
    #[error("failure asked for at {point:?}")]
    Injected {
        /// Where.
        point: FaultPoint,
        /// Whether the flusher is to behave as if the process had died there.
        dies: bool,
    },
}

impl LakeError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn delta(action: &'static str, path: &Path, source: DeltaTableError) -> Self {
        Self::Delta { action, path: path.to_owned(), source: Box::new(source) }
    }
}
