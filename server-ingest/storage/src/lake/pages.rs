//! Column chunks that are written page by page from what is already known of a column.
//!
//! Parquet's own writer takes arrays of values. It hashes each string to find the dictionary that is there already, asks of each row which
//! levels it has, copies values twice before they are compressed, and sets a compressor up for each page. Between the wire and the table
//! that was a quarter of all CPU time, measured. So the usual kinds of columns are written here ([`super::words`], [`super::leaves`]);
//! the rest goes through Parquet's writer.
//!
//! The bytes follow the Parquet format's pages "DATA_PAGE" and "DICTIONARY_PAGE".

use std::io::{self, Write};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::properties::EnabledStatistics;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::encoding::{bits_of, run};
use crate::scheduling::give_way;

/// Rows of a page, so that a reader who knows which rows it wants need not decode all.
pub(super) const PAGE_ROWS: usize = 16_384;

/// Files written here are merged soon, and merging compresses better. Between level 1 and this one are a third of the time and 20 bytes a
/// span (`docs/performance.md`).
const ZSTD_LEVEL: i32 = -3;

/// Chunks smaller than this are not compressed: it costs more than the disk they take.
pub(super) const MIN_COMPRESSED_BYTES: usize = 64;

/// Memory and a compressor for all pages of a file. Memory that was never touched costs more than what is written to it.
pub(super) struct Workbench {
    zstd: zstd::bulk::Compressor<'static>,
    /// A page that was compressed.
    compressed: Vec<u8>,
    /// A chunk that is being written.
    chunk: Vec<u8>,
    /// A page that is being written.
    pub(super) page: Vec<u8>,
    /// Its numbers, or the lengths of its values.
    pub(super) numbers: Vec<i64>,
    /// Its levels.
    pub(super) levels: Vec<u32>,
}

impl Workbench {
    pub(super) fn new() -> io::Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        let (compressed, chunk, page) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { zstd, compressed, chunk, page, numbers: Vec::new(), levels: Vec::new() })
    }

    /// The page as it is written, without a copy; [`Self::take_back`] gets the memory.
    fn content(&mut self, is_compressed: bool) -> io::Result<Bytes> {
        if !is_compressed {
            return Ok(Bytes::from(std::mem::take(&mut self.page)));
        }
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        compressed.reserve(zstd::zstd_safe::compress_bound(self.page.len()));
        self.zstd.compress_to_buffer(&self.page, &mut compressed)?;
        Ok(Bytes::from(compressed))
    }

    fn take_back(&mut self, content: Bytes, is_compressed: bool) {
        // No copy: nobody else has the bytes any more.
        let memory = Vec::from(content);
        if is_compressed {
            self.compressed = memory;
        } else {
            self.page = memory;
        }
    }
}

/// The smallest and the largest value of a page, as their plain bytes.
pub(super) type Bounds = (Vec<u8>, Vec<u8>);

/// A column chunk in memory.
pub(super) struct Chunk {
    column: ColumnDescPtr,
    is_compressed: bool,
    bytes: TrackedWrite<Vec<u8>>,
    offsets: OffsetIndexBuilder,
    index: Option<ColumnIndexBuilder>,
    encodings: Vec<PageEncodingStats>,
    dictionary_at: Option<u64>,
    first_page_at: Option<u64>,
    compressed: usize,
    uncompressed: usize,
    rows: usize,
    slots: usize,
}

/// What a data page holds, whose bytes are in [`Workbench::page`].
pub(super) struct PageFacts {
    pub(super) rows: usize,
    /// Levels: one a row, but for lists one an element, and one an empty list.
    pub(super) slots: usize,
    pub(super) nulls: usize,
    pub(super) encoding: Encoding,
    pub(super) bounds: Option<Bounds>,
}

impl Chunk {
    pub(super) fn new(column: ColumnDescPtr, is_compressed: bool, statistics: EnabledStatistics, workbench: &mut Workbench) -> Self {
        let mut memory = std::mem::take(&mut workbench.chunk);
        memory.clear();
        let index = (statistics == EnabledStatistics::Page).then(|| ColumnIndexBuilder::new(column.physical_type()));
        Self {
            column,
            is_compressed,
            bytes: TrackedWrite::new(memory),
            offsets: OffsetIndexBuilder::new(),
            index,
            encodings: Vec::new(),
            dictionary_at: None,
            first_page_at: None,
            compressed: 0,
            uncompressed: 0,
            rows: 0,
            slots: 0,
        }
    }

    pub(super) fn column(&self) -> &ColumnDescPtr {
        &self.column
    }

    /// Begins a page whose rows neither repeat nor, as far as they need them, have other definition levels than `define` writes.
    pub(super) fn begin_page(&self, workbench: &mut Workbench, rows: usize, define: impl FnOnce(&mut Vec<u8>, &[u32], u32)) {
        workbench.page.clear();
        levels(&mut workbench.page, self.column.max_rep_level(), |page, bits| run(page, 0, rows, bits));
        let present = &workbench.levels;
        levels(&mut workbench.page, self.column.max_def_level(), |page, bits| define(page, present, bits));
    }

    /// The dictionary, whose entries are in [`Workbench::page`] in the encoding PLAIN.
    pub(super) fn dictionary(&mut self, workbench: &mut Workbench, entries: usize) -> Result<(), ParquetError> {
        let page = |buf| Page::DictionaryPage { buf, num_values: entries as u32, encoding: Encoding::PLAIN, is_sorted: false };
        let written = self.write(workbench, page)?;
        self.dictionary_at = Some(written.offset);
        self.count(PageType::DICTIONARY_PAGE, Encoding::PLAIN);
        Ok(())
    }

    pub(super) fn page(&mut self, workbench: &mut Workbench, facts: PageFacts) -> Result<(), ParquetError> {
        let PageFacts { rows, slots, nulls, encoding, bounds } = facts;
        let page = |buf| Page::DataPage {
            buf,
            num_values: slots as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = self.write(workbench, page)?;
        self.first_page_at.get_or_insert(written.offset);
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(written.offset as i64, written.compressed_size as i32);
        if let Some(index) = &mut self.index {
            let is_null = bounds.is_none();
            let (least, most) = bounds.unwrap_or_default();
            index.append(is_null, least, most, nulls as i64);
        }
        self.count(PageType::DATA_PAGE, encoding);
        self.rows += rows;
        self.slots += slots;
        Ok(())
    }

    fn write(&mut self, workbench: &mut Workbench, page: impl FnOnce(Bytes) -> Page) -> Result<PageWriteSpec, ParquetError> {
        let uncompressed_bytes = workbench.page.len();
        give_way();
        let content = workbench.content(self.is_compressed)?;
        give_way();
        let page = CompressedPage::new(page(content.clone()), uncompressed_bytes);
        let written = SerializedPageWriter::new(&mut self.bytes).write_page(page)?;
        workbench.take_back(content, self.is_compressed);
        self.compressed += written.compressed_size;
        self.uncompressed += written.uncompressed_size;
        Ok(written)
    }

    fn count(&mut self, page_type: PageType, encoding: Encoding) {
        match self.encodings.last_mut() {
            Some(last) if last.page_type == page_type && last.encoding == encoding => last.count += 1,
            _ => self.encodings.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
    }

    pub(super) fn close<W: Write + Send>(
        self,
        statistics: Option<Statistics>,
        workbench: &mut Workbench,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let mut encodings: Vec<Encoding> = self.encodings.iter().map(|pages| pages.encoding).collect();
        encodings.push(Encoding::RLE);
        let codec = if self.is_compressed { Compression::ZSTD(ZstdLevel::default()) } else { Compression::UNCOMPRESSED };
        let mut metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(codec)
            .set_encodings(encodings)
            .set_page_encoding_stats(self.encodings)
            .set_num_values(self.slots as i64)
            .set_total_compressed_size(self.compressed as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_dictionary_page_offset(self.dictionary_at.map(|at| at as i64))
            .set_data_page_offset(self.first_page_at.unwrap_or(0) as i64);
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let bytes = Bytes::from(self.bytes.into_inner()?);
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: self.index.map(ColumnIndexBuilder::build).transpose()?,
            offset_index: Some(self.offsets.build()),
        };
        row_group.append_column(&bytes, close)?;
        workbench.chunk = Vec::from(bytes);
        Ok(())
    }
}

/// Levels up to `max` as a page of version 1 has them: after their length, and none at all where 0 is the only one.
pub(super) fn levels(page: &mut Vec<u8>, max: i16, write: impl FnOnce(&mut Vec<u8>, u32)) {
    if max > 0 {
        let start = page.len();
        page.extend_from_slice(&[0; 4]);
        write(page, bits_of(max as usize));
        let length = (page.len() - start - 4) as u32;
        page[start..][..4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Writes a leaf that has no value in any of `rows`, because at `level` something around it is null or empty.
pub(super) fn write_nothing<W: Write + Send>(
    column: ColumnDescPtr,
    rows: usize,
    level: u32,
    workbench: &mut Workbench,
    row_group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<(), ParquetError> {
    let mut chunk = Chunk::new(column, false, EnabledStatistics::None, workbench);
    chunk.begin_page(workbench, rows, |page, _, bits| run(page, level, rows, bits));
    chunk.page(workbench, PageFacts { rows, slots: rows, nulls: rows, encoding: Encoding::PLAIN, bounds: None })?;
    chunk.close(None, workbench, row_group)
}
