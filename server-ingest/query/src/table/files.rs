//! The Parquet files of a snapshot: which of them a query needs, and how they are read.
//!
//! The files hold plain types and lack the partition column. They are read straight into the table's schema, dictionaries
//! included, so that hot and stored rows have the same types and a dictionary page is not spelt out to be gathered again.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Int64Array, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectMeta;
use object_store::path::Path;
use scouter_storage::columns::Table;
use scouter_storage::lake::DataFile;
use scouter_storage::store::Cut;

use super::reader::PagedReaders;

/// The partition column, last in every schema.
const PARTITION: &str = "date";

/// Read from the end of a file at first: most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;

/// Delta keeps times in statistics to the millisecond, rounded down; the largest may be this much later.
const TIME_SLACK_MICROS: i64 = 999;

/// The time columns of a table: the one that [`DataFile`] has bounds for, and its twin in nanoseconds.
fn time_columns(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Spans => ("start_time", "start_unix_nano"),
        _ => ("created_at", "created_at_unix_nano"),
    }
}

/// The columns in the files and the partition column.
fn table_schema(table: Table) -> (SchemaRef, FieldRef) {
    static SCHEMAS: LazyLock<[(SchemaRef, FieldRef); Table::ALL.len()]> = LazyLock::new(|| {
        Table::ALL.map(|table| {
            let schema = table.schema();
            let (partition, stored) = schema.fields().split_last().expect("every table has columns");
            assert_eq!(partition.name(), PARTITION, "the partition column is the last");
            (Arc::new(Schema::new(stored.to_vec())), Arc::clone(partition))
        })
    });
    let index = Table::ALL.iter().position(|of| *of == table).expect("ALL has every table");
    SCHEMAS[index].clone()
}

/// The files that may hold rows that pass `filters`: by the bounds of their times, then, where ids of traces are asked for, by the index
/// of each file that is left.
pub(super) async fn prune(state: &dyn Session, table: Table, cut: &Cut, filters: &[Expr]) -> Result<Vec<Arc<DataFile>>> {
    let files = &cut.snapshot.files;
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files.clone()) };
    let schema = table.schema();
    let filter = state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&schema))?)?;
    let ids = trace_ids(table, &filter);
    // A filter that bounds prove nothing about leaves every file in.
    let kept = match PruningPredicateBuilder::new().with_file_schema(schema).try_build(filter) {
        Ok(predicate) => kept(files, &predicate.prune(&Bounds { table, files })?),
        Err(_) => files.clone(),
    };
    match ids {
        Some(ids) if !kept.is_empty() => {
            let index = Arc::clone(&cut.trace_index);
            let search = move || {
                let ids: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
                let may_contain = index.may_contain(&kept, &ids);
                self::kept(&kept, &may_contain)
            };
            // Indexes that are not in memory are read from disk.
            tokio::task::spawn_blocking(search).await.map_err(|error| DataFusionError::External(Box::new(error)))
        }
        _ => Ok(kept),
    }
}

fn kept(files: &[Arc<DataFile>], keep: &[bool]) -> Vec<Arc<DataFile>> {
    files.iter().zip(keep).filter(|(_, keep)| **keep).map(|(file, _)| Arc::clone(file)).collect()
}

/// The ids of which a row must have one to pass the filter; `None` if it may have others.
fn trace_ids(table: Table, filter: &Arc<dyn PhysicalExpr>) -> Option<Vec<Vec<u8>>> {
    if table != Table::Spans {
        return None;
    }
    let guarantees = LiteralGuarantee::analyze(filter);
    let guarantee = guarantees.iter().find(|guarantee| guarantee.column.name == "trace_id" && guarantee.guarantee == Guarantee::In)?;
    guarantee.literals.iter().map(|literal| bytes_of(literal).map(<[u8]>::to_vec)).collect()
}

fn bytes_of(literal: &ScalarValue) -> Option<&[u8]> {
    match literal {
        ScalarValue::Binary(bytes) | ScalarValue::LargeBinary(bytes) | ScalarValue::BinaryView(bytes) => bytes.as_deref(),
        ScalarValue::FixedSizeBinary(_, bytes) => bytes.as_deref(),
        _ => None,
    }
}

/// Reads `files` of a cut with the given columns.
pub(super) fn scan(
    state: &dyn Session,
    table: Table,
    cut: &Cut,
    files: &[Arc<DataFile>],
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (stored, partition) = table_schema(table);
    let schema = TableSchema::builder(Arc::clone(&stored)).with_table_partition_cols(vec![partition]).build();
    let runtime = state.runtime_env();
    let url = match &cut.objects {
        None => ObjectStoreUrl::local_filesystem(),
        Some(objects) => {
            let (root, store) = objects.store();
            runtime.register_object_store(root, Arc::clone(store));
            ObjectStoreUrl::parse(root)?
        }
    };
    let reader = CachedParquetFileReaderFactory::new(runtime.object_store(&url)?, runtime.cache_manager.get_file_metadata_cache());
    let reader = PagedReaders(reader);
    let source = ParquetSource::new(schema)
        .with_table_parquet_options(state.default_table_options().parquet)
        .with_metadata_size_hint(FOOTER_HINT_BYTES)
        .with_parquet_file_reader_factory(Arc::new(reader));

    let parts = files.iter().map(|file| partitioned_file(table, &stored, file)).collect::<Result<Vec<_>>>()?;
    let groups = FileGroup::new(parts).split_files(state.config().target_partitions());
    let config = FileScanConfigBuilder::new(url, Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(statistics(table, files))
        .with_limit(limit)
        .with_projection_indices(projection.cloned())?
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

fn partitioned_file(table: Table, stored: &SchemaRef, file: &Arc<DataFile>) -> Result<PartitionedFile> {
    let location = Path::from_absolute_path(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))?;
    // Files never change once they are named, so their time says nothing.
    let meta = ObjectMeta { location, last_modified: Default::default(), size: file.size_bytes, e_tag: None, version: None };
    let of_one = [Arc::clone(file)];
    Ok(PartitionedFile::new_from_meta(meta)
        .with_partition_values(vec![ScalarValue::Date32(Some(file.date))])
        // Who holds this keeps the file on disk: the plan outlives the cut it was made from.
        .with_extension(Arc::clone(file))
        .with_statistics(Arc::new(statistics(table, &of_one)))
        .with_arrow_schema(Arc::clone(stored)))
}

/// What is known of the rows of `files` together. Counts are exact, so `count(*)` reads nothing; times are bounds.
fn statistics(table: Table, files: &[Arc<DataFile>]) -> Statistics {
    let schema = table.schema();
    let bounds = |of: fn(&DataFile) -> Option<i64>| files.iter().map(|file| of(file)).collect::<Option<Vec<_>>>().unwrap_or_default();
    let min = bounds(|file| file.min_time_micros).into_iter().min();
    let max = bounds(|file| file.max_time_micros).into_iter().max().map(|max| max.saturating_add(TIME_SLACK_MICROS));
    let (micros, nanos) = time_columns(table);
    let scalar = |value: Option<ScalarValue>| value.map_or(Precision::Absent, Precision::Inexact);
    let column_statistics = schema
        .fields()
        .iter()
        .map(|field| {
            let mut column = ColumnStatistics::new_unknown();
            let of: Option<fn(i64) -> ScalarValue> = if field.name() == micros {
                Some(|value| ScalarValue::TimestampMicrosecond(Some(value), Some("UTC".into())))
            } else if field.name() == nanos {
                Some(|value| ScalarValue::Int64(Some(value)))
            } else {
                None
            };
            if let Some(of) = of {
                let is_nanos = field.name() == nanos;
                column.min_value = scalar(min.map(|value| of(if is_nanos { value.saturating_mul(1000) } else { value })));
                column.max_value = scalar(max.map(|value| of(if is_nanos { to_last_nano(value) } else { value })));
            }
            if !field.is_nullable() {
                column.null_count = Precision::Exact(0);
            }
            column
        })
        .collect();
    Statistics {
        num_rows: Precision::Exact(files.iter().map(|file| file.rows as usize).sum()),
        total_byte_size: Precision::Inexact(files.iter().map(|file| file.size_bytes as usize).sum()),
        column_statistics,
    }
}

fn to_last_nano(micros: i64) -> i64 {
    micros.saturating_mul(1000).saturating_add(999)
}

/// What is known of each file, a container each.
struct Bounds<'a> {
    table: Table,
    files: &'a [Arc<DataFile>],
}

impl Bounds<'_> {
    fn bound(&self, column: &Column, micros_of: fn(&DataFile) -> Option<i64>, nanos_of: fn(i64) -> i64) -> Option<ArrayRef> {
        let (micros, nanos) = time_columns(self.table);
        let values = self.files.iter().map(|file| micros_of(file));
        if column.name == PARTITION {
            Some(Arc::new(self.files.iter().map(|file| Some(file.date)).collect::<Date32Array>()))
        } else if column.name == micros {
            Some(Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
        } else if column.name == nanos {
            Some(Arc::new(values.map(|value| value.map(nanos_of)).collect::<Int64Array>()))
        } else {
            None
        }
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |file| file.min_time_micros, |micros| micros.saturating_mul(1000))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |file| file.max_time_micros.map(|max| max.saturating_add(TIME_SLACK_MICROS)), to_last_nano)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (micros, nanos) = time_columns(self.table);
        let is_never_null = [PARTITION, micros, nanos].contains(&column.name());
        is_never_null.then(|| Arc::new(UInt64Array::from(vec![0; self.files.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| Some(file.rows)).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
