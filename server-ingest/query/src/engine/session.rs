//! What the queries of an engine share, and the session each of them gets.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::registry::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use scouter_storage::columns::Table;
use scouter_storage::store::Cut;

use super::Limits;
use crate::error::QueryError;
use crate::functions;
use crate::stop;
use crate::table::CutTable;
use crate::{trace_labels, trace_spans};

const CATALOG: &str = "scouter";
const SCHEMA: &str = "public";
const INFORMATION_SCHEMA: &str = "information_schema";

/// Functions that make much out of little where no memory limit sees it, or take time that grows with the square of a text, and that no
/// question about spans needs.
const LEFT_OUT: [&str; 12] = [
    "levenshtein",
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "gen_series",
    "version",
];

/// Footers of Parquet files that stay in memory.
const METADATA_CACHE_BYTES: usize = 64 << 20;

/// The settings, functions, caches and memory of all queries.
pub(crate) struct Sessions {
    base: SessionState,
}

/// What a statement names in its `FROM`.
pub(super) struct Mentioned {
    pub(super) tables: Vec<Table>,
    /// The views that are named, or whatever there are.
    pub(super) views: Views,
    pub(super) unknown: Unknown,
}

/// Views that a session has. Each has to be planned, so it has those that are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    trace_spans: bool,
    labels: Vec<&'static trace_labels::View>,
}

/// Names that are no table. Some are functions, so they are a fault only when planning fails.
pub(super) struct Unknown(Vec<String>);

impl Sessions {
    pub(super) fn new(limits: Limits) -> Self {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
            // A reader must not be able to fill the disk that the log is on.
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .with_metadata_cache_limit(METADATA_CACHE_BYTES)
            .build_arc()
            .expect("a runtime without temporary files needs nothing that can fail");
        let mut config = SessionConfig::new()
            .with_target_partitions(limits.target_partitions.max(1))
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA);
        let parquet = &mut config.options_mut().execution.parquet;
        parquet.pruning = true;
        parquet.enable_page_index = true;
        parquet.bloom_filter_on_read = true;
        parquet.pushdown_filters = true;
        parquet.reorder_filters = true;
        let mut base = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_physical_optimizer_rules(stop::physical_rules())
            .with_default_features()
            .build();
        for name in LEFT_OUT {
            base.deregister_udf(name).expect("functions can be taken out of a session");
        }
        for name in ["replace", "regexp_replace"] {
            let unbounded = base.udf(name).expect("it is among the usual functions");
            base.register_udf(Arc::new(functions::replacing::bounded(unbounded))).expect("functions can be put into a session");
        }
        for function in functions::all().into_iter().chain(trace_spans::functions()).chain(trace_labels::functions()) {
            base.register_udf(Arc::new(function)).expect("functions can be put into a session");
        }
        Self { base }
    }

    pub(crate) fn memory_pool(&self) -> &Arc<dyn MemoryPool> {
        &self.base.runtime_env().memory_pool
    }

    /// A session for a plan that brings its tables.
    pub(crate) fn plain(&self) -> SessionState {
        let mut state = self.base.clone();
        state.mark_start_execution();
        state
    }

    /// The tables that a statement reads.
    pub(super) fn mentioned(&self, statement: &Statement) -> DataFusionResult<Mentioned> {
        let (mut tables, mut unknown, mut views) = (Vec::new(), Vec::new(), Views::default());
        for reference in self.base.resolve_table_references(statement)? {
            if reference.schema() == Some(INFORMATION_SCHEMA) {
                views = Views { trace_spans: true, labels: trace_labels::VIEWS.iter().collect() };
                continue;
            }
            let own = ours(&reference);
            let named = if is_in_our_schema(&reference) { reference.table() } else { "" };
            let read = match (own, trace_labels::view(named)) {
                (Some(table), _) => vec![table],
                (None, Some(view)) => {
                    views.labels.push(view);
                    view.tables.to_vec()
                }
                (None, None) if named == trace_spans::NAME => {
                    views.trace_spans = true;
                    vec![Table::Spans]
                }
                (None, None) => {
                    unknown.push(reference.to_string());
                    Vec::new()
                }
            };
            for table in read {
                if !tables.contains(&table) {
                    tables.push(table);
                }
            }
        }
        Ok(Mentioned { tables, views, unknown: Unknown(unknown) })
    }

    /// A session for one query. Tables without a cut are there to be listed, not to be read. A view is there if it is asked for, since
    /// it has to be planned.
    pub(super) async fn with_cuts(&self, cuts: Vec<(Table, Cut)>, views: &Views) -> DataFusionResult<SessionState> {
        let schema = Arc::new(MemorySchemaProvider::new());
        let mut cuts = cuts;
        for table in Table::ALL {
            let cut = cuts.iter().position(|(of, _)| *of == table).map(|index| cuts.swap_remove(index).1);
            schema.register_table(table.name().to_owned(), Arc::new(CutTable::new(table, cut))).expect("table names differ");
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::clone(&schema) as _).expect("a new catalog takes a schema");
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = self.base.clone();
        state.register_catalog_list(Arc::new(catalogs));
        state.mark_start_execution();
        if views.trace_spans {
            schema.register_table(trace_spans::NAME.to_owned(), trace_spans::view(&state).await?)?;
        }
        for view in &views.labels {
            let plan = state.create_logical_plan(view.sql).await?;
            schema.register_table(view.name.to_owned(), Arc::new(ViewTable::new(plan, None)))?;
        }
        Ok(state)
    }
}

impl Unknown {
    /// Says that a table does not exist if that is why planning failed.
    pub(super) fn explain(mut self, error: QueryError) -> QueryError {
        let is_the_reason = |name: &String| match &error {
            QueryError::Invalid { message } => message.contains("not found") && message.contains(name.trim_matches('"')),
            _ => false,
        };
        match self.0.iter().position(is_the_reason) {
            Some(index) => QueryError::unknown_table(self.0.swap_remove(index)),
            None => error,
        }
    }
}

fn is_in_our_schema(reference: &TableReference) -> bool {
    reference.catalog().is_none_or(|name| name == CATALOG) && reference.schema().is_none_or(|name| name == SCHEMA)
}

fn ours(reference: &TableReference) -> Option<Table> {
    if is_in_our_schema(reference) { Table::from_name(reference.table()) } else { None }
}
