//! Scouter's server: the doors, the one way in, the wiring.
//!
//! | layer | modules |
//! | --- | --- |
//! | wiring | [`app`], [`cli`] |
//! | doors | [`grpc`], [`http`], and their hinges, [`listener`]; [`consumer`], as which the reader of a shared log runs too |
//! | verbs | [`ingest`]; asking is the crate `scouter-query` |
//! | state | [`admission`], [`receive`], [`profiles`], [`postgres`], [`shared_log`]; the log, the hot rows and the tables are the crate `scouter-storage` |
//! | ground | [`auth`], [`config`], [`postgres_target`], [`tls`], [`telemetry`], [`error`] |
//!
//! Imports point down this table. **Invariant:** a door neither opens the log nor reads a table; it hands a
//! [`ingest::Submission`] to [`ingest::Ingest::submit`] and tells its client what the receipt says.

pub mod app;
pub mod cli;

pub mod consumer;
pub mod grpc;
pub mod http;
pub mod listener;

pub mod ingest;

pub mod admission;
pub mod postgres;
pub mod profiles;
pub mod receive;
#[cfg(feature = "kafka")]
pub mod shared_log;

pub mod auth;
pub mod config;
pub mod error;
#[cfg(feature = "kafka")]
mod kafka;
pub mod postgres_target;
pub mod telemetry;
pub mod tls;
