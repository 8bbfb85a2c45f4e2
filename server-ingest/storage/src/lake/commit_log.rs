//! The Delta log of one table: reading its newest version, publishing the next one, checkpoints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use deltalake_core::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, LogicalFileView, MetadataExt, Remove, StructType, Transaction, new_metadata};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError};
use serde_json::json;

use super::damage;
use super::home::{Home, log_dir, transactions};
use super::schema::{FORMAT_VERSION_KEY, PARTITION, delta_schema, time_column};
use super::table::TablePlace;
use super::{DataFile, LakeError, LakeRuntime, Mark, Snapshot};
use crate::columns::Table;
use crate::log::Position;

/// Commit files older than this are deleted once a checkpoint covers them. Delta's default of 30 days would mean millions of
/// files in one folder at a commit a second; time travel is not promised.
const LOG_RETENTION: &str = "interval 1 days";

/// How long a checkpoint remembers files that were taken out. Delta's default of 7 days would mean hundreds of thousands of them, since
/// nearly every small file is merged.
const REMOVED_FILE_RETENTION: &str = "interval 1 hours";

/// Reads the newest version of the table. `Snapshot::default()` when there is none. Blocking.
pub(super) fn load(place: &TablePlace, runtime: &LakeRuntime) -> Result<Snapshot, LakeError> {
    if !place.home.is_table(&place.dir)? {
        return Ok(Snapshot::default());
    }
    let loaded = runtime.run(load_undamaged(place));
    match &place.home {
        Home::Folder => {
            let log_dir = log_dir(&place.dir);
            match loaded {
                Ok(snapshot) => damage::check_commits(&log_dir).map(|()| snapshot),
                Err(error) => Err(damage::blame(&log_dir, error)),
            }
        }
        Home::Objects(objects) => {
            let mut snapshot = loaded?;
            if let Some(version) = snapshot.version {
                snapshot.sources = Arc::new(transactions::positions(objects, &place.dir, version)?);
            }
            Ok(snapshot)
        }
    }
}

async fn load_undamaged(place: &TablePlace) -> Result<Snapshot, LakeError> {
    let failed = |source| LakeError::delta("read", &place.dir, source);
    let delta = place.home.delta_table(&place.dir).map_err(failed)?.load().await.map_err(failed)?;
    let state = delta.snapshot().map_err(failed)?;
    check_schema(place.table, &place.dir, &state.schema())?;
    let position = match &place.app_id {
        Some(app_id) => state.transaction_version(delta.log_store().as_ref(), app_id).await.map_err(failed)?,
        None => None,
    };
    let files = state.log_data().iter().map(|file| file_in_table(place, &file)).collect::<Result<Vec<_>, _>>()?;
    let position = Position(position.map_or(0, |position| u64::try_from(position).unwrap_or(0)));
    let version = i64::try_from(state.version()).expect("Delta versions are below 2^63");
    Ok(Snapshot { version: Some(version), position, files, sources: Arc::default() })
}

/// The newest version, from the commits after `snapshot`; `None` when they say something that only [`load`] reads. Blocking; for shared
/// tables.
pub(super) fn catch_up(place: &TablePlace, snapshot: &Snapshot) -> Result<Option<Snapshot>, LakeError> {
    let (Home::Objects(objects), Some(mut version)) = (&place.home, snapshot.version) else { return Ok(None) };
    let mut files = snapshot.files.clone();
    let mut sources = BTreeMap::clone(&snapshot.sources);
    while let Some(commit) = objects.commit(&place.dir, version + 1)? {
        version += 1;
        let mut gone = HashSet::new();
        for line in commit.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Action::Add(add)) => {
                    let date = add.partition_values.get(PARTITION).and_then(Option::as_deref);
                    files.push(data_file(place, &add.path, add.size, date, add.stats.as_deref())?);
                }
                Ok(Action::Remove(remove)) => drop(gone.insert(place.dir.join(remove.path))),
                Ok(Action::Txn(_) | Action::CommitInfo(_)) => {}
                // What the table is has changed, or another program wrote it.
                Ok(_) | Err(_) => return Ok(None),
            }
        }
        if !gone.is_empty() {
            files.retain(|file| !gone.contains(&file.path));
        }
        transactions::of_commit(&commit, &mut sources);
    }
    Ok(Some(Snapshot { version: Some(version), position: snapshot.position, files, sources: Arc::new(sources) }))
}

/// The actions of the commit that adds `files`; the first commit of a table also says what the table is.
pub(super) fn actions(place: &TablePlace, created: bool, files: &[DataFile]) -> Result<(Vec<Action>, DeltaOperation), LakeError> {
    let mut actions = Vec::with_capacity(files.len() + 3);
    let operation = if created {
        let (definition, operation) = definition(place)?;
        actions.extend(definition);
        operation
    } else {
        let partition_by = Some(vec![PARTITION.to_owned()]);
        DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None }
    };
    for file in files {
        actions.push(Action::Add(add(place, file)?));
    }
    Ok((actions, operation))
}

/// The actions of a commit that puts `added` in the place of `removed`. `expired` rows are gone for good; others are the same rows in
/// other files, which Delta calls no change of data.
pub(super) fn replacing_actions(
    place: &TablePlace,
    removed: &[Arc<DataFile>],
    added: &[DataFile],
    why: &Replacing,
) -> Result<(Vec<Action>, DeltaOperation), LakeError> {
    let data_change = matches!(why, Replacing::Expired { .. });
    let now = Utc::now().timestamp_millis();
    let mut actions = Vec::with_capacity(removed.len() + added.len() + 1);
    for file in removed {
        actions.push(Action::Remove(Remove {
            path: relative_path(&place.dir, file),
            data_change,
            deletion_timestamp: Some(now),
            extended_file_metadata: Some(true),
            partition_values: Some(HashMap::from([(PARTITION.to_owned(), Some(date_text(file.date)))])),
            size: Some(i64::try_from(file.size_bytes).expect("file sizes are below 2^63")),
            ..Remove::default()
        }));
    }
    for file in added {
        actions.push(Action::Add(Add { data_change, ..add(place, file)? }));
    }
    let operation = match why {
        Replacing::Merged { target_bytes } => {
            DeltaOperation::Optimize { predicate: None, target_size: i64::try_from(*target_bytes).unwrap_or(i64::MAX) }
        }
        Replacing::Expired { before } => DeltaOperation::Delete { predicate: Some(format!("{PARTITION} < '{}'", date_text(*before))) },
    };
    Ok((actions, operation))
}

/// The bytes of a commit: the actions, and the positions that the table holds after it when they add rows.
pub(super) fn commit_bytes(dir: &Path, actions: Vec<Action>, operation: DeltaOperation, appended: &[Mark]) -> Result<Vec<u8>, LakeError> {
    let transaction = |mark: &Mark| {
        let version = i64::try_from(mark.position).expect("positions stay below 2^63");
        Transaction::new_with_last_update(&*mark.source, version, Some(Utc::now().timestamp_millis()))
    };
    let metadata = HashMap::from([("isBlindAppend".to_owned(), json!(!appended.is_empty()))]);
    let data = CommitData::new(actions, operation, metadata, appended.iter().map(transaction).collect());
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

/// How publishing a commit ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The commit is there, durably.
    Yes,
    /// Another writer has made this version; nothing of ours is visible.
    VersionTaken,
}

/// Writes the checkpoint of `version`, durably, and deletes commit files that are past their retention. Blocking.
pub(super) fn checkpoint(place: &TablePlace, runtime: &LakeRuntime, version: i64) -> Result<(), LakeError> {
    let (dir, number) = (&place.dir, u64::try_from(version).expect("Delta versions are not negative"));
    let open = async || -> Result<DeltaTable, DeltaTableError> { place.home.delta_table(dir)?.with_version(number).load().await };
    runtime.run(async { create_checkpoint(&open().await?, None).await }).map_err(|source| LakeError::delta("checkpointed", dir, source))?;
    place.home.settle_checkpoint(dir, version)?;
    // After that, so that no commit file goes before the checkpoint that replaces it is safe.
    let cleaned = runtime.run(async { cleanup_metadata(&open().await?, None).await });
    cleaned.map(drop).map_err(|source| LakeError::delta("cleaned up", dir, source))
}

/// `date` as Delta and the folder names have it.
pub(super) fn date_text(date: i32) -> String {
    let day = NaiveDate::from_epoch_days(date).unwrap_or(if date < 0 { NaiveDate::MIN } else { NaiveDate::MAX });
    day.format("%Y-%m-%d").to_string()
}

fn definition(place: &TablePlace) -> Result<([Action; 2], DeltaOperation), LakeError> {
    let (table, dir) = (place.table, place.dir.as_path());
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
        location: place.home.url_of(dir),
        protocol: protocol.clone(),
        metadata: metadata.clone(),
    };
    Ok(([Action::Protocol(protocol), Action::Metadata(metadata)], operation))
}

fn relative_path(dir: &Path, file: &DataFile) -> String {
    let relative = file.path.strip_prefix(dir).expect("a table's files are in its folder");
    relative.to_string_lossy().into_owned()
}

fn add(place: &TablePlace, file: &DataFile) -> Result<Add, LakeError> {
    let path = relative_path(&place.dir, file);
    let date = date_text(file.date);
    let mut stats = json!({"numRecords": file.rows});
    if let (Some(min), Some(max)) = (timestamp_text(file.min_time_micros), timestamp_text(file.max_time_micros)) {
        let column = time_column(place.table);
        stats["minValues"] = json!({column: min});
        stats["maxValues"] = json!({column: max});
        stats["nullCount"] = json!({column: 0});
    }
    let modified = match place.home {
        Home::Folder => place.home.written(&file.path).map_err(|error| LakeError::io("read", &file.path, error))?,
        // Just now; asking for the second would be one more request.
        Home::Objects(_) => SystemTime::now(),
    };
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

fn file_in_table(place: &TablePlace, view: &LogicalFileView) -> Result<Arc<DataFile>, LakeError> {
    if view.deletion_vector_descriptor().is_some() {
        return Err(LakeError::Unsupported { path: place.dir.clone(), what: "deletion vectors" });
    }
    let date = view.partition_values_map().remove(PARTITION).flatten();
    data_file(place, &view.path(), view.size(), date.as_deref(), view.stats().as_deref())
}

/// A file as the table's log describes it.
fn data_file(place: &TablePlace, name: &str, size: i64, date: Option<&str>, stats: Option<&str>) -> Result<Arc<DataFile>, LakeError> {
    let unsupported = |what| LakeError::Unsupported { path: place.dir.clone(), what };
    if name.contains("://") {
        return Err(unsupported("files outside its folder"));
    }
    let path = place.dir.join(name);
    let date = date.and_then(parse_date).ok_or_else(|| unsupported("files without a date"))?;
    let stats = stats.and_then(|stats| serde_json::from_str::<serde_json::Value>(stats).ok()).unwrap_or_default();
    let rows = match stats["numRecords"].as_u64() {
        Some(rows) => rows,
        None => super::parquet_file::count_rows(&place.home, &path)?,
    };
    let time = |bound: &str| stats[bound][time_column(place.table)].as_str();
    Ok(Arc::new(DataFile {
        path,
        size_bytes: u64::try_from(size).unwrap_or(0),
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
