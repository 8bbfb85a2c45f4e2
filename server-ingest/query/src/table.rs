//! A table as DataFusion sees it: the files of a cut and its hot rows, one after the other.

mod files;
mod reader;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use scouter_storage::columns::Table;
use scouter_storage::store::Cut;

/// One table at one instant.
pub(crate) struct CutTable {
    table: Table,
    schema: SchemaRef,
    cut: Option<Cut>,
}

impl CutTable {
    pub(crate) fn new(table: Table, cut: Option<Cut>) -> Self {
        Self { table, schema: table.schema(), cut }
    }

    fn scan_hot(
        &self,
        batches: &[RecordBatch],
        partitions: usize,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts = vec![Vec::new(); partitions.clamp(1, batches.len().max(1))];
        let count = parts.len();
        for (index, batch) in batches.iter().enumerate() {
            parts[index % count].push(batch.clone());
        }
        let source = MemorySourceConfig::try_new(&parts, Arc::clone(&self.schema), projection.cloned())?.with_limit(limit);
        Ok(DataSourceExec::from_data_source(source))
    }
}

impl std::fmt::Debug for CutTable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CutTable").field("table", &self.table).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for CutTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters prune files here; the optimizer then pushes them into the scans, and keeps what a scan cannot decide.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(cut) = &self.cut else {
            return internal_err!("no cut was taken of table {}", self.table.name());
        };
        let partitions = state.config().target_partitions();
        let limit = limit.filter(|_| filters.is_empty());
        let files = files::prune(state, self.table, cut, filters).await?;
        let mut inputs = Vec::with_capacity(2);
        if !files.is_empty() {
            inputs.push(files::scan(state, self.table, cut, &files, projection, limit)?);
        }
        if !cut.hot.is_empty() || inputs.is_empty() {
            inputs.push(self.scan_hot(&cut.hot, partitions, projection, limit)?);
        }
        if inputs.len() == 1 { Ok(inputs.remove(0)) } else { UnionExec::try_new(inputs) }
    }
}
