//! How Parquet files are read: what describes them comes from the cache, and it says where each page lies.
//!
//! DataFusion asks for the places of pages only where the statistics of pages can leave some out. A lookup by trace id has no use for those,
//! since ids are in every page; but it has found some rows of thousands when it comes to the wide columns, and without the places it would read
//! these whole: nine megabytes for a trace of eight spans, of which some hundred kilobytes are its own.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;

/// Makes readers that know where pages lie.
#[derive(Debug)]
pub(super) struct PagedReaders(pub(super) CachedParquetFileReaderFactory);

impl ParquetFileReaderFactory for PagedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(PagedReader(self.0.create_reader(partition, file, footer_hint, metrics)?)))
    }
}

struct PagedReader(Box<dyn AsyncFileReader + Send>);

impl AsyncFileReader for PagedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.0.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.0.get_byte_ranges(ranges)
    }

    /// Without options the indexes of pages come with the rest, from the file once and then from the cache.
    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.0.get_metadata(None)
    }
}
