//! Files in the place of others, merges, and what is deleted when.

use std::sync::atomic::AtomicBool;

use arrow::array::{BinaryArray, new_null_array};
use arrow::compute::take_record_batch;

use super::*;
use crate::lake::{Pace, Replacing, merge};

const MERGED: Replacing = Replacing::Merged { target_bytes: 1 << 20 };

/// Random but the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

/// Tables with `counts.len()` units of so many rows, and the files of the date with the most of them.
fn with_units(lake: &Lake, table: Table, counts: &[i64]) -> (LakeTable, Vec<std::sync::Arc<DataFile>>) {
    let mut open = lake.open(table);
    let mut start = 0;
    for (position, count) in counts.iter().enumerate() {
        let rows = batch(table, &Row::some(start..start + count));
        open.commit(&lake.runtime, &[rows], Position(position as u64 + 1), &[]).unwrap();
        start += count;
    }
    let date = open.snapshot().files.iter().map(|file| file.date).max().unwrap();
    let files = open.snapshot().files.iter().filter(|file| file.date == date).cloned().collect();
    (open, files)
}

fn merged(open: &LakeTable, files: &[std::sync::Arc<DataFile>]) -> crate::lake::merge::Merged {
    merge(&open.place(), files, &mut Pace::new(&AtomicBool::new(false), 0.0)).unwrap().unwrap()
}

fn sorted_rows(open: &LakeTable) -> Vec<i64> {
    let mut ids: Vec<_> = open.snapshot().files.iter().flat_map(|file| unique_column(open.table(), &read(file))).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_merge_holds_the_rows_of_its_inputs_in_the_tables_order() {
    for table in Table::ALL {
        for counts in [&[5, 1, 300, 2][..], &[9000, 20_000, 1, 9000], &[7; 40]] {
            let lake = Lake::new();
            let (mut open, files) = with_units(&lake, table, counts);
            let before = sorted_rows(&open);
            let all: Vec<_> = files.iter().map(|file| read(file)).collect();
            let joined = concat_batches(&all[0].schema(), &all).unwrap();
            let merged = merged(&open, &files);
            assert_eq!(merged.duplicates, 0);
            let rows = read(&merged.file);
            assert_eq!((rows.num_rows(), merged.file.rows), (joined.num_rows(), joined.num_rows() as u64));
            // The same rows, brought into one order by what makes them unique.
            let by_number = |batch: &RecordBatch| {
                let numbers = arrow::array::Int64Array::from(unique_column(table, batch));
                take_record_batch(batch, &arrow::compute::sort_to_indices(&numbers, None, None).unwrap()).unwrap()
            };
            assert_eq!(plain(&by_number(&rows)), plain(&by_number(&joined)), "{table:?}");
            let keys: Vec<_> = table.sort_columns().iter().map(|name| rows.column_by_name(name).unwrap().clone()).collect();
            let fields = keys.iter().map(|key| arrow::row::SortField::new(key.data_type().clone())).collect();
            let keys = arrow::row::RowConverter::new(fields).unwrap().convert_columns(&keys).unwrap();
            assert!(keys.iter().is_sorted(), "{table:?}");
            let bounds = |of: fn(&DataFile) -> Option<i64>| files.iter().map(|file| of(file).unwrap()).collect::<Vec<_>>();
            assert_eq!(merged.file.min_time_micros, bounds(|file| file.min_time_micros).into_iter().min());
            assert_eq!(merged.file.max_time_micros, bounds(|file| file.max_time_micros).into_iter().max());

            let position = open.snapshot().position;
            assert!(open.replace(&lake.runtime, &files, vec![merged.file], MERGED).unwrap());
            assert_eq!((open.snapshot().position, sorted_rows(&open)), (position, before.clone()));
            // Read afresh by delta-rs, which knows nothing of our snapshot.
            let fresh = lake.open(table);
            let by_path = |table: &LakeTable| table.snapshot().files.iter().map(|file| (file.path.clone(), file.clone())).collect();
            let (ours, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) = (by_path(&open), by_path(&fresh));
            assert_eq!((ours, fresh.snapshot().version), (theirs, open.snapshot().version));
            assert_eq!((fresh.snapshot().position, sorted_rows(&fresh)), (position, before));
        }
    }
}

#[test]
fn equal_spans_are_merged_into_one_and_nearly_equal_ones_are_kept() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for round in 0..20 {
        let lake = Lake::new();
        let mut open = lake.open(Table::Spans);
        let rows = batch(Table::Spans, &Row::some(0..500));
        let indices = |random: &mut Random, count: usize| {
            let indices: Vec<u32> = (0..count).map(|_| random.below(500) as u32).collect();
            take_record_batch(&rows, &arrow::array::UInt32Array::from(indices)).unwrap()
        };
        for unit in 0..6 {
            let mut some = indices(&mut random, 200);
            if unit == 3 {
                // Another content under the same ids and times.
                let column = some.schema().index_of("attributes").unwrap();
                let (schema, mut columns, count) = some.into_parts();
                columns[column] = std::sync::Arc::new(arrow::array::StringArray::from(vec!["{}"; count]));
                some = RecordBatch::try_new(schema, columns).unwrap();
            }
            open.commit(&lake.runtime, &[some], Position(unit + 1), &[]).unwrap();
        }
        let date = open.snapshot().files[0].date;
        let files: Vec<_> = open.snapshot().files.iter().filter(|file| file.date == date).cloned().collect();
        let contents = |batch: &RecordBatch| -> Vec<String> {
            let columns: Vec<_> = ["span_id", "attributes"].iter().map(|name| batch.column_by_name(name).unwrap().clone()).collect();
            let (ids, attributes) = (columns[0].as_binary::<i32>(), columns[1].as_string::<i32>());
            (0..batch.num_rows()).map(|row| format!("{:?} {}", ids.value(row), attributes.value(row))).collect()
        };
        let all: Vec<String> = files.iter().flat_map(|file| contents(&read(file))).collect();
        let distinct: BTreeSet<String> = all.iter().cloned().collect();
        assert!(distinct.len() < all.len());
        let merged = merged(&open, &files);
        let kept = contents(&read(&merged.file));
        assert_eq!(kept.len(), distinct.len(), "round {round}");
        assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), distinct);
        assert_eq!(merged.duplicates as usize, all.len() - distinct.len());
    }
}

#[test]
fn a_unit_committed_while_files_are_merged_is_kept() {
    let lake = Lake::new();
    let (mut open, files) = with_units(&lake, Table::Spans, &[10, 20, 30]);
    let file = merged(&open, &files).file;
    open.commit(&lake.runtime, &[batch(Table::Spans, &Row::some(60..100))], Position(4), &[]).unwrap();
    // And another writer's, of which this handle does not know.
    let mut other = lake.open_as(Table::Spans, Uuid::new_v4());
    other.commit(&lake.runtime, &[batch(Table::Spans, &Row::some(100..110))], Position(1), &[]).unwrap();
    assert!(open.replace(&lake.runtime, &files, vec![file], MERGED).unwrap());
    assert_eq!(open.snapshot().position, Position(4));
    assert_eq!(sorted_rows(&open), (0..110).collect::<Vec<_>>());
    assert_eq!(sorted_rows(&lake.open(Table::Spans)), (0..110).collect::<Vec<_>>());
}

#[test]
fn a_merge_whose_files_another_writer_took_out_is_given_up_without_a_trace() {
    let lake = Lake::new();
    let (mut open, files) = with_units(&lake, Table::Spans, &[10, 20, 30]);
    let mut other = lake.open(Table::Spans);
    let theirs = merged(&other, &files).file;
    assert!(other.replace(&lake.runtime, &files, vec![theirs], MERGED).unwrap());
    let ours = merged(&open, &files).file;
    let path = ours.path.clone();
    assert!(!open.replace(&lake.runtime, &files, vec![ours], MERGED).unwrap());
    assert!(!path.exists());
    assert_eq!(open.snapshot().version, other.snapshot().version);
    assert_eq!(sorted_rows(&open), (0..60).collect::<Vec<_>>());
}

#[test]
fn a_file_that_somebody_reads_is_not_given_to_delete() {
    let lake = Lake::new();
    let (mut open, files) = with_units(&lake, Table::Spans, &[10, 20, 30]);
    let reader = open.snapshot().clone();
    let file = merged(&open, &files).file;
    assert!(open.replace(&lake.runtime, &files, vec![file], MERGED).unwrap());
    drop(files);
    let grace = std::time::Duration::ZERO;
    assert!(open.unread_files(grace, 100).is_empty(), "the old snapshot is held");
    let held = reader.files.last().unwrap().clone();
    drop(reader);
    let unread = open.unread_files(grace, 100);
    assert!(!unread.is_empty() && !unread.contains(&held.path));
    drop(held);
    assert_eq!(open.unread_files(std::time::Duration::from_secs(3600), 100), Vec::<PathBuf>::new());
    assert_eq!(open.unread_files(grace, 100).len(), 1);
    assert!(open.unread_files(grace, 100).is_empty());
}

#[test]
fn a_file_of_another_program_is_left_out_by_name() {
    let lake = Lake::new();
    let (open, mut files) = with_units(&lake, Table::Spans, &[10, 20]);
    let foreign = files[0].path.with_file_name("foreign.parquet");
    let rows = read(&files[0]);
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(&foreign).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    files.push(std::sync::Arc::new(DataFile { path: foreign.clone(), ..DataFile::clone(&files[0]) }));
    let left_out = merge(&open.place(), &files, &mut Pace::new(&AtomicBool::new(false), 0.0)).unwrap().unwrap_err();
    assert_eq!(left_out.path, foreign);
}

#[test]
fn a_merge_that_is_stopped_leaves_nothing() {
    let lake = Lake::new();
    let (open, files) = with_units(&lake, Table::Spans, &[10, 20]);
    let before = parquet_files(lake.folder.path());
    let stopped = merge(&open.place(), &files, &mut Pace::new(&AtomicBool::new(true), 0.0));
    assert!(matches!(stopped, Err(crate::lake::LakeError::Stopped)));
    assert_eq!(parquet_files(lake.folder.path()), before);
}

#[test]
fn spans_in_which_optional_columns_are_null_are_merged() {
    let lake = Lake::new();
    let mut open = lake.open(Table::Spans);
    for unit in 0..3_i64 {
        let rows = batch(Table::Spans, &Row::some(unit * 10..unit * 10 + 10));
        let (schema, mut columns, count) = rows.into_parts();
        let column = schema.index_of("parent_span_id").unwrap();
        columns[column] = match unit {
            0 => new_null_array(schema.field(column).data_type(), count),
            _ => std::sync::Arc::new(BinaryArray::from_iter((0..count).map(|row| (row % 2 == 0).then_some([1_u8; 8])))),
        };
        open.commit(&lake.runtime, &[RecordBatch::try_new(schema, columns).unwrap()], Position(unit as u64 + 1), &[]).unwrap();
    }
    let date = open.snapshot().files[0].date;
    let files: Vec<_> = open.snapshot().files.iter().filter(|file| file.date == date).cloned().collect();
    let nulls = |file: &DataFile| read(file).column_by_name("parent_span_id").unwrap().null_count();
    assert_eq!(nulls(&merged(&open, &files).file), files.iter().map(|file| nulls(file)).sum::<usize>());
}
