//! Indexes in memory and on disk.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::{DataFile, Home};
use super::{HEADER_BYTES, TraceIndex, fingerprint, index_path, read, write};

fn data_file(folder: &TempDir, name: &str) -> Arc<DataFile> {
    let path = folder.path().join("date=2026-01-01").join(name).with_extension("parquet");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    Arc::new(DataFile { path, size_bytes: 0, rows: 0, date: 0, min_time_micros: None, max_time_micros: None })
}

fn sorted(ids: &[[u8; 16]]) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.iter().map(|id| fingerprint(id)).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn the_bytes_stay_what_they_are() {
    let folder = TempDir::new().unwrap();
    let file = data_file(&folder, "a");
    write(&Home::Folder, &file.path, &[1, 0x0203_0405]).unwrap();
    let path = index_path(&file.path).unwrap();
    assert_eq!(path, folder.path().join("_trace_index/a.traces"));
    let bytes = fs::read(&path).unwrap();
    let body = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 4, 3, 2];
    assert_eq!(bytes[..12], *b"SCTRTIDX\x01\0\0\0");
    assert_eq!(bytes[12..16], crc32c::crc32c(&body).to_le_bytes());
    assert_eq!(bytes[16..], body);
    // CRC-32C of sixteen ones, from a table of the algorithm.
    assert_eq!(fingerprint(b"123456789"), 0xe306_9283);
}

#[test]
fn an_index_that_was_cut_or_changed_is_not_believed() {
    let folder = TempDir::new().unwrap();
    let file = data_file(&folder, "a");
    write(&Home::Folder, &file.path, &sorted(&[[1; 16], [2; 16]])).unwrap();
    assert_eq!(read(&Home::Folder, &file.path).unwrap().len(), 2);
    let path = index_path(&file.path).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(read(&Home::Folder, &file.path), None, "{length} bytes");
    }
    for at in (0..whole.len()).filter(|at| !(24..HEADER_BYTES).contains(at)) {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        fs::write(&path, &changed).unwrap();
        assert_eq!(read(&Home::Folder, &file.path), None, "byte {at}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(read(&Home::Folder, &file.path).is_some());
}

#[test]
fn files_without_the_trace_are_named_and_memory_stays_within_its_budget() {
    let folder = TempDir::new().unwrap();
    let files: Vec<_> = (0..20_u8).map(|number| data_file(&folder, &format!("{number}"))).collect();
    for (number, file) in (0_u8..).zip(&files) {
        let ids: Vec<[u8; 16]> = (0..100).map(|id| [number, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]).collect();
        write(&Home::Folder, &file.path, &sorted(&ids)).unwrap();
    }
    let id = |file: u8, id: u8| [file, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    for budget in [0, 2000, usize::MAX] {
        let index = TraceIndex::new(budget, false, Home::Folder);
        for round in 0..2 {
            for number in 0..20 {
                let found = index.may_contain(&files, &[&id(number, 99)]);
                assert!(found[usize::from(number)], "round {round}");
                assert_eq!(found.iter().filter(|found| **found).count(), 1);
                assert!(index.held_bytes() <= budget);
            }
        }
        assert_eq!(index.may_contain(&files, &[&id(3, 1), &id(7, 2)]).iter().filter(|found| **found).count(), 2);
        assert!(index.may_contain(&files, &[&id(21, 0)]).iter().all(|found| !found));
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        index.forget(&paths);
        assert_eq!(index.held_bytes(), 0);
    }
}

#[test]
fn a_file_that_cannot_be_read_may_hold_anything() {
    let folder = TempDir::new().unwrap();
    let file = data_file(&folder, "gone");
    assert_eq!(TraceIndex::new(1000, true, Home::Folder).may_contain(&[file], &[&[1; 16]]), [true]);
}
