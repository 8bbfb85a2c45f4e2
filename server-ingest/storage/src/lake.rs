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
//! - a file that a published commit may name is deleted only after another one took it out, when no reader in this process holds it and
//!   a grace for others is over;
//! - a commit that puts merged files in the place of others carries no position: the one of the last unit stays the table's.
//!
//! Why commits are published here and not by delta-rs: `docs/adr/0004-delta-commits.md`. Merging, deletion and trace indexes:
//! `docs/adr/0006-lake-maintenance.md`.

mod choose;
mod commit_log;
mod damage;
mod encoding;
mod error;
mod gather;
mod home;
mod leaves;
mod merge;
mod order;
mod pace;
mod pages;
mod parquet_file;
mod schema;
mod snapshot;
mod table;
mod trace_index;
mod vacuum;
mod words;

#[cfg(test)]
mod tests;

pub use error::LakeError;
pub use home::{ObjectFolder, Objects, ObjectsError};
pub use snapshot::{DataFile, Snapshot};
pub use trace_index::TraceIndex;

pub(crate) use choose::{MergeRules, choose};
pub(crate) use commit_log::Replacing;
pub(crate) use home::Home;
pub(crate) use merge::merge;
pub(crate) use pace::{Pace, yield_to_others};
pub(crate) use table::{LakeRuntime, LakeTable, Mark};
pub(crate) use vacuum::{Unnamed, delete, list, names_of, remove_empty_dates};
