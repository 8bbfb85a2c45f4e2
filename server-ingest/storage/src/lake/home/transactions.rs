//! How far each source of a shared table is: the `txn` actions of its newest version, all at once.
//!
//! delta-rs answers for one application at a time, reading the log for each. A table that takes from many partitions has one a partition.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde::Deserialize;

use super::objects::Objects;
use super::{Home, log_dir};
use crate::lake::LakeError;

/// What of `_last_checkpoint` is needed.
#[derive(Deserialize)]
struct LastCheckpoint {
    version: i64,
}

/// By application id: the position that `version` of the table has. Blocking.
pub(in crate::lake) fn positions(objects: &Objects, dir: &Path, version: i64) -> Result<BTreeMap<String, u64>, LakeError> {
    let mut positions = BTreeMap::new();
    let mut known = 0;
    let pointer = log_dir(dir).join("_last_checkpoint");
    match objects.read(&pointer) {
        Ok(bytes) => {
            let last: Option<LastCheckpoint> = serde_json::from_slice(&bytes).ok();
            let damaged = || LakeError::Damaged { path: pointer.clone(), what: "no version in it".to_owned() };
            known = last.ok_or_else(damaged)?.version;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(LakeError::io("read", &pointer, error)),
    }
    // The pointer is a hint, and may be older than what is there. A checkpoint may be newer than the version that is asked for; what it says is
    // then what the table says now.
    let checkpoint = objects.newest_checkpoint(dir, known)?;
    if let Some(checkpoint) = checkpoint {
        let path = log_dir(dir).join(format!("{checkpoint:020}.checkpoint.parquet"));
        read_checkpoint(&Home::Objects(objects.clone()), &path, &mut positions)?;
    }
    let from = checkpoint.map_or(0, |checkpoint| checkpoint + 1);
    for commit in objects.commits(dir, from..=version)? {
        of_commit(&commit, &mut positions);
    }
    Ok(positions)
}

/// Takes in what a commit says.
pub(in crate::lake) fn of_commit(commit: &[u8], positions: &mut BTreeMap<String, u64>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Txn {
        app_id: String,
        version: i64,
    }
    #[derive(Deserialize)]
    struct Line {
        txn: Option<Txn>,
    }
    for line in commit.split(|byte| *byte == b'\n') {
        if let Ok(Line { txn: Some(Txn { app_id, version }) }) = serde_json::from_slice(line) {
            positions.insert(app_id, u64::try_from(version).unwrap_or(0));
        }
    }
}

fn read_checkpoint(home: &Home, path: &Path, positions: &mut BTreeMap<String, u64>) -> Result<(), LakeError> {
    let file = home.open(path).map_err(|error| LakeError::io("read the checkpoint", path, error))?;
    let read = || -> Result<(), ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
        for batch in builder.with_projection(mask).build()? {
            let batch = batch?;
            let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else { continue };
            let columns = txn.column_by_name("appId").zip(txn.column_by_name("version"));
            let Some((ids, versions)) = columns else { continue };
            let (ids, versions) = (ids.as_string_opt::<i32>(), versions.as_primitive_opt::<Int64Type>());
            let Some((ids, versions)) = ids.zip(versions) else {
                return Err(ParquetError::General("txn has columns of other types".to_owned()));
            };
            for (id, version) in ids.iter().zip(versions) {
                if let Some((id, version)) = id.zip(version) {
                    positions.insert(id.to_owned(), u64::try_from(version).unwrap_or(0));
                }
            }
        }
        Ok(())
    };
    read().map_err(|source| LakeError::Unreadable { path: path.to_owned(), source })
}
