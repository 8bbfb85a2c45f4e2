//! The Delta log of one table: reading its newest version, publishing the next one, checkpoints.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use deltalake_core::checkpoints::create_checkpoint_from_table_url_and_cleanup;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, LogicalFileView, MetadataExt, Remove, StructType, Transaction, new_metadata};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTableBuilder, DeltaTableError};
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::damage;
use super::schema::{FORMAT_VERSION_KEY, PARTITION, delta_schema, time_column};
use super::{DataFile, LakeError, Snapshot};
use crate::columns::Table;
use crate::log::Position;

/// Commit files older than this are deleted once a checkpoint covers them. Delta's default of 30 days would mean millions of
/// files in one folder at a commit a second; time travel is not promised.
const LOG_RETENTION: &str = "interval 1 days";

/// How long a checkpoint remembers files that were taken out. Delta's default of 7 days would mean hundreds of thousands of them, since
/// nearly every small file is merged.
const REMOVED_FILE_RETENTION: &str = "interval 1 hours";

/// Reads the newest version of the table in `dir`. `Snapshot::default()` when there is none.
pub(super) async fn load(table: Table, dir: &Path, app_id: &str) -> Result<Snapshot, LakeError> {
    let log_dir = log_dir(dir);
    match load_undamaged(table, dir, app_id).await {
        Ok(snapshot) => damage::check_commits(&log_dir).map(|()| snapshot),
        Err(error) => Err(damage::blame(&log_dir, error)),
    }
}

async fn load_undamaged(table: Table, dir: &Path, app_id: &str) -> Result<Snapshot, LakeError> {
    let failed = |source| LakeError::delta("read", dir, source);
    if !is_table(dir)? {
        return Ok(Snapshot::default());
    }
    let delta = DeltaTableBuilder::from_url(url_of(dir)).map_err(failed)?.load().await.map_err(failed)?;
    let state = delta.snapshot().map_err(failed)?;
    check_schema(table, dir, &state.schema())?;
    let position = state.transaction_version(delta.log_store().as_ref(), app_id).await.map_err(failed)?;
    let time_column = time_column(table);
    let files = state.log_data().iter().map(|file| data_file(dir, time_column, &file)).collect::<Result<Vec<_>, _>>()?;
    let position = Position(position.map_or(0, |position| u64::try_from(position).unwrap_or(0)));
    let version = i64::try_from(state.version()).expect("Delta versions are below 2^63");
    Ok(Snapshot { version: Some(version), position, files })
}

/// The actions of the commit that adds `files`; the first commit of a table also says what the table is.
pub(super) fn actions(table: Table, dir: &Path, created: bool, files: &[DataFile]) -> Result<(Vec<Action>, DeltaOperation), LakeError> {
    let mut actions = Vec::with_capacity(files.len() + 3);
    let operation = if created {
        let (definition, operation) = definition(table, dir)?;
        actions.extend(definition);
        operation
    } else {
        let partition_by = Some(vec![PARTITION.to_owned()]);
        DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None }
    };
    for file in files {
        actions.push(Action::Add(add(table, dir, file)?));
    }
    Ok((actions, operation))
}

/// The actions of a commit that puts `added` in the place of `removed`. `expired` rows are gone for good; others are the same rows in
/// other files, which Delta calls no change of data.
pub(super) fn replacing_actions(
    table: Table,
    dir: &Path,
    removed: &[Arc<DataFile>],
    added: &[DataFile],
    why: &Replacing,
) -> Result<(Vec<Action>, DeltaOperation), LakeError> {
    let data_change = matches!(why, Replacing::Expired { .. });
    let now = Utc::now().timestamp_millis();
    let mut actions = Vec::with_capacity(removed.len() + added.len() + 1);
    for file in removed {
        actions.push(Action::Remove(Remove {
            path: relative_path(dir, file),
            data_change,
            deletion_timestamp: Some(now),
            extended_file_metadata: Some(true),
            partition_values: Some(HashMap::from([(PARTITION.to_owned(), Some(date_text(file.date)))])),
            size: Some(i64::try_from(file.size_bytes).expect("file sizes are below 2^63")),
            ..Remove::default()
        }));
    }
    for file in added {
        actions.push(Action::Add(Add { data_change, ..add(table, dir, file)? }));
    }
    let operation = match why {
        Replacing::Merged { target_bytes } => {
            DeltaOperation::Optimize { predicate: None, target_size: i64::try_from(*target_bytes).unwrap_or(i64::MAX) }
        }
        Replacing::Expired { before } => DeltaOperation::Delete { predicate: Some(format!("{PARTITION} < '{}'", date_text(*before))) },
    };
    Ok((actions, operation))
}

/// The bytes of a commit: the actions, and the position that the table holds after it when they add rows.
pub(super) fn commit_bytes(
    dir: &Path,
    actions: Vec<Action>,
    operation: DeltaOperation,
    appended: Option<(&str, Position)>,
) -> Result<Vec<u8>, LakeError> {
    let transaction = appended.map(|(app_id, position)| {
        let version = i64::try_from(position.0).expect("positions are counted from 1 and stay below 2^63");
        Transaction::new_with_last_update(app_id, version, Some(Utc::now().timestamp_millis()))
    });
    let metadata = HashMap::from([("isBlindAppend".to_owned(), json!(appended.is_some()))]);
    let data = CommitData::new(actions, operation, metadata, transaction.into_iter().collect());
    let bytes = data.get_bytes().map_err(|error| LakeError::delta("written", dir, error.into()))?;
    Ok(bytes.to_vec())
}

/// Why files are taken out of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// Their rows are in the files that are added.
    Merged {
        /// The size that merged files are meant to reach.
        target_bytes: u64,
    },
    /// Their date is past its retention.
    Expired {
        /// The first date that is kept.
        before: i32,
    },
}

/// How [`publish`] ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The commit is on disk.
    Yes,
    /// Another writer has made this version; nothing of ours is visible.
    VersionTaken,
}

/// Makes `bytes` the commit of `version` if there is none, whole and synced: written aside, synced, linked to its name, the
/// folder synced. After an error it is unknown whether the version exists.
pub(super) fn publish(dir: &Path, version: i64, bytes: &[u8]) -> Result<Published, LakeError> {
    let log_dir = log_dir(dir);
    // The name delta-rs gives to such files, so that every reader passes over one that a crash left behind.
    let aside = log_dir.join(format!("_commit_{}.json.tmp", Uuid::new_v4()));
    let named = log_dir.join(format!("{version:020}.json"));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let linked = write().and_then(|()| fs::hard_link(&aside, &named));
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Published::VersionTaken),
        Err(error) => return Err(LakeError::io("write the commit", &named, error)),
    }
    sync_folder(&log_dir)?;
    Ok(Published::Yes)
}

/// Syncs the commit of `version` and its folder: for a commit that may have been published by an attempt that failed after it.
pub(super) fn sync_commit(dir: &Path, version: i64) -> Result<(), LakeError> {
    let named = log_dir(dir).join(format!("{version:020}.json"));
    match File::open(&named).and_then(|file| file.sync_all()) {
        Ok(()) => {}
        // Cleaned up behind a checkpoint, so old enough.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(LakeError::io("sync", &named, error)),
    }
    sync_folder(&log_dir(dir))
}

/// Writes the checkpoint of `version`, syncs it, and deletes commit files that are past their retention.
pub(super) async fn checkpoint(dir: &Path, version: i64) -> Result<(), LakeError> {
    let number = u64::try_from(version).expect("Delta versions are not negative");
    create_checkpoint_from_table_url_and_cleanup(url_of(dir), number, Some(false), None)
        .await
        .map_err(|source| LakeError::delta("checkpointed", dir, source))?;
    sync_checkpoint(dir, version)?;
    // A second call, so that no commit file goes before the checkpoint that replaces it is on disk.
    let table = deltalake_core::open_table_with_version(url_of(dir), number).await;
    let table = table.map_err(|source| LakeError::delta("read", dir, source))?;
    deltalake_core::checkpoints::cleanup_metadata(&table, None).await.map_err(|source| LakeError::delta("cleaned up", dir, source))?;
    Ok(())
}

fn sync_checkpoint(dir: &Path, version: i64) -> Result<(), LakeError> {
    let log_dir = log_dir(dir);
    let prefix = format!("{version:020}.checkpoint");
    let entries = fs::read_dir(&log_dir).map_err(|error| LakeError::io("list", &log_dir, error))?;
    for entry in entries {
        let path = entry.map_err(|error| LakeError::io("list", &log_dir, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(&prefix) || name == "_last_checkpoint" {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|error| LakeError::io("sync", &path, error))?;
        }
    }
    sync_folder(&log_dir)
}

/// Makes the names in a folder survive power loss.
pub(super) fn sync_folder(dir: &Path) -> Result<(), LakeError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(|error| LakeError::io("sync the folder", dir, error))
}

/// `date` as Delta and the folder names have it.
pub(super) fn date_text(date: i32) -> String {
    let day = NaiveDate::from_epoch_days(date).unwrap_or(if date < 0 { NaiveDate::MIN } else { NaiveDate::MAX });
    day.format("%Y-%m-%d").to_string()
}

pub(super) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("_delta_log")
}

fn url_of(dir: &Path) -> Url {
    Url::from_directory_path(dir).expect("the storage folder was made absolute when the store was opened")
}

fn is_table(dir: &Path) -> Result<bool, LakeError> {
    let log_dir = log_dir(dir);
    let entries = match fs::read_dir(&log_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LakeError::io("list", &log_dir, error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| LakeError::io("list", &log_dir, error))?.file_name();
        let name = name.to_string_lossy();
        // A crash before the first commit leaves the folder, perhaps with a file that has no name yet.
        if name == "_last_checkpoint" || (name.ends_with(".json") && name.starts_with(|first: char| first.is_ascii_digit())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn definition(table: Table, dir: &Path) -> Result<([Action; 2], DeltaOperation), LakeError> {
    let failed = |source| LakeError::delta("written", dir, source);
    let json_failed = |error| failed(DeltaTableError::SerializeLogJson { json_err: error });
    let schema = delta_schema(table).map_err(|source| LakeError::Arrow { table: table.name(), source })?;
    let configuration = [
        ("delta.appendOnly", "false".to_owned()),
        ("delta.logRetentionDuration", LOG_RETENTION.to_owned()),
        ("delta.deletedFileRetentionDuration", REMOVED_FILE_RETENTION.to_owned()),
        ("delta.checkpointInterval", super::table::CHECKPOINT_COMMITS.to_string()),
        (FORMAT_VERSION_KEY, Table::FORMAT_VERSION.to_string()),
    ];
    let metadata = new_metadata(&schema, [PARTITION], configuration);
    let metadata = metadata.and_then(|metadata| metadata.with_name(table.name().to_owned())).map_err(|error| failed(error.into()))?;
    // The oldest protocol there is: partitions, statistics and `txn` need nothing newer, so every engine reads the table.
    let protocol: deltalake_core::kernel::Protocol =
        serde_json::from_value(json!({"minReaderVersion": 1, "minWriterVersion": 2})).map_err(json_failed)?;
    let operation = DeltaOperation::Create {
        mode: SaveMode::ErrorIfExists,
        location: url_of(dir),
        protocol: protocol.clone(),
        metadata: metadata.clone(),
    };
    Ok(([Action::Protocol(protocol), Action::Metadata(metadata)], operation))
}

fn relative_path(dir: &Path, file: &DataFile) -> String {
    let relative = file.path.strip_prefix(dir).expect("a table's files are in its folder");
    relative.to_string_lossy().into_owned()
}

fn add(table: Table, dir: &Path, file: &DataFile) -> Result<Add, LakeError> {
    let path = relative_path(dir, file);
    let date = date_text(file.date);
    let mut stats = json!({"numRecords": file.rows});
    if let (Some(min), Some(max)) = (timestamp_text(file.min_time_micros), timestamp_text(file.max_time_micros)) {
        let column = time_column(table);
        stats["minValues"] = json!({column: min});
        stats["maxValues"] = json!({column: max});
        stats["nullCount"] = json!({column: 0});
    }
    let modified = fs::metadata(&file.path).and_then(|metadata| metadata.modified());
    let modified = modified.map_err(|error| LakeError::io("read", &file.path, error))?;
    Ok(Add {
        path,
        partition_values: HashMap::from([(PARTITION.to_owned(), Some(date))]),
        size: i64::try_from(file.size_bytes).expect("file sizes are below 2^63"),
        modification_time: DateTime::<Utc>::from(modified).timestamp_millis(),
        data_change: true,
        stats: Some(stats.to_string()),
        ..Add::default()
    })
}

fn timestamp_text(micros: Option<i64>) -> Option<String> {
    DateTime::from_timestamp_micros(micros?).map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn data_file(dir: &Path, time_column: &str, view: &LogicalFileView) -> Result<Arc<DataFile>, LakeError> {
    let unsupported = |what| LakeError::Unsupported { path: dir.to_owned(), what };
    if view.deletion_vector_descriptor().is_some() {
        return Err(unsupported("deletion vectors"));
    }
    let name = view.path();
    if name.contains("://") {
        return Err(unsupported("files outside its folder"));
    }
    let path = dir.join(name.as_ref());
    let date = view.partition_values_map().remove(PARTITION).flatten();
    let date = date.as_deref().and_then(parse_date).ok_or_else(|| unsupported("files without a date"))?;
    let stats = view.stats().and_then(|stats| serde_json::from_str::<serde_json::Value>(&stats).ok()).unwrap_or_default();
    let rows = match stats["numRecords"].as_u64() {
        Some(rows) => rows,
        None => super::parquet_file::count_rows(&path)?,
    };
    let time = |bound: &str| stats[bound][time_column].as_str();
    Ok(Arc::new(DataFile {
        path,
        size_bytes: u64::try_from(view.size()).unwrap_or(0),
        rows,
        date,
        min_time_micros: time("minValues").and_then(parse_micros),
        max_time_micros: time("maxValues").and_then(|text| Some(parse_micros(text)? + cut_off_micros(text))),
    }))
}

fn parse_date(text: &str) -> Option<i32> {
    Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.to_epoch_days())
}

fn parse_micros(text: &str) -> Option<i64> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
}

/// By how much a maximum may be too small because its writer cut it to milliseconds, as Spark does.
fn cut_off_micros(text: &str) -> i64 {
    let fraction_digits = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    if fraction_digits < 6 { 999 } else { 0 }
}

/// A table may have columns this server does not know; those it writes must be there, with their types.
fn check_schema(table: Table, dir: &Path, stored: &StructType) -> Result<(), LakeError> {
    let expected = delta_schema(table).map_err(|source| LakeError::Arrow { table: table.name(), source })?;
    for field in expected.fields() {
        let what = match stored.field(field.name()) {
            None => format!("{} is missing", field.name()),
            Some(there) if there.data_type() != field.data_type() => {
                format!("{} is {} instead of {}", field.name(), there.data_type(), field.data_type())
            }
            Some(_) => continue,
        };
        return Err(LakeError::SchemaMismatch { path: dir.to_owned(), what });
    }
    Ok(())
}
