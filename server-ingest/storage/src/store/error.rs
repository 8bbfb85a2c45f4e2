//! What can go wrong with a store, by what the caller does about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::lake::LakeError;
use crate::log::{LogError, Position};

/// Why a store could not be opened, written or read. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the folder. Ask it instead.
    #[error("the storage in {path} is in use by {holder}", path = path.display())]
    InUse {
        /// The storage folder.
        path: PathBuf,
        /// What the holder says about itself: its address.
        holder: String,
    },
    /// There is nothing to read in the folder.
    #[error("there is no storage in {path}", path = path.display())]
    NotFound {
        /// The storage folder.
        path: PathBuf,
    },
    /// A folder could not be made, read or written.
    #[error("could not {action} {path}", path = path.display())]
    Folder {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A table could not be read or written.
    #[error("the tables could not be used")]
    Lake(#[source] Arc<LakeError>),
    /// Rows that are durable were not applied in time: the tables cannot be written and the hot rows are full, or the machine
    /// is overloaded. Try again later.
    #[error("rows up to position {applied} of {durable} were applied after {waited:?}")]
    Behind {
        /// Applied so far.
        applied: Position,
        /// What was waited for.
        durable: Position,
        /// How long.
        waited: Duration,
    },
    /// The store is open for reading only.
    #[error("the storage is open for reading only")]
    ReadOnly,
    /// The store was shut down.
    #[error("the storage is closed")]
    Closed,
    /// The shutdown did not finish in time. Nothing is lost: what is not in the tables is in the log.
    #[error("the storage did not shut down within {deadline:?}; rows after position {committed} stay in the log")]
    ShutdownTimeout {
        /// The time it had.
        deadline: Duration,
        /// Everything up to here is in the tables.
        committed: Position,
    },
    /// A thread of the store ended where it must not. The server has to be started again; what was acknowledged is in the log.
    #[error("the storage failed: {what}")]
    Failed {
        /// Which, and why.
        what: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody starting the server again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Lake(_) | Self::Behind { .. } => true,
            _ => false,
        }
    }

    pub(super) fn folder(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Folder { action, path: path.to_owned(), source: Arc::new(source) }
    }
}

impl From<LakeError> for StoreError {
    fn from(error: LakeError) -> Self {
        Self::Lake(Arc::new(error))
    }
}
