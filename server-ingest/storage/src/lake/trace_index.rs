//! Which traces a file may hold: a small file beside each file of spans, and the ones in memory.
//!
//! A **fingerprint** is the CRC-32C of a trace id. The index of a file is the sorted list of the distinct fingerprints of its rows, four
//! bytes a trace; a file without the fingerprint of an id has no row with it, one with it nearly always has (false for one lookup in
//! 10,000 files of 400,000 traces). Bytes: `docs/storage-format.md`.
//!
//! Invariant: an index only saves work. It is not synced; a missing or broken one is made again from the data file.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::DataFile;
use super::home::{Home, Objects};
use crate::columns::Table;

/// Folder of the indexes in the folder of the table. Delta leaves names that begin with `_` alone.
pub(super) const FOLDER: &str = "_trace_index";

const EXTENSION: &str = "traces";
const MAGIC: [u8; 8] = *b"SCTRTIDX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

/// Where the index of a data file is.
pub(super) fn index_path(data_file: &Path) -> Option<PathBuf> {
    let table = data_file.parent()?.parent()?;
    Some(table.join(FOLDER).join(data_file.file_stem()?).with_extension(EXTENSION))
}

fn fingerprint(trace_id: &[u8]) -> u32 {
    crc32c::crc32c(trace_id)
}

/// Collects the fingerprints of a file that is being written.
#[derive(Debug)]
pub(super) struct TraceIndexBuilder(Option<Vec<u32>>);

impl TraceIndexBuilder {
    /// One that does nothing for tables without traces.
    pub(super) fn for_table(table: Table) -> Self {
        Self((table == Table::Spans).then(Vec::new))
    }

    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.add_rows(rows, 0..rows.num_rows());
    }

    /// Some rows of a batch.
    pub(super) fn add_rows(&mut self, batch: &RecordBatch, rows: Range<usize>) {
        let Some(ids) = &mut self.0 else { return };
        let Some(column) = batch.column_by_name("trace_id").and_then(|column| column.as_binary_opt::<i32>()) else { return };
        let mut last: &[u8] = &[];
        for row in rows {
            let id = column.value(row);
            if id != last {
                ids.push(fingerprint(id));
                last = id;
            }
        }
        // Keeps what is held near to what will be written.
        if ids.len() > 1 << 20 {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    /// Writes the index of `data_file`. Best effort: without it, it is made at the first lookup.
    pub(super) fn write_for(self, home: &Home, data_file: &Path) {
        let Some(ids) = self.sorted() else { return };
        if let Err(error) = write(home, data_file, &ids) {
            tracing::debug!(error = &error as &dyn std::error::Error, "trace index not written");
        }
    }

    fn sorted(self) -> Option<Vec<u32>> {
        let mut ids = self.0?;
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }
}

fn write(home: &Home, data_file: &Path, ids: &[u32]) -> io::Result<()> {
    let Some(path) = index_path(data_file) else { return Ok(()) };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 * ids.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(ids.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
    let checksum = crc32c::crc32c(&bytes[16..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    home.put(&path, bytes)
}

/// `None` when there is none that can be believed.
fn read(home: &Home, data_file: &Path) -> Option<Vec<u32>> {
    let bytes = home.read(&index_path(data_file)?).ok()?;
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let u32_at = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    let count = header[16..24].try_into().map(u64::from_le_bytes).ok()?;
    let is_ours = header[..8] == MAGIC && u32_at(8)? == VERSION;
    let is_whole = count.checked_mul(4) == Some(body.len() as u64) && u32_at(12)? == crc32c::crc32c(&bytes[16..]);
    if !is_ours || !is_whole {
        return None;
    }
    Some(body.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect())
}

fn read_from_data(home: &Home, data_file: &Path) -> Result<Vec<u32>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(home.open(data_file)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["trace_id"]);
    let mut index = TraceIndexBuilder::for_table(Table::Spans);
    for batch in builder.with_projection(mask).with_batch_size(8192).build()? {
        let batch = batch?;
        if batch.num_columns() != 1 || batch.column(0).as_binary_opt::<i32>().is_none() {
            return Err(ParquetError::General("trace_id is not a column of bytes".to_owned()));
        }
        index.add(&batch);
    }
    Ok(index.sorted().unwrap_or_default())
}

/// The indexes that are in memory, the most recently used ones up to a budget.
pub struct TraceIndex {
    budget_bytes: usize,
    may_write: bool,
    home: Home,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    files: HashMap<PathBuf, Entry>,
    bytes: usize,
    clock: u64,
}

struct Entry {
    ids: Arc<[u32]>,
    used: u64,
}

impl TraceIndex {
    /// Holds up to `budget_bytes`. Without `may_write` nothing on disk is changed.
    pub(crate) fn new(budget_bytes: usize, may_write: bool, home: Home) -> Self {
        Self { budget_bytes, may_write, home, held: Mutex::default() }
    }

    /// Of each file whether it may hold a span of one of the traces. Blocking: an index that is not in memory is read, or made from its
    /// file; a file for which neither works may hold anything.
    pub fn may_contain(&self, files: &[Arc<DataFile>], trace_ids: &[&[u8]]) -> Vec<bool> {
        let wanted: Vec<u32> = trace_ids.iter().map(|id| fingerprint(id)).collect();
        let has = |ids: &[u32]| wanted.iter().any(|id| ids.binary_search(id).is_ok());
        files.iter().map(|file| self.of(&file.path).is_none_or(|ids| has(&ids))).collect()
    }

    pub(crate) fn objects(&self) -> Option<&Objects> {
        self.home.objects()
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.held().bytes
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, path: &Path) -> Option<Arc<[u32]>> {
        {
            let mut held = self.held();
            held.clock += 1;
            let clock = held.clock;
            if let Some(entry) = held.files.get_mut(path) {
                entry.used = clock;
                return Some(Arc::clone(&entry.ids));
            }
        }
        let ids: Arc<[u32]> = self.load(path)?.into();
        self.held().put(path, Arc::clone(&ids), self.budget_bytes);
        Some(ids)
    }

    fn load(&self, path: &Path) -> Option<Vec<u32>> {
        if let Some(ids) = read(&self.home, path) {
            return Some(ids);
        }
        let ids = read_from_data(&self.home, path).inspect_err(|error| {
            tracing::warn!(file = %path.display(), error = error as &dyn std::error::Error, "no trace index can be made, the file is searched");
        });
        let ids = ids.ok()?;
        if self.may_write
            && let Err(error) = write(&self.home, path, &ids)
        {
            tracing::debug!(error = &error as &dyn std::error::Error, "trace index not written");
        }
        Some(ids)
    }

    /// Lets go of files that are gone.
    pub(crate) fn forget(&self, paths: &[PathBuf]) {
        let mut held = self.held();
        for path in paths {
            held.remove(path);
        }
    }
}

impl Held {
    fn put(&mut self, path: &Path, ids: Arc<[u32]>, budget_bytes: usize) {
        self.remove(path);
        self.bytes += bytes_of(&ids, path);
        self.clock += 1;
        self.files.insert(path.to_owned(), Entry { ids, used: self.clock });
        while self.bytes > budget_bytes
            && let Some(oldest) = self.files.iter().min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone())
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.files.remove(path) {
            self.bytes -= bytes_of(&entry.ids, path);
        }
    }
}

fn bytes_of(ids: &[u32], path: &Path) -> usize {
    size_of_val(ids) + path.as_os_str().len() + 128
}

impl std::fmt::Debug for TraceIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceIndex").field("budget_bytes", &self.budget_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
