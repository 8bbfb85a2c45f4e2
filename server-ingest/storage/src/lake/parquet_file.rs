//! One Parquet file: how each column is encoded, and writing it so that it survives power loss.
//!
//! The settings follow the measurements in `docs/adr/0004-delta-commits.md`: dictionaries only where values repeat (they cost
//! a third more time and an eighth more space elsewhere), statistics only where a reader prunes by them.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, new_null_array};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnDescPtr, TypePtr};

use super::LakeError;
use super::gather::{Column, PIECE_ROWS, Plain};
use super::home::Home;
use super::order::{DateRows, RowPlace, Run, runs};
use super::pages::{Workbench, write_nothing};
use super::schema::{file_schema, leaf_types, time_column};
use super::words::Few;
use crate::columns::Table;
use crate::scheduling::give_way;

/// How the footer of a file written here begins to name its writer. Only such files are known to be sorted.
pub(super) const CREATED_BY: &str = "scouter-storage";

/// Rows of a row group: the unit a reader can skip. Smaller ones make a lookup read more bloom filters.
const ROW_GROUP_ROWS: usize = 131_072;

/// Bytes that are written to a file at once.
const WRITE_BYTES: usize = 256 * 1024;

/// False positives of the bloom filter on `trace_id`; it is folded to the number of distinct ids in the file.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Columns a reader prunes by, besides the sort columns and the time column.
const COLUMNS_WITH_STATISTICS: [&str; 3] = ["duration_nano", "status_code", "trace_id"];

/// How the files of one table are written.
#[derive(Debug)]
pub(super) struct FileFormat {
    pub(super) schema: SchemaRef,
    parquet_schema: TypePtr,
    pub(super) properties: Arc<WriterProperties>,
    pub(super) time_column: &'static str,
}

/// What a written file holds.
#[derive(Debug)]
pub(super) struct FileFacts {
    pub(super) size_bytes: u64,
    pub(super) rows: u64,
    pub(super) time_range_micros: Option<(i64, i64)>,
}

impl FileFormat {
    pub(super) fn new(table: Table) -> Result<Self, ParquetError> {
        let schema = file_schema(table);
        let columns = ArrowSchemaConverter::new().with_coerce_types(true).convert(&schema)?;
        let mut leaves = Vec::with_capacity(columns.num_columns());
        schema.fields().iter().for_each(|field| leaf_types(field.data_type(), &mut leaves));
        debug_assert_eq!(leaves.len(), columns.num_columns());

        let mut properties = WriterProperties::builder()
            .set_created_by(format!("{CREATED_BY} {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_coerce_types(true)
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_statistics_enabled(EnabledStatistics::None);
        for (column, leaf) in columns.columns().iter().zip(leaves) {
            let path = column.path().clone();
            let name = path.parts().first().map_or("", String::as_str);
            match leaf {
                DataType::Dictionary(..) | DataType::Int8 | DataType::Int16 | DataType::Int32 => {
                    properties = properties.set_column_dictionary_enabled(path.clone(), true);
                }
                // Times rise inside a file and counts are small: differences pack better than zstd packs plain values.
                DataType::Int64 | DataType::Timestamp(..) => {
                    properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
                }
                _ => {}
            }
            if table.sort_columns().contains(&name) || name == time_column(table) {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
            } else if COLUMNS_WITH_STATISTICS.contains(&name) {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk);
            }
            if name == "trace_id" {
                properties = properties.set_column_bloom_filter_fpp(path, BLOOM_FALSE_POSITIVES);
            }
        }
        let sorting = table.sort_columns().iter().map(|name| {
            let column = columns.columns().iter().position(|column| column.path().parts() == [*name]);
            let column = column.ok_or_else(|| ParquetError::General(format!("sort column {name} is missing")))?;
            let column_idx = i32::try_from(column).expect("a table has fewer than 2^31 columns");
            Ok(SortingColumn { column_idx, descending: false, nulls_first: true })
        });
        let sorting = sorting.collect::<Result<Vec<_>, ParquetError>>()?;
        let properties = Arc::new(properties.set_sorting_columns(Some(sorting)).build());
        Ok(Self { schema: Arc::new(schema), parquet_schema: columns.root_schema_ptr(), properties, time_column: time_column(table) })
    }

    /// Writes rows of `batches` into a new file and syncs it. The folder is left to the caller.
    ///
    /// Column after column: what is held is the encoded form of one of them.
    pub(super) fn write_synced(&self, path: &Path, batches: &[RecordBatch], rows: &DateRows) -> Result<FileFacts, LakeError> {
        let create = |error| LakeError::io("create", path, error);
        let parquet = |source| LakeError::Parquet { path: path.to_owned(), source };
        let file = File::create_new(path).map_err(create)?;
        let file = self.write(file, batches, rows).map_err(parquet)?;
        let size_bytes = sync(&file).map_err(|error| LakeError::io("sync", path, error))?;
        let time_range_micros = self.time_range(batches, rows).map_err(|error| parquet(error.into()))?;
        Ok(FileFacts { size_bytes, rows: rows.order.len() as u64, time_range_micros })
    }

    /// The footer does not hold the Arrow schema, so that every reader sees plain types, not our dictionaries.
    fn write(&self, file: File, batches: &[RecordBatch], rows: &DateRows) -> Result<File, ParquetError> {
        // Parquet's own buffer is 8 KiB, a system call each.
        let file = BufWriter::with_capacity(WRITE_BYTES, file);
        let mut writer = SerializedFileWriter::new(file, Arc::clone(&self.parquet_schema), Arc::clone(&self.properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&self.schema));
        let columns = self.schema.fields().iter().map(|field| {
            let index = batches.first().map_or(Ok(0), |batch| batch.schema_ref().index_of(field.name()))?;
            Ok((field, index, Column::new(batches, index, field.is_nullable())))
        });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        let descriptions = writer.schema_descr().columns().to_vec();
        let mut workbench = Workbench::new()?;
        for (number, order) in rows.order.chunks(ROW_GROUP_ROWS).enumerate() {
            let rows = Rows { batches, order, runs: runs(order) };
            // Made only if a column wants them: they have buffers, and a bloom filter to be cleared.
            let mut encoders: Vec<Option<ArrowColumnWriter>> = Vec::new();
            let mut first = 0;
            let mut row_group = writer.next_row_group()?;
            for (field, index, column) in &columns {
                let mut types = Vec::new();
                leaf_types(field.data_type(), &mut types);
                let leaves = first..first + types.len();
                first = leaves.end;
                let descriptions = &descriptions[leaves.clone()];
                if !self.write_column(column, &rows, descriptions, &mut workbench, &mut row_group)? {
                    if encoders.is_empty() {
                        encoders.extend(factory.create_column_writers(number)?.into_iter().map(Some));
                    }
                    write_plainly(field, *index, column, &rows, &mut encoders[leaves], &mut row_group)?;
                }
            }
            row_group.close()?;
        }
        writer.into_inner()?.into_inner().map_err(|error| error.into_error().into())
    }

    /// Writes a column of one of the usual kinds; false when it is of another.
    fn write_column(
        &self,
        column: &Column<'_>,
        rows: &Rows<'_>,
        leaves: &[ColumnDescPtr],
        workbench: &mut Workbench,
        row_group: &mut SerializedRowGroupWriter<'_, BufWriter<File>>,
    ) -> Result<bool, ParquetError> {
        let statistics = leaves.iter().map(|leaf| self.properties.statistics_enabled(leaf.path()));
        let statistics = statistics.reduce(|one, other| if one == EnabledStatistics::None { other } else { one });
        let statistics = statistics.unwrap_or(EnabledStatistics::None);
        let has_none = statistics == EnabledStatistics::None;
        let runs = &rows.runs;
        match (column, leaves) {
            (Column::Nothing(level), _) if has_none => {
                for leaf in leaves {
                    write_nothing(Arc::clone(leaf), rows.order.len(), *level, workbench, row_group)?;
                }
            }
            (Column::Same(value), [leaf]) => Few::same(*value, rows.order.len()).write(
                Arc::clone(leaf),
                statistics,
                i64::to_le_bytes,
                |least, most, nulls| Statistics::int64(least, most, None, Some(nulls), false),
                workbench,
                row_group,
            )?,
            (Column::Words(words), [leaf]) if has_none || !words.has_long_words() => {
                words.write(runs, Arc::clone(leaf), statistics, workbench, row_group)?;
            }
            (Column::Leaf(values), [leaf]) if has_none || values.has_short_bounds() => {
                values.write(None, runs, Arc::clone(leaf), statistics, workbench, row_group)?;
            }
            (Column::Lists { ends, empty, leaves: values }, leaves) if has_none && values.len() == leaves.len() => {
                for (values, leaf) in values.iter().zip(leaves) {
                    values.write(Some((ends, *empty)), runs, Arc::clone(leaf), statistics, workbench, row_group)?;
                }
            }
            (Column::Small(numbers), [leaf]) if let Some(few) = Few::of(numbers, runs) => few.write(
                Arc::clone(leaf),
                statistics,
                i32::to_le_bytes,
                |least, most, nulls| Statistics::int32(least, most, None, Some(nulls), false),
                workbench,
                row_group,
            )?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn time_range(&self, batches: &[RecordBatch], rows: &DateRows) -> Result<Option<(i64, i64)>, ArrowError> {
        let mut range: Option<(i64, i64)> = None;
        let times = batches.iter().map(|batch| Ok(batch.column(batch.schema_ref().index_of(self.time_column)?)));
        let times = times.collect::<Result<Vec<_>, ArrowError>>()?;
        for run in runs(&rows.order) {
            let times = times[run.batch].as_primitive::<TimestampMicrosecondType>().slice(run.start, run.rows);
            let Some((least, most)) = min(&times).zip(max(&times)).filter(|_| times.null_count() == 0) else { return Ok(None) };
            range = Some(range.map_or((least, most), |(low, high)| (low.min(least), high.max(most))));
        }
        Ok(range)
    }
}

/// The rows of one row group.
struct Rows<'a> {
    batches: &'a [RecordBatch],
    order: &'a [RowPlace],
    runs: Vec<Run>,
}

/// Writes a column through Parquet's own writer.
fn write_plainly(
    field: &Field,
    index: usize,
    column: &Column<'_>,
    rows: &Rows<'_>,
    encoders: &mut [Option<ArrowColumnWriter>],
    row_group: &mut SerializedRowGroupWriter<'_, BufWriter<File>>,
) -> Result<(), ParquetError> {
    let mut encode = |array| {
        give_way();
        let values = compute_leaves(field, &array)?;
        encoders.iter_mut().flatten().zip(&values).try_for_each(|(encoder, leaf)| encoder.write(leaf))
    };
    match column {
        Column::Nothing(_) => encode(new_null_array(field.data_type(), rows.order.len()))?,
        Column::Words(words) => rows.order.chunks(PIECE_ROWS).try_for_each(|piece| encode(words.array(piece)))?,
        _ => Plain::new(rows.batches, index).for_each_piece(rows.order, encode)?,
    }
    encoders.iter_mut().filter_map(Option::take).try_for_each(|encoder| encoder.close()?.append_to_row_group(row_group))
}

fn sync(file: &File) -> io::Result<u64> {
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Rows of a file, from its footer: for files of writers that keep no statistics.
pub(super) fn count_rows(home: &Home, path: &Path) -> Result<u64, LakeError> {
    use parquet::file::reader::FileReader;
    let file = home.open(path).map_err(|error| LakeError::io("open", path, error))?;
    let reader = parquet::file::reader::SerializedFileReader::new(file);
    let reader = reader.map_err(|source| LakeError::Parquet { path: path.to_owned(), source })?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}
