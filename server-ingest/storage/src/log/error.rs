//! What can go wrong with the log, by what the caller does about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the log refused, failed or could not be opened. Cheap to clone: every waiting caller gets one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A write or a sync failed. Final: nothing is accepted until the server is started again, because after a failed sync
    /// nobody knows what is on disk.
    #[error("the log failed for good: {action} {path}")]
    Failed {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        cause: Arc<io::Error>,
    },
    /// There is no room for another segment. Appends work again when there is.
    #[error("the disk of {dir} is full: the log needs {need_bytes} bytes for its next segment")]
    DiskFull {
        /// The log's folder.
        dir: PathBuf,
        /// Bytes of the segment that could not be made.
        need_bytes: u64,
        /// The operating system's answer.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The log holds as much as it may. Appends work again after a trim.
    #[error("the log in {dir} has spent its budget of {budget_bytes} bytes: {used_bytes} are in use and {need_bytes} more are needed")]
    BudgetExhausted {
        /// The log's folder.
        dir: PathBuf,
        /// `LogOptions::max_bytes`.
        budget_bytes: u64,
        /// Bytes of all its segments now.
        used_bytes: u64,
        /// Bytes of the segment that would not fit.
        need_bytes: u64,
    },
    /// The frame is larger than any request may be.
    #[error("a frame of {bytes} bytes is above the limit of {limit_bytes}")]
    TooLarge {
        /// Size of the payload or, where the lists are what is too long, of lists and payload.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Bytes that were durable once are not what they were.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A segment between others, or before all others, is not there.
    #[error("a segment of the log is missing in {dir}: frame {expected} should be next, but the next segment starts with {found}")]
    MissingSegment {
        /// The log's folder.
        dir: PathBuf,
        /// The position the missing segment starts with.
        expected: u64,
        /// The position the next segment starts with; 0 when there is none.
        found: u64,
    },
    /// The file belongs to another log.
    #[error("{file} belongs to another log")]
    WrongLog {
        /// The stranger.
        file: PathBuf,
    },
    /// Written by a newer version of the server.
    #[error("{file} has format version {version}; this server reads version {supported}")]
    UnsupportedVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
        /// Ours.
        supported: u32,
    },
    /// There is no log in the folder (read-only opening), or its `log.meta` is gone.
    #[error("there is no log in {dir}: {what}")]
    NoLog {
        /// The folder.
        dir: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Another process has the log open.
    #[error("the log in {dir} is in use")]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// A setting that cannot be.
    #[error("log setting {setting}: {what}")]
    Options {
        /// Field of `LogOptions`.
        setting: &'static str,
        /// What it must be.
        what: &'static str,
    },
    /// A file could not be read, or could not be written while opening or trimming.
    #[error("could not {action} {path}")]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        cause: Arc<io::Error>,
    },
}

impl LogError {
    /// Whether the same append may succeed later without anybody starting the server again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::BudgetExhausted { .. })
    }

    pub(super) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), cause: Arc::new(cause) }
    }

    /// The same fact, seen by a log that cannot go on after it.
    pub(super) fn into_final(self) -> Self {
        match self {
            Self::Io { action, path, cause } => Self::Failed { action, path, cause },
            other => other,
        }
    }

    /// Whether it says that the disk or the quota is used up.
    pub(super) fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { cause, .. } | Self::Failed { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}
