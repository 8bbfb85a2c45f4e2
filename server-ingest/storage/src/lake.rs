//! The tables on disk: sorted Parquet files, each Delta commit carrying the log position it covers.
//!
//! One Delta table per [`Table`](crate::columns::Table) under `tables/<name>/`, made at its first commit and partitioned by `date`.
//! This is the only place that knows Parquet and Delta; readers get plain paths in a [`Snapshot`].
//!
//! Terms: a **unit** is the rows of one table that one commit covers; its **position** is the last log frame they come from;
//! a **snapshot** is the files of one table version.
//!
//! Invariants:
//! - a commit holds the files of exactly one unit and a `txn` action (application id = the log's UUID, version = the unit's
//!   position); it is published at the version after the snapshot whose `txn` was compared, by an operation that fails when
//!   that version exists. A unit is therefore in the table once or not at all, whoever else commits;
//! - files, their folders, the commit and its folder are synced before [`LakeTable::commit`] answers, in that order, so the log
//!   may be trimmed after it;
//! - a file that a published commit may name is never deleted here.
//!
//! Why commits are published here and not by delta-rs: `docs/adr/0004-delta-commits.md`.

mod commit_log;
mod error;
mod order;
mod parquet_file;
mod schema;
mod snapshot;
mod table;

#[cfg(test)]
mod tests;

pub use error::LakeError;
pub use snapshot::{DataFile, Snapshot};

pub(crate) use table::{LakeRuntime, LakeTable};
