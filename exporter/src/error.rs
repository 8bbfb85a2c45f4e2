//! What can go wrong after a pipeline was built.

use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkError;

use crate::stats::DropReason;

/// Why spans or records handed to `send` did not all reach the server. What was lost is counted in [`Stats`](crate::Stats).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The pipeline was shut down before.
    #[error("the exporter is shut down")]
    AlreadyShutdown,
    /// Some were dropped.
    #[error("{count} dropped ({reason}): {message}")]
    Dropped {
        /// Spans or records.
        count: u64,
        /// Why, as counted.
        reason: DropReason,
        /// The server's words, or those of the network.
        message: String,
    },
    /// The server stored the rest and refused these for ever.
    #[error("the server rejected {count}: {message}")]
    Rejected {
        /// Spans or records.
        count: u64,
        /// The server's words.
        message: String,
    },
}

impl From<ExportError> for OTelSdkError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::AlreadyShutdown => OTelSdkError::AlreadyShutdown,
            other => OTelSdkError::InternalFailure(other.to_string()),
        }
    }
}

/// Why a flush did not deliver everything that ended before it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// Time was up. What is left stays queued.
    #[error("flush: {pending} still pending after {timeout:?}; {last_error}")]
    Timeout {
        /// The time given.
        timeout: Duration,
        /// Spans and records not yet decided.
        pending: u64,
        /// What the last attempt met; empty when none failed.
        last_error: String,
    },
    /// All was decided, but some of it was dropped or rejected during the flush.
    #[error("flush: {lost} lost; {last_error}")]
    Lost {
        /// Spans and records dropped or rejected.
        lost: u64,
        /// The server's words.
        last_error: String,
    },
    /// The server refuses the credentials; the queue is kept until they are accepted or the pipeline shuts down.
    #[error("flush: the server refuses the credentials: {message}")]
    Credentials {
        /// The server's words.
        message: String,
    },
    /// The pipeline was shut down before.
    #[error("the exporter is shut down")]
    AlreadyShutdown,
}

impl From<FlushError> for OTelSdkError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::AlreadyShutdown => OTelSdkError::AlreadyShutdown,
            FlushError::Timeout { timeout, .. } => OTelSdkError::Timeout(timeout),
            other => OTelSdkError::InternalFailure(other.to_string()),
        }
    }
}
