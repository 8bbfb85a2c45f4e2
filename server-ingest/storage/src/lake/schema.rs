//! A table's columns as Delta and as Parquet see them.

use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;

use crate::columns::Table;

/// The partition column of every table.
pub(super) const PARTITION: &str = "date";

/// Key of the table property that holds `Table::FORMAT_VERSION`.
pub(super) const FORMAT_VERSION_KEY: &str = "scouter.formatVersion";

/// Name of the column that tells when a row happened: what readers prune by.
pub(super) fn time_column(table: Table) -> &'static str {
    match table {
        Table::Spans => "start_time",
        _ => "created_at",
    }
}

/// The columns in Delta's types; dictionaries become their values.
pub(super) fn delta_schema(table: Table) -> Result<StructType, ArrowError> {
    table.schema().as_ref().try_into_kernel()
}

/// The columns of a file: all but the partition, still with dictionaries, from which the writer knows what repeats.
pub(super) fn file_schema(table: Table) -> Schema {
    let fields: Vec<_> = table.schema().fields().iter().filter(|field| field.name() != PARTITION).cloned().collect();
    Schema::new(fields)
}

/// The types of a field's leaves, depth first: the order of Parquet's columns.
pub(super) fn leaf_types<'a>(data_type: &'a DataType, leaves: &mut Vec<&'a DataType>) {
    match data_type {
        DataType::List(element) | DataType::LargeList(element) => leaf_types(element.data_type(), leaves),
        DataType::Struct(members) => members.iter().for_each(|member| leaf_types(member.data_type(), leaves)),
        leaf => leaves.push(leaf),
    }
}
