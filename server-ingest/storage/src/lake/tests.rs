//! Tables on a real folder: what is written is read back, by Parquet and by Delta, each unit once.

mod columns;
mod maintaining;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches, interleave};
use arrow::datatypes::{DataType, Int64Type, Schema, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tempfile::TempDir;
use uuid::Uuid;

use super::order::{DateRows, order_by_date};
use super::table::CHECKPOINT_COMMITS;
use super::{DataFile, LakeRuntime, LakeTable};
use crate::columns::Table;
use crate::lake::Home;
use crate::log::Position;
use crate::store::FaultHook;
use rows::{DAY_MICROS, Row, batch, unique_column};

struct Lake {
    folder: TempDir,
    runtime: LakeRuntime,
    app_id: Uuid,
}

impl Lake {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), runtime: LakeRuntime::new().unwrap(), app_id: Uuid::new_v4() }
    }

    fn open(&self, table: Table) -> LakeTable {
        self.open_as(table, self.app_id)
    }

    fn open_as(&self, table: Table, app_id: Uuid) -> LakeTable {
        LakeTable::open(&self.runtime, Home::Folder, self.folder.path(), table, app_id, FaultHook::default()).unwrap()
    }
}

fn read(file: &DataFile) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches = reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

/// The same rows with dictionaries replaced by their values, and without metadata and nullability.
fn plain(batch: &RecordBatch) -> Vec<arrow::array::ArrayRef> {
    let plain = |column: &arrow::array::ArrayRef| match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).unwrap(),
        _ => column.clone(),
    };
    batch.columns().iter().map(plain).collect()
}

/// All columns but the partition, in the order of the file.
fn ordered(table: Table, batches: &[RecordBatch], rows: &DateRows) -> RecordBatch {
    let schema = table.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).filter(|name| *name != "date").collect();
    let columns = names.iter().map(|name| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column_by_name(name).unwrap().as_ref()).collect();
        (*name, interleave(&arrays, &rows.order).unwrap())
    });
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet_files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("_delta_log") {
            found.extend(parquet_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "parquet") {
            found.insert(entry);
        }
    }
    found
}

#[test]
fn committed_rows_are_read_back_in_order_and_the_table_opens_again() {
    for table in Table::ALL {
        let lake = Lake::new();
        let batches = [batch(table, &Row::some(0..150)), batch(table, &Row::some(150..400))];
        let mut open = lake.open(table);
        assert_eq!(open.snapshot().version, None);
        let commit = open.commit(&lake.runtime, &batches, Position(7), &[]).unwrap();
        assert_eq!((commit.files, commit.rows), (2, 400), "{table:?}: one file a date");

        let snapshot = commit.snapshot;
        assert_eq!((snapshot.version, snapshot.position, snapshot.rows()), (Some(0), Position(7), 400));
        let expected = order_by_date(table, &batches).unwrap();
        for (file, expected) in snapshot.files.iter().zip(&expected) {
            let rows = read(file);
            assert_eq!(rows.schema().fields().len(), table.schema().fields().len() - 1, "{table:?}: the partition is not in the file");
            assert!(rows.schema().fields().iter().all(|field| !matches!(field.data_type(), DataType::Dictionary(..))));
            assert_eq!(plain(&rows), plain(&ordered(table, &batches, expected)), "{table:?}");
            assert_eq!((file.rows, file.date), (rows.num_rows() as u64, expected.date));
            assert_eq!(file.size_bytes, fs::metadata(&file.path).unwrap().len());
            assert!(file.path.is_absolute());
        }
        let reopened = lake.open(table);
        assert_eq!(reopened.snapshot(), &snapshot, "{table:?}");
    }
}

#[test]
fn rows_are_sorted_by_date_service_and_time() {
    let rows = Row::some(0..5000);
    let batches = [batch(Table::Spans, &rows[..1000]), batch(Table::Spans, &rows[1000..])];
    let runs = order_by_date(Table::Spans, &batches).unwrap();
    let mut seen = BTreeSet::new();
    for run in &runs {
        let rows = ordered(Table::Spans, &batches, run);
        let services = cast(rows.column_by_name("service_name").unwrap(), &DataType::Utf8).unwrap();
        let services = services.as_string::<i32>();
        let starts = rows.column_by_name("start_unix_nano").unwrap().as_primitive::<Int64Type>();
        let keys: Vec<_> = (0..starts.len()).map(|row| (services.value(row), starts.value(row))).collect();
        assert!(keys.is_sorted());
        let times = rows.column_by_name("start_time").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert!(times.values().iter().all(|micros| micros.div_euclid(DAY_MICROS) == i64::from(run.date)));
        seen.extend(unique_column(Table::Spans, &rows));
    }
    assert!(runs.is_sorted_by_key(|run| run.date));
    assert_eq!(seen, (0..5000).collect());
}

#[test]
fn a_unit_is_in_the_table_once_however_often_it_is_committed() {
    let lake = Lake::new();
    let unit = [batch(Table::Spans, &Row::some(0..10))];
    lake.open(Table::Spans).commit(&lake.runtime, &unit, Position(3), &[]).unwrap();
    for mut open in [lake.open(Table::Spans), lake.open(Table::Spans)] {
        let again = open.commit(&lake.runtime, &unit, Position(3), &[]).unwrap();
        assert_eq!((again.files, again.snapshot.version, again.snapshot.rows()), (0, Some(0), 10));
    }
}

#[test]
fn a_unit_another_handle_has_committed_meanwhile_is_found_in_the_fresh_snapshot_and_its_files_are_deleted() {
    let lake = Lake::new();
    let first = [batch(Table::Spans, &Row::some(0..10))];
    let second = [batch(Table::Spans, &Row::some(10..30))];
    let (mut one, mut other) = (lake.open(Table::Spans), lake.open(Table::Spans));
    for unit in [(&first, Position(1)), (&second, Position(2))] {
        one.commit(&lake.runtime, unit.0, unit.1, &[]).unwrap();
    }
    let commit = other.commit(&lake.runtime, &second, Position(2), &[]).unwrap();
    assert_eq!((commit.files, commit.snapshot.rows(), commit.snapshot.version), (0, 30, Some(1)));
    let named: BTreeSet<_> = commit.snapshot.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(parquet_files(lake.folder.path()), named);
}

#[test]
fn commits_of_other_writers_are_built_upon() {
    let lake = Lake::new();
    let mut one = lake.open(Table::Psi);
    let mut other = lake.open_as(Table::Psi, Uuid::new_v4());
    for round in 1..=5_u64 {
        let start = i64::try_from(round).unwrap() * 100;
        one.commit(&lake.runtime, &[batch(Table::Psi, &Row::some(start..start + 3))], Position(round), &[]).unwrap();
        other.commit(&lake.runtime, &[batch(Table::Psi, &Row::some(start + 50..start + 54))], Position(round), &[]).unwrap();
    }
    let last = lake.open(Table::Psi);
    assert_eq!((last.snapshot().version, last.snapshot().rows(), last.snapshot().position), (Some(9), 35, Position(5)));
    let ids: Vec<_> = last.snapshot().files.iter().flat_map(|file| unique_column(Table::Psi, &read(file))).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 35);
}

#[test]
fn a_checkpoint_is_written_and_read() {
    let lake = Lake::new();
    let mut open = lake.open(Table::Custom);
    let commits = i64::from(CHECKPOINT_COMMITS) + 5;
    for number in 0..commits {
        let position = Position(u64::try_from(number).unwrap() + 1);
        open.commit(&lake.runtime, &[batch(Table::Custom, &Row::some(number..number + 1))], position, &[]).unwrap();
        open.maintain(&lake.runtime).unwrap();
    }
    let log = lake.folder.path().join("custom_drift/_delta_log");
    let checkpoint = log.join(format!("{:020}.checkpoint.parquet", CHECKPOINT_COMMITS - 1));
    assert!(checkpoint.exists(), "{:?}", fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>());
    // Readers must not need the commits the checkpoint covers.
    for version in 0..CHECKPOINT_COMMITS - 1 {
        fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let reopened = lake.open(Table::Custom);
    assert_eq!((reopened.snapshot().version, reopened.snapshot().rows()), (Some(commits - 1), u64::try_from(commits).unwrap()));
    assert_eq!(reopened.snapshot().position, open.snapshot().position);
    let by_path = |table: &LakeTable| -> BTreeMap<PathBuf, DataFile> {
        table.snapshot().files.iter().map(|file| (file.path.clone(), DataFile::clone(file))).collect()
    };
    assert_eq!(by_path(&reopened), by_path(&open), "statistics survive the checkpoint");
}

#[test]
fn columns_are_encoded_by_what_they_hold() {
    let lake = Lake::new();
    let commit = lake.open(Table::Spans).commit(&lake.runtime, &[batch(Table::Spans, &Row::some(0..1000))], Position(1), &[]).unwrap();
    let file = SerializedFileReader::new(File::open(&commit.snapshot.files[0].path).unwrap()).unwrap();
    let group = file.metadata().row_group(0);
    let check = |name: &str, is_dictionary: bool, has_statistics: bool, has_bloom_filter: bool| {
        let column = group.columns().iter().find(|column| column.column_path().parts()[0] == name).unwrap();
        assert_eq!(column.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY), is_dictionary, "{name}");
        assert_eq!(column.statistics().is_some(), has_statistics, "{name}");
        assert_eq!(column.bloom_filter_offset().is_some(), has_bloom_filter, "{name}");
    };
    check("trace_id", false, true, false);
    check("span_id", false, false, false);
    check("attributes", false, false, false);
    check("events", false, false, false);
    check("service_name", true, true, false);
    check("name", true, false, false);
    check("start_time", false, true, false);
    check("start_unix_nano", false, true, false);
    // Two numbers in all rows.
    check("duration_nano", true, true, false);
    check("resource_attributes", true, false, false);
    assert_eq!(group.sorting_columns().map(Vec::len), Some(2));
    assert!(file.metadata().file_metadata().key_value_metadata().is_none(), "no Arrow schema in the footer");
    let element = file.metadata().file_metadata().schema_descr().columns().iter().find(|column| column.path().parts()[0] == "events");
    assert_eq!(element.unwrap().path().parts()[..3], ["events", "list", "element"]);
}

#[test]
fn a_folder_in_the_way_is_named_in_the_error() {
    let folder = TempDir::new().unwrap();
    let runtime = LakeRuntime::new().unwrap();
    let in_the_way = folder.path().join("spans");
    let mut open = LakeTable::open(&runtime, Home::Folder, folder.path(), Table::Spans, Uuid::new_v4(), FaultHook::default()).unwrap();
    fs::write(&in_the_way, b"a file").unwrap();
    let error = open.commit(&runtime, &[batch(Table::Spans, &Row::some(0..1))], Position(1), &[]).unwrap_err();
    assert!(error.to_string().contains(&in_the_way.display().to_string()), "{error}");
    // The same unit goes through when the obstacle is gone.
    fs::remove_file(&in_the_way).unwrap();
    assert_eq!(open.commit(&runtime, &[batch(Table::Spans, &Row::some(0..1))], Position(1), &[]).unwrap().rows, 1);
}

#[test]
fn a_table_with_other_columns_is_refused_by_name() {
    let lake = Lake::new();
    lake.open(Table::Psi).commit(&lake.runtime, &[batch(Table::Psi, &Row::some(0..1))], Position(1), &[]).unwrap();
    fs::rename(lake.folder.path().join("psi_drift"), lake.folder.path().join("spc_drift")).unwrap();
    let opened = LakeTable::open(&lake.runtime, Home::Folder, lake.folder.path(), Table::Spc, lake.app_id, FaultHook::default());
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("spc_drift") && error.contains("value is missing"), "{error}");
}

#[test]
fn every_table_has_a_delta_schema() {
    for table in Table::ALL {
        let delta = super::schema::delta_schema(table).unwrap();
        let names: Vec<_> = delta.fields().map(|field| field.name().clone()).collect();
        let schema: &Schema = &table.schema();
        assert_eq!(names, schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>());
        assert!(Table::ALL.iter().position(|other| *other == table) == Some(table as usize), "tables are indexed by their number");
    }
}
