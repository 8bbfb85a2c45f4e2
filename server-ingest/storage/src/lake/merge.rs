//! Several sorted files of one date become one, in bounded memory.
//!
//! A merge of k cursors, each with one batch of decoded rows. Where runs are long, which is usual as files follow one another in time,
//! slices are copied whole; no row is compared with more than the next cursor's.
//!
//! Exact duplicates among spans go: the same ids and the same value in every column. They have the same service and start, so they
//! meet as neighbours of the order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch, max, min};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::pace::{Pace, PacedFile};
use super::parquet_file::{CREATED_BY, FileFormat};
use super::table::TablePlace;
use super::trace_index::TraceIndexBuilder;
use super::{DataFile, LakeError};
use crate::columns::Table;

/// Rows written at once.
const STEP_ROWS: usize = 8192;

/// Decoded rows that all cursors hold together, in bytes before compression.
const DECODED_BYTES: u64 = 48 * 1024 * 1024;

/// A row group ends at this size even if it has few rows, because the writer holds it.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// JSON is most of a span. Level 8 makes it a sixth smaller than level 1 for about a microsecond a span.
const JSON_ZSTD_LEVEL: i32 = 8;

/// Spans with the same service and start among which duplicates are looked for.
const MAX_TIED_ROWS: usize = 16_384;

/// What a merge made.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The file, synced with its folder, named by no commit.
    pub(crate) file: DataFile,
    /// Rows left out because they were in twice.
    pub(crate) duplicates: u64,
}

/// A file that cannot be merged, and why.
#[derive(Debug)]
pub(crate) struct NotMergeable {
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

/// Merges files of one date; `Ok(Err(_))` names the one that has to be left out. Files are only read. After an error nothing new is left.
pub(crate) fn merge(place: &TablePlace, inputs: &[Arc<DataFile>], pace: &mut Pace<'_>) -> Result<Result<Merged, NotMergeable>, LakeError> {
    let date = inputs.first().map_or(0, |file| file.date);
    debug_assert!(inputs.iter().all(|file| file.date == date));
    let mut merge = match Merge::open(place, inputs)? {
        Ok(merge) => merge,
        Err(left_out) => return Ok(Err(left_out)),
    };
    let path = place.new_file(date);
    let file = place.home.write_file(&path, |local| merge.write(local, &path, date, pace))?;
    Ok(Ok(Merged { file, duplicates: merge.duplicates }))
}

/// One input: its rows in order, a batch at a time.
struct Cursor {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    batch: Arc<RecordBatch>,
    keys: Rows,
    at: usize,
}

struct Merge<'a> {
    place: &'a TablePlace,
    sort_columns: Vec<usize>,
    converter: RowConverter,
    cursors: Vec<Cursor>,
    /// Indexes of cursors that have rows, as a binary heap: the smallest key first, then the smallest index.
    heap: Vec<usize>,
    pieces: Vec<(Arc<RecordBatch>, Range<usize>)>,
    pending_rows: usize,
    ties: Option<Ties>,
    duplicates: u64,
}

impl<'a> Merge<'a> {
    fn open(place: &'a TablePlace, inputs: &[Arc<DataFile>]) -> Result<Result<Self, NotMergeable>, LakeError> {
        let arrow = |source| arrow_error(place.table, source);
        let schema = &place.format.schema;
        let sort_columns = place.table.sort_columns().iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>();
        let sort_columns = sort_columns.map_err(arrow)?;
        let fields = sort_columns.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(arrow)?;
        let ties = (place.table == Table::Spans).then(|| Ties::new(&place.format)).transpose().map_err(arrow)?;
        let mut merge = Self {
            place,
            sort_columns,
            converter,
            cursors: Vec::new(),
            heap: Vec::new(),
            pieces: Vec::new(),
            pending_rows: 0,
            ties,
            duplicates: 0,
        };
        for input in inputs {
            if let Err(left_out) = merge.add_input(input, inputs.len())? {
                return Ok(Err(left_out));
            }
        }
        merge.heap = (0..merge.cursors.len()).filter(|index| merge.cursors[*index].batch.num_rows() > 0).collect();
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(place);
        }
        Ok(Ok(merge))
    }

    fn add_input(&mut self, input: &DataFile, inputs: usize) -> Result<Result<(), NotMergeable>, LakeError> {
        let left_out = |why: String| Ok(Err(NotMergeable { path: input.path.clone(), why }));
        let file = self.place.home.open(&input.path).map_err(|error| LakeError::io("open", &input.path, error))?;
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&self.place.format.schema));
        let builder = match ParquetRecordBatchReaderBuilder::try_new_with_options(file, options) {
            Ok(builder) => builder,
            Err(error) => return left_out(error.to_string()),
        };
        let facts = builder.metadata().file_metadata();
        if !facts.created_by().is_some_and(|by| by.starts_with(CREATED_BY)) {
            return left_out("another program wrote it, so its order is not known".to_owned());
        }
        let rows = u64::try_from(facts.num_rows()).unwrap_or(0).max(1);
        let decoded: i64 = builder.metadata().row_groups().iter().map(|group| group.total_byte_size()).sum();
        let row_bytes = (u64::try_from(decoded).unwrap_or(0) / rows).max(1);
        let batch_rows = (DECODED_BYTES / inputs as u64 / row_bytes).clamp(64, 4096);
        let reader = builder.with_batch_size(usize::try_from(batch_rows).unwrap_or(64)).build();
        let reader = reader.map_err(|source| LakeError::Unreadable { path: input.path.clone(), source })?;
        let batch = Arc::new(RecordBatch::new_empty(Arc::clone(&self.place.format.schema)));
        let keys = self.converter.empty_rows(0, 0);
        self.cursors.push(Cursor { path: input.path.clone(), reader, batch, keys, at: 0 });
        self.next_batch(self.cursors.len() - 1)?;
        Ok(Ok(()))
    }

    /// The cursor's next rows, none at the end of its file.
    fn next_batch(&mut self, index: usize) -> Result<(), LakeError> {
        let cursor = &mut self.cursors[index];
        cursor.at = 0;
        let next = cursor.reader.next().transpose();
        let next = next.map_err(|source| LakeError::Unreadable { path: cursor.path.clone(), source: source.into() })?;
        cursor.batch = Arc::new(next.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&self.place.format.schema))));
        let columns: Vec<_> = self.sort_columns.iter().map(|column| Arc::clone(cursor.batch.column(*column))).collect();
        cursor.keys = self.converter.convert_columns(&columns).map_err(|source| arrow_error(self.place.table, source))?;
        Ok(())
    }

    /// Writes the file `path`, as `local` until it is whole.
    fn write(&mut self, local: &Path, path: &Path, date: i32, pace: &mut Pace<'_>) -> Result<DataFile, LakeError> {
        let parquet = |source| LakeError::Parquet { path: path.to_owned(), source };
        let format = Arc::clone(&self.place.format);
        let file = File::create_new(local).map_err(|error| LakeError::io("create", local, error))?;
        let options = ArrowWriterOptions::new().with_properties(properties(&format)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(PacedFile::new(file), Arc::clone(&format.schema), options);
        let mut writer = writer.map_err(parquet)?;
        let mut rows = 0;
        let mut times: Option<(i64, i64)> = None;
        let mut index = TraceIndexBuilder::for_table(self.place.table);
        while let Some(batch) = self.step()? {
            let column =
                batch.column_by_name(format.time_column).expect("the schema has the column").as_primitive::<TimestampMicrosecondType>();
            if let Some((low, high)) = min(column).zip(max(column)) {
                times = Some(times.map_or((low, high), |(least, most)| (least.min(low), most.max(high))));
            }
            index.add(&batch);
            rows += batch.num_rows() as u64;
            writer.write(&batch).map_err(parquet)?;
            pace.rest()?;
        }
        let size_bytes = writer.into_inner().map_err(parquet)?.finish().map_err(|error| LakeError::io("sync", local, error))?;
        index.write_for(&self.place.home, path);
        let (min_time_micros, max_time_micros) = times.unzip();
        Ok(DataFile { path: path.to_owned(), size_bytes, rows, date, min_time_micros, max_time_micros })
    }

    /// The next rows of the result.
    fn step(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        while self.pending_rows < STEP_ROWS
            && let Some(&top) = self.heap.first()
        {
            let second = [1, 2].into_iter().filter(|place| *place < self.heap.len()).min_by(|one, other| self.compare(*one, *other));
            let cursor = &self.cursors[top];
            let rows = cursor.batch.num_rows();
            let room = rows.min(cursor.at + STEP_ROWS - self.pending_rows);
            let end = match second.map(|place| &self.cursors[self.heap[place]]) {
                None => room,
                Some(other) => end_of_run(&cursor.keys, cursor.at..room, other.keys.row(other.at).as_ref()),
            };
            self.take(top, end);
            if end == rows {
                self.next_batch(top)?;
                if self.cursors[top].batch.num_rows() == 0 {
                    let last = self.heap.pop().expect("the heap has a first");
                    if let Some(first) = self.heap.first_mut() {
                        *first = last;
                    }
                }
            }
            self.sift_down(0);
        }
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let joined = join(&self.place.format, &self.pieces).map_err(|source| arrow_error(self.place.table, source))?;
        self.pieces.clear();
        self.pending_rows = 0;
        Ok(Some(joined))
    }

    /// Moves a cursor on to `end` and puts what it passes into the result.
    fn take(&mut self, index: usize, end: usize) {
        let cursor = &mut self.cursors[index];
        let run = std::mem::replace(&mut cursor.at, end)..end;
        let before = self.pending_rows;
        match &mut self.ties {
            None => push(&mut self.pieces, &mut self.pending_rows, &cursor.batch, run),
            Some(ties) => {
                let mut start = run.start;
                for row in run.clone() {
                    if ties.is_duplicate(&cursor.batch, &cursor.keys, row, row > run.start) {
                        push(&mut self.pieces, &mut self.pending_rows, &cursor.batch, start..row);
                        start = row + 1;
                    }
                }
                push(&mut self.pieces, &mut self.pending_rows, &cursor.batch, start..run.end);
                ties.end_of_run(&cursor.batch, &cursor.keys, run.end - 1);
                self.duplicates += (run.len() - (self.pending_rows - before)) as u64;
            }
        }
    }

    fn compare(&self, one: usize, other: usize) -> Ordering {
        let (one, other) = (self.heap[one], self.heap[other]);
        let (left, right) = (&self.cursors[one], &self.cursors[other]);
        left.keys.row(left.at).cmp(&right.keys.row(right.at)).then(one.cmp(&other))
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2].into_iter().filter(|child| *child < self.heap.len());
            match children.min_by(|one, other| self.compare(*one, *other)) {
                Some(child) if self.compare(child, place) == Ordering::Less => {
                    self.heap.swap(child, place);
                    place = child;
                }
                _ => return,
            }
        }
    }
}

/// As in small files, but smaller: they are written by someone who waits, these are not, and stay.
fn properties(format: &FileFormat) -> WriterProperties {
    let mut properties = WriterProperties::clone(&format.properties).into_builder().set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
    for field in format.schema.fields() {
        let column = || ColumnPath::from(field.name().as_str());
        properties = match (field.data_type(), field.name().as_str()) {
            // Ids are random: lengths apart, nothing is left to search for.
            (DataType::Binary, _) => properties.set_column_encoding(column(), Encoding::DELTA_LENGTH_BYTE_ARRAY),
            (DataType::Utf8, "attributes" | "input" | "output" | "context") => properties
                .set_column_encoding(column(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_column_compression(column(), Compression::ZSTD(ZstdLevel::try_new(JSON_ZSTD_LEVEL).unwrap_or_default())),
            (DataType::Utf8, _) => properties.set_column_encoding(column(), Encoding::DELTA_BYTE_ARRAY),
            _ => properties,
        };
    }
    properties.build()
}

/// The first row of `rows` after its first one whose key is not below `limit`. Looks near the start first.
fn end_of_run(keys: &Rows, rows: Range<usize>, limit: &[u8]) -> usize {
    let is_below = |row: usize| keys.row(row).as_ref() < limit;
    let mut low = rows.start + 1;
    let mut width = 1;
    while low + width <= rows.end && is_below(low + width - 1) {
        low += width;
        width *= 2;
    }
    let mut high = rows.end.min(low + width);
    while low < high {
        let middle = low.midpoint(high);
        if is_below(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

fn push(pieces: &mut Vec<(Arc<RecordBatch>, Range<usize>)>, rows: &mut usize, batch: &Arc<RecordBatch>, run: Range<usize>) {
    if run.is_empty() {
        return;
    }
    *rows += run.len();
    match pieces.last_mut() {
        Some((last, before)) if Arc::ptr_eq(last, batch) && before.end == run.start => before.end = run.end,
        _ => pieces.push((Arc::clone(batch), run)),
    }
}

/// The rows of the pieces, one after the other.
fn join(format: &FileFormat, pieces: &[(Arc<RecordBatch>, Range<usize>)]) -> Result<RecordBatch, ArrowError> {
    let rows: usize = pieces.iter().map(|(_, run)| run.len()).sum();
    if let [(batch, run)] = pieces {
        return Ok(batch.slice(run.start, run.len()));
    }
    if rows / pieces.len() >= 32 {
        let slices: Vec<_> = pieces.iter().map(|(batch, run)| batch.slice(run.start, run.len())).collect();
        return concat_batches(&format.schema, &slices);
    }
    let mut batches: Vec<&RecordBatch> = Vec::new();
    let mut known: HashMap<*const RecordBatch, usize> = HashMap::new();
    let mut indices = Vec::with_capacity(rows);
    for (batch, run) in pieces {
        let index = *known.entry(Arc::as_ptr(batch)).or_insert_with(|| {
            batches.push(batch);
            batches.len() - 1
        });
        indices.extend(run.clone().map(|row| (index, row)));
    }
    interleave_record_batch(&batches, &indices)
}

/// Finds equal spans among neighbours with equal sort keys.
struct Ties {
    ids: [usize; 2],
    last_key: Vec<u8>,
    last: Option<(Arc<RecordBatch>, usize)>,
    /// Rows with the key of the last one, by their ids. Empty while there is only one.
    group: HashMap<Vec<u8>, Vec<(Arc<RecordBatch>, usize)>>,
    grouped: usize,
}

impl Ties {
    fn new(format: &FileFormat) -> Result<Self, ArrowError> {
        let ids = [format.schema.index_of("trace_id")?, format.schema.index_of("span_id")?];
        Ok(Self { ids, last_key: Vec::new(), last: None, group: HashMap::new(), grouped: 0 })
    }

    fn is_duplicate(&mut self, batch: &Arc<RecordBatch>, keys: &Rows, row: usize, is_inside_run: bool) -> bool {
        let key = keys.row(row);
        let previous = if is_inside_run {
            (keys.row(row - 1) == key).then(|| (Arc::clone(batch), row - 1))
        } else {
            self.last.clone().filter(|_| self.last_key == key.as_ref())
        };
        let Some((previous, previous_row)) = previous else {
            if self.grouped > 0 {
                self.group.clear();
                self.grouped = 0;
            }
            return false;
        };
        if self.grouped == 0 {
            self.find_or_remember(&previous, previous_row);
        }
        self.find_or_remember(batch, row)
    }

    fn end_of_run(&mut self, batch: &Arc<RecordBatch>, keys: &Rows, row: usize) {
        self.last_key.clear();
        self.last_key.extend_from_slice(keys.row(row).as_ref());
        self.last = Some((Arc::clone(batch), row));
    }

    fn find_or_remember(&mut self, batch: &Arc<RecordBatch>, row: usize) -> bool {
        let ids = self.ids.map(|column| batch.column(column).as_binary::<i32>().value(row)).concat();
        let known = self.group.get(&ids).is_some_and(|rows| rows.iter().any(|(other, at)| is_same_row(batch, row, other, *at)));
        if !known && self.grouped < MAX_TIED_ROWS {
            self.group.entry(ids).or_default().push((Arc::clone(batch), row));
            self.grouped += 1;
        }
        known
    }
}

fn is_same_row(one: &RecordBatch, row: usize, other: &RecordBatch, other_row: usize) -> bool {
    let columns = one.columns().iter().zip(other.columns());
    columns.into_iter().all(|(left, right)| left.slice(row, 1).as_ref() == right.slice(other_row, 1).as_ref())
}

fn arrow_error(table: Table, source: ArrowError) -> LakeError {
    LakeError::Arrow { table: table.name(), source }
}
