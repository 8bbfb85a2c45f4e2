//! Columns that are written by the keys of a dictionary: words, whose dictionary is there already, and numbers of which there are few.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int32Type;
use parquet::basic::Encoding;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::EnabledStatistics;
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use super::encoding::{bits_of, hybrid, run};
use super::order::{RowPlace, Run};
use super::pages::{Bounds, Chunk, MIN_COMPRESSED_BYTES, PAGE_ROWS, PageFacts, Workbench};

/// So many different numbers are few.
const FEW: usize = 32;

/// Parquet cuts longer bounds, and ours would have to be cut by its rules.
const LONGEST_BOUND: usize = 64;

/// A column whose values are the entries of a dictionary.
struct Keyed<'a> {
    /// The entries in the encoding PLAIN.
    dictionary: Vec<u8>,
    entries: usize,
    /// For each row with a value, in order, its entry.
    keys: &'a [u32],
    /// For each row 1 if it has a value, else 0; nothing when all have.
    presence: Option<&'a [u32]>,
    rows: usize,
}

impl Keyed<'_> {
    /// `of_page` gives the bounds of some keys, `of_chunk` the statistics of all, told how many nulls there are. They are asked only if there
    /// are to be statistics.
    fn write<W: Write + Send>(
        &self,
        column: ColumnDescPtr,
        statistics: EnabledStatistics,
        of_page: impl Fn(&[u32]) -> Option<Bounds>,
        of_chunk: impl FnOnce(u64) -> Statistics,
        workbench: &mut Workbench,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let is_compressed = self.dictionary.len() + self.keys.len() / 8 >= MIN_COMPRESSED_BYTES;
        let mut chunk = Chunk::new(column, is_compressed, statistics, workbench);
        workbench.page.clear();
        workbench.page.extend_from_slice(&self.dictionary);
        chunk.dictionary(workbench, self.entries)?;
        let key_bits = bits_of(self.entries.saturating_sub(1)).max(1);
        let mut first_key = 0;
        for first_row in (0..self.rows).step_by(PAGE_ROWS) {
            let rows = PAGE_ROWS.min(self.rows - first_row);
            let presence = self.presence.map(|presence| &presence[first_row..][..rows]);
            let present = presence.map_or(rows, |presence| presence.iter().filter(|present| **present == 1).count());
            let keys = &self.keys[first_key..][..present];
            first_key += present;
            chunk.begin_page(workbench, rows, |page, _, bits| match presence {
                Some(presence) => hybrid(page, presence, bits),
                None => run(page, 1, rows, bits),
            });
            workbench.page.push(key_bits as u8);
            hybrid(&mut workbench.page, keys, key_bits);
            let bounds = if statistics == EnabledStatistics::Page { of_page(keys) } else { None };
            chunk.page(workbench, PageFacts { rows, slots: rows, nulls: rows - present, encoding: Encoding::RLE_DICTIONARY, bounds })?;
        }
        let nulls = (self.rows - self.keys.len()) as u64;
        let statistics = (statistics != EnabledStatistics::None).then(|| of_chunk(nulls));
        chunk.close(statistics, workbench, row_group)
    }
}

/// The numbers of one batch.
pub(super) struct Numbers<'a, T> {
    values: &'a [T],
    pub(super) nulls: Option<&'a NullBuffer>,
}

/// The nulls of an array that has some.
pub(super) fn nulls_of(array: &dyn Array) -> Option<&NullBuffer> {
    array.nulls().filter(|nulls| nulls.null_count() > 0)
}

impl<'a, T: Copy> Numbers<'a, T> {
    pub(super) fn new(values: &'a [T], array: &'a dyn Array) -> Self {
        Self { values, nulls: nulls_of(array) }
    }

    /// Adds those that are not null.
    pub(super) fn put(&self, range: Range<usize>, numbers: &mut Vec<T>) {
        match self.nulls {
            None => numbers.extend_from_slice(&self.values[range]),
            Some(nulls) => numbers.extend(range.filter(|index| nulls.is_valid(*index)).map(|index| self.values[index])),
        }
    }
}

/// A column of numbers of which there are few.
pub(super) struct Few<T> {
    entries: Vec<T>,
    keys: Vec<u32>,
    presence: Option<Vec<u32>>,
    rows: usize,
}

impl<T: Copy + Ord> Few<T> {
    /// The same number in all rows.
    pub(super) fn same(value: T, rows: usize) -> Self {
        Self { entries: vec![value], keys: vec![0; rows], presence: None, rows }
    }

    /// `None` when there are many.
    pub(super) fn of(batches: &[Numbers<'_, T>], runs: &[Run]) -> Option<Self> {
        let has_nulls = batches.iter().any(|numbers| numbers.nulls.is_some());
        let (mut entries, mut keys, mut presence): (Vec<T>, Vec<u32>, Vec<u32>) = Default::default();
        let mut last = 0;
        for run in runs {
            let Numbers { values, nulls } = &batches[run.batch];
            for row in run.range() {
                if has_nulls {
                    let is_present = nulls.is_none_or(|nulls| nulls.is_valid(row));
                    presence.push(u32::from(is_present));
                    if !is_present {
                        continue;
                    }
                }
                let value = values[row];
                if entries.get(last) != Some(&value) {
                    last = entries.iter().position(|entry| *entry == value).unwrap_or(entries.len());
                    if last == entries.len() {
                        if last == FEW {
                            return None;
                        }
                        entries.push(value);
                    }
                }
                keys.push(last as u32);
            }
        }
        let rows = runs.iter().map(|run| run.rows).sum();
        Some(Self { entries, keys, presence: has_nulls.then_some(presence), rows })
    }

    /// `plain` gives the plain bytes of a number, `make` the statistics of least, most and nulls.
    pub(super) fn write<W: Write + Send, const N: usize>(
        &self,
        column: ColumnDescPtr,
        statistics: EnabledStatistics,
        plain: fn(T) -> [u8; N],
        make: impl Fn(Option<T>, Option<T>, u64) -> Statistics,
        workbench: &mut Workbench,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let entry = |key: &u32| self.entries[*key as usize];
        let bounds = |keys: &[u32]| keys.iter().map(entry).min().zip(keys.iter().map(entry).max());
        let keyed = Keyed {
            dictionary: self.entries.iter().copied().flat_map(plain).collect(),
            entries: self.entries.len(),
            keys: &self.keys,
            presence: self.presence.as_deref(),
            rows: self.rows,
        };
        let of_page = |keys: &[u32]| bounds(keys).map(|(least, most)| (plain(least).to_vec(), plain(most).to_vec()));
        let of_chunk = |nulls| {
            let (least, most) = bounds(&self.keys).unzip();
            make(least, most, nulls)
        };
        keyed.write(column, statistics, of_page, of_chunk, workbench, row_group)
    }
}

/// A dictionary column, with one dictionary for all batches.
pub(super) struct Words<'a> {
    values: Vec<&'a str>,
    batches: Vec<BatchWords<'a>>,
}

struct BatchWords<'a> {
    keys: &'a [i32],
    nulls: Option<&'a NullBuffer>,
    /// The common dictionary's key of each of the batch's.
    common: Vec<u32>,
}

impl<'a> Words<'a> {
    pub(super) fn new(arrays: &[&'a dyn Array]) -> Self {
        let mut known: HashMap<&'a str, u32> = HashMap::new();
        let mut values: Vec<&'a str> = Vec::new();
        let batches = arrays.iter().map(|array| {
            let array = array.as_dictionary::<Int32Type>();
            let common = array.values().as_string::<i32>().iter().map(|word| {
                let word = word.unwrap_or_default();
                *known.entry(word).or_insert_with(|| {
                    values.push(word);
                    (values.len() - 1) as u32
                })
            });
            let common = common.collect();
            let nulls = array.keys().nulls().filter(|nulls| nulls.null_count() > 0);
            BatchWords { keys: array.keys().values(), nulls, common }
        });
        let batches = batches.collect();
        Self { values, batches }
    }

    fn is_valid(&self, &(batch, row): &RowPlace) -> bool {
        self.batches[batch].nulls.is_none_or(|nulls| nulls.is_valid(row))
    }

    fn key(&self, &(batch, row): &RowPlace) -> u32 {
        let batch = &self.batches[batch];
        // A null's key is any number.
        batch.common.get(batch.keys[row] as usize).copied().unwrap_or(0)
    }

    fn has_nulls(&self) -> bool {
        self.batches.iter().any(|batch| batch.nulls.is_some())
    }

    /// Whether a word is too long for a bound.
    pub(super) fn has_long_words(&self) -> bool {
        self.values.iter().any(|word| word.len() > LONGEST_BOUND)
    }

    /// The rows as an Arrow array, for Parquet's writer.
    pub(super) fn array(&self, order: &[RowPlace]) -> ArrayRef {
        let keys: Vec<i32> = order.iter().map(|place| self.key(place) as i32).collect();
        let nulls = self.has_nulls().then(|| order.iter().map(|place| self.is_valid(place)).collect::<Vec<bool>>().into());
        let values = Arc::new(StringArray::from_iter_values(&self.values)) as ArrayRef;
        Arc::new(DictionaryArray::new(Int32Array::new(keys.into(), nulls), values))
    }

    /// Writes the rows as a chunk whose dictionary holds the words they use, in the order of their first use.
    pub(super) fn write<W: Write + Send>(
        &self,
        runs: &[Run],
        column: ColumnDescPtr,
        statistics: EnabledStatistics,
        workbench: &mut Workbench,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let rows = runs.iter().map(|run| run.rows).sum();
        let has_nulls = self.has_nulls();
        let mut presence = Vec::with_capacity(if has_nulls { rows } else { 0 });
        let mut entry_of = vec![u32::MAX; self.values.len()];
        let mut used: Vec<&str> = Vec::new();
        let mut dictionary = Vec::new();
        let mut keys = Vec::with_capacity(rows);
        for run in runs {
            let batch = &self.batches[run.batch];
            for row in run.range() {
                if has_nulls {
                    let is_present = batch.nulls.is_none_or(|nulls| nulls.is_valid(row));
                    presence.push(u32::from(is_present));
                    if !is_present {
                        continue;
                    }
                }
                let key = batch.common.get(batch.keys[row] as usize).copied().unwrap_or(0) as usize;
                if entry_of[key] == u32::MAX {
                    entry_of[key] = used.len() as u32;
                    let word = self.values[key];
                    used.push(word);
                    dictionary.extend_from_slice(&(word.len() as u32).to_le_bytes());
                    dictionary.extend_from_slice(word.as_bytes());
                }
                keys.push(entry_of[key]);
            }
        }
        let presence = has_nulls.then_some(presence.as_slice());
        let keyed = Keyed { dictionary, entries: used.len(), keys: &keys, presence, rows };
        let bounds = |keys: &[u32]| {
            let (mut least, mut most, mut last) = (None, None, None);
            for key in keys.iter().filter(|key| last.replace(**key) != Some(**key)) {
                let word = used[*key as usize].as_bytes();
                least = Some(least.map_or(word, |least: &[u8]| least.min(word)));
                most = Some(most.map_or(word, |most: &[u8]| most.max(word)));
            }
            Some((least?.to_vec(), most?.to_vec()))
        };
        let of_chunk = |nulls| {
            let (least, most) = bounds(&keys).unzip();
            Statistics::byte_array(least.map(ByteArray::from), most.map(ByteArray::from), None, Some(nulls), false)
        };
        keyed.write(column, statistics, bounds, of_chunk, workbench, row_group)
    }
}
