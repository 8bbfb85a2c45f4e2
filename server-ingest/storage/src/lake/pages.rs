//! Column chunks that are written from what is already known of a column, page by page.
//!
//! Parquet's own writer takes values. It hashes and compares each string to find the dictionary that is there already, and encodes
//! each row of a column that has no value in any row: together a fifth of all CPU time between the wire and the table, measured.
//! Three kinds of column are therefore written here: words of a known dictionary, one number for all rows, and no value in any
//! row. They have no statistics. The rest goes through Parquet's writer.
//!
//! The bytes follow the Parquet format's pages "DATA_PAGE" and "DICTIONARY_PAGE" and its "RLE/bit-packing hybrid".

use std::io::Write;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// Rows of a page, so that a reader who knows which rows it wants need not decode all.
const PAGE_ROWS: usize = 16_384;

const ZSTD_LEVEL: i32 = 1;

/// Pages smaller than this are not compressed: setting the compressor up costs more than the disk they take.
const MIN_COMPRESSED_BYTES: usize = 64;

/// A column whose values are the entries of a dictionary.
pub(super) struct Keyed<'a> {
    /// The entries in the encoding PLAIN.
    pub(super) dictionary: Vec<u8>,
    pub(super) entries: usize,
    /// For each row with a value, in order, its entry.
    pub(super) keys: &'a [u32],
    /// For each row 1 if it has a value, else 0; nothing when all have.
    pub(super) presence: Option<&'a [u32]>,
    pub(super) rows: usize,
}

impl Keyed<'_> {
    pub(super) fn write<W: Write + Send>(
        &self,
        column: ColumnDescPtr,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let codec = if self.dictionary.len() + self.keys.len() / 8 < MIN_COMPRESSED_BYTES {
            Compression::UNCOMPRESSED
        } else {
            Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?)
        };
        let mut chunk = Chunk::new(column, codec)?;
        chunk.dictionary(self.dictionary.clone(), self.entries)?;
        let key_bits = bits_of(self.entries.saturating_sub(1)).max(1);
        let mut first_key = 0;
        for first_row in (0..self.rows).step_by(PAGE_ROWS) {
            let rows = PAGE_ROWS.min(self.rows - first_row);
            let presence = self.presence.map(|presence| &presence[first_row..][..rows]);
            let keys = presence.map_or(rows, |presence| presence.iter().filter(|present| **present == 1).count());
            let mut page = chunk.levels(rows, |page, bits| match presence {
                Some(presence) => hybrid(page, presence, bits),
                None => run(page, 1, rows, bits),
            });
            page.push(key_bits as u8);
            hybrid(&mut page, &self.keys[first_key..][..keys], key_bits);
            first_key += keys;
            chunk.page(page, rows, Encoding::RLE_DICTIONARY)?;
        }
        chunk.close(self.rows, row_group)
    }
}

/// Writes a leaf that has no value in any of `rows`, because at `level` something around it is null or empty.
pub(super) fn write_nothing<W: Write + Send>(
    column: ColumnDescPtr,
    rows: usize,
    level: u32,
    row_group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<(), ParquetError> {
    let mut chunk = Chunk::new(column, Compression::UNCOMPRESSED)?;
    let page = chunk.levels(rows, |page, bits| run(page, level, rows, bits));
    chunk.page(page, rows, Encoding::PLAIN)?;
    chunk.close(rows, row_group)
}

/// A column chunk in memory.
struct Chunk {
    column: ColumnDescPtr,
    codec: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    bytes: TrackedWrite<Vec<u8>>,
    offsets: OffsetIndexBuilder,
    encodings: Vec<PageEncodingStats>,
    dictionary_at: Option<u64>,
    first_page_at: Option<u64>,
    compressed: usize,
    uncompressed: usize,
}

impl Chunk {
    fn new(column: ColumnDescPtr, codec: Compression) -> Result<Self, ParquetError> {
        let zstd = (codec != Compression::UNCOMPRESSED).then(|| zstd::bulk::Compressor::new(ZSTD_LEVEL));
        Ok(Self {
            column,
            codec,
            zstd: zstd.transpose()?,
            bytes: TrackedWrite::new(Vec::new()),
            offsets: OffsetIndexBuilder::new(),
            encodings: Vec::new(),
            dictionary_at: None,
            first_page_at: None,
            compressed: 0,
            uncompressed: 0,
        })
    }

    /// A page that begins with its levels: nobody repeats, and `define` writes the definition levels.
    fn levels(&self, rows: usize, define: impl FnOnce(&mut Vec<u8>, u32)) -> Vec<u8> {
        let mut page = Vec::new();
        let mut level = |max: i16, write: &mut dyn FnMut(&mut Vec<u8>, u32)| {
            if max > 0 {
                let start = page.len();
                page.extend_from_slice(&[0; 4]);
                write(&mut page, bits_of(max as usize));
                let length = (page.len() - start - 4) as u32;
                page[start..][..4].copy_from_slice(&length.to_le_bytes());
            }
        };
        level(self.column.max_rep_level(), &mut |page, bits| run(page, 0, rows, bits));
        let mut define = Some(define);
        level(self.column.max_def_level(), &mut |page, bits| {
            if let Some(define) = define.take() {
                define(page, bits);
            }
        });
        page
    }

    fn dictionary(&mut self, content: Vec<u8>, entries: usize) -> Result<(), ParquetError> {
        let page = |buf| Page::DictionaryPage { buf, num_values: entries as u32, encoding: Encoding::PLAIN, is_sorted: false };
        let written = self.write(content, page)?;
        self.dictionary_at = Some(written.offset);
        self.count(PageType::DICTIONARY_PAGE, Encoding::PLAIN);
        Ok(())
    }

    fn page(&mut self, content: Vec<u8>, rows: usize, encoding: Encoding) -> Result<(), ParquetError> {
        let page = |buf| Page::DataPage {
            buf,
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = self.write(content, page)?;
        self.first_page_at.get_or_insert(written.offset);
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(written.offset as i64, written.compressed_size as i32);
        self.count(PageType::DATA_PAGE, encoding);
        Ok(())
    }

    fn write(&mut self, content: Vec<u8>, page: impl FnOnce(Bytes) -> Page) -> Result<PageWriteSpec, ParquetError> {
        let uncompressed = content.len();
        let content = match &mut self.zstd {
            Some(zstd) => zstd.compress(&content)?,
            None => content,
        };
        let page = CompressedPage::new(page(Bytes::from(content)), uncompressed);
        let written = SerializedPageWriter::new(&mut self.bytes).write_page(page)?;
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

    fn close<W: Write + Send>(self, rows: usize, row_group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        let mut encodings: Vec<Encoding> = self.encodings.iter().map(|pages| pages.encoding).collect();
        encodings.push(Encoding::RLE);
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(self.codec)
            .set_encodings(encodings)
            .set_page_encoding_stats(self.encodings)
            .set_num_values(rows as i64)
            .set_total_compressed_size(self.compressed as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_dictionary_page_offset(self.dictionary_at.map(|at| at as i64))
            .set_data_page_offset(self.first_page_at.unwrap_or(0) as i64)
            .build()?;
        let bytes = Bytes::from(self.bytes.into_inner()?);
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(self.offsets.build()),
        };
        row_group.append_column(&bytes, close)
    }
}

/// Bits that numbers up to `max` need.
fn bits_of(max: usize) -> u32 {
    usize::BITS - max.leading_zeros()
}

/// `values` of `bits` each, as runs where eight or more are equal, else packed in groups of eight.
fn hybrid(out: &mut Vec<u8>, values: &[u32], bits: u32) {
    let mut packed_to = 0;
    let mut at = 0;
    while at < values.len() {
        let value = values[at];
        let length = values[at..].iter().take_while(|other| **other == value).count();
        // A run may only follow whole groups, so its first values may have to fill the group before it.
        let fill = (8 - (at - packed_to) % 8) % 8;
        if length >= fill + 8 {
            pack(out, &values[packed_to..at + fill], bits);
            run(out, value, length - fill, bits);
            packed_to = at + length;
        }
        at += length;
    }
    pack(out, &values[packed_to..], bits);
}

fn run(out: &mut Vec<u8>, value: u32, length: usize, bits: u32) {
    if length > 0 {
        varint(out, (length as u64) << 1);
        out.extend_from_slice(&value.to_le_bytes()[..bits.div_ceil(8) as usize]);
    }
}

/// One run of packed groups; the last is filled up with zeros.
fn pack(out: &mut Vec<u8>, values: &[u32], bits: u32) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * bits as usize;
    let (mut waiting, mut waiting_bits) = (0u64, 0);
    for value in values {
        waiting |= u64::from(*value) << waiting_bits;
        waiting_bits += bits;
        if waiting_bits >= 32 {
            out.extend_from_slice(&(waiting as u32).to_le_bytes());
            waiting >>= 32;
            waiting_bits -= 32;
        }
    }
    out.extend_from_slice(&waiting.to_le_bytes()[..waiting_bits.div_ceil(8) as usize]);
    out.resize(end, 0);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
