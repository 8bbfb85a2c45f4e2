//! One Parquet file: how each column is encoded, and writing it so that it survives power loss.
//!
//! The settings follow the measurements in `docs/adr/0004-delta-commits.md`: dictionaries only where values repeat (they cost
//! a third more time and an eighth more space elsewhere), statistics only where a reader prunes by them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::LakeError;
use super::schema::{file_schema, leaf_types, time_column};
use crate::columns::Table;

/// How the footer of a file written here begins to name its writer. Only such files are known to be sorted.
pub(super) const CREATED_BY: &str = "scouter-storage";

/// Rows of a row group: the unit a reader can skip. Smaller ones make a lookup read more bloom filters.
const ROW_GROUP_ROWS: usize = 131_072;

/// False positives of the bloom filter on `trace_id`; it is folded to the number of distinct ids in the file.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Columns a reader prunes by, besides the sort columns and the time column.
const COLUMNS_WITH_STATISTICS: [&str; 3] = ["duration_nano", "status_code", "trace_id"];

/// How the files of one table are written.
#[derive(Debug)]
pub(super) struct FileFormat {
    pub(super) schema: SchemaRef,
    pub(super) properties: WriterProperties,
    pub(super) time_column: usize,
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
        let properties = properties.set_sorting_columns(Some(sorting)).build();
        let time_column = schema.index_of(time_column(table)).map_err(|error| ParquetError::ArrowError(error.to_string()))?;
        Ok(Self { schema: Arc::new(schema), properties, time_column })
    }

    /// Writes rows into a new file and syncs it. The folder is left to the caller.
    pub(super) fn write_synced(&self, path: &Path, rows: &RecordBatch) -> Result<FileFacts, LakeError> {
        let create = |error| LakeError::io("create", path, error);
        let parquet = |source| LakeError::Parquet { path: path.to_owned(), source };
        let file = File::create_new(path).map_err(create)?;
        // Without the Arrow schema in the footer every reader sees plain types, not our dictionaries.
        let options = ArrowWriterOptions::new().with_properties(self.properties.clone()).with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(file, Arc::clone(&self.schema), options).map_err(parquet)?;
        writer.write(rows).map_err(parquet)?;
        let file = writer.into_inner().map_err(parquet)?;
        let size_bytes = sync(&file).map_err(|error| LakeError::io("sync", path, error))?;
        let times = rows.column(self.time_column).as_primitive::<TimestampMicrosecondType>();
        let time_range_micros = min(times).zip(max(times)).filter(|_| times.null_count() == 0);
        Ok(FileFacts { size_bytes, rows: rows.num_rows() as u64, time_range_micros })
    }
}

fn sync(file: &File) -> io::Result<u64> {
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Rows of a file, from its footer: for files of writers that keep no statistics.
pub(super) fn count_rows(path: &Path) -> Result<u64, LakeError> {
    use parquet::file::reader::FileReader;
    let file = File::open(path).map_err(|error| LakeError::io("open", path, error))?;
    let reader = parquet::file::reader::SerializedFileReader::new(file);
    let reader = reader.map_err(|source| LakeError::Parquet { path: path.to_owned(), source })?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}
