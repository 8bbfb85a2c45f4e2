//! One column of a file, from batches and an order of their rows, a few thousand rows at a time.
//!
//! Joining the batches and taking the rows in order would make two more copies of all that is written. Gathering a piece that fits
//! into the processor's cache and giving it to the encoder makes one, and needs no memory worth counting.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use super::order::RowPlace;
use super::pages::Keyed;

/// Rows of a piece whose values have a small, fixed size.
pub(super) const PIECE_ROWS: usize = 8192;

/// Bytes of a piece whose values vary in size: about what stays in a core's own cache.
const PIECE_BYTES: usize = 256 * 1024;

/// Column `index` of the batches.
pub(super) enum Column<'a> {
    /// No row of any batch has a value: what is around its leaves is null or empty at this definition level.
    Nothing(u32),
    /// Every row has this number.
    Same(i64),
    Words(Words<'a>),
    Plain {
        arrays: Vec<&'a dyn Array>,
        piece_rows: usize,
    },
}

impl<'a> Column<'a> {
    pub(super) fn new(batches: &'a [RecordBatch], index: usize, is_nullable: bool) -> Self {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        let is_list_without_elements = |array: &&dyn Array| match array.as_list_opt::<i32>() {
            Some(list) => list.null_count() == 0 && list.value_offsets().first() == list.value_offsets().last(),
            None => false,
        };
        match arrays.first().map(|array| array.data_type()) {
            Some(_) if arrays.iter().all(|array| array.null_count() == array.len()) => Self::Nothing(0),
            Some(DataType::List(_)) if arrays.iter().all(is_list_without_elements) => Self::Nothing(u32::from(is_nullable)),
            Some(DataType::Dictionary(key, value)) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                Self::Words(Words::new(&arrays))
            }
            Some(DataType::Int64) if let Some(value) = same_number(&arrays) => Self::Same(value),
            _ => {
                let rows: usize = arrays.iter().map(|array| array.len()).sum();
                let bytes: usize = arrays.iter().map(|array| array.get_buffer_memory_size()).sum();
                let piece_rows = (PIECE_BYTES / (bytes / rows.max(1)).max(1)).clamp(64, PIECE_ROWS);
                Self::Plain { arrays, piece_rows }
            }
        }
    }
}

/// Shows the rows of a column in `order`, piece by piece.
pub(super) fn for_each_piece<E: From<ArrowError>>(
    arrays: &[&dyn Array],
    piece_rows: usize,
    order: &[RowPlace],
    mut take: impl FnMut(ArrayRef) -> Result<(), E>,
) -> Result<(), E> {
    order.chunks(piece_rows).try_for_each(|piece| take(interleave(arrays, piece)?))
}

/// The number all rows have, if they do.
fn same_number(arrays: &[&dyn Array]) -> Option<i64> {
    let first = *arrays.iter().find_map(|array| array.as_primitive::<Int64Type>().values().first())?;
    let is_same =
        |array: &&dyn Array| array.null_count() == 0 && array.as_primitive::<Int64Type>().values().iter().all(|value| *value == first);
    arrays.iter().all(is_same).then_some(first)
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
    fn new(arrays: &[&'a dyn Array]) -> Self {
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
            BatchWords { keys: array.keys().values(), nulls: array.keys().nulls(), common }
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
        self.batches.iter().any(|batch| batch.nulls.is_some_and(|nulls| nulls.null_count() > 0))
    }

    /// The rows as an Arrow array, for an encoder that keeps statistics.
    pub(super) fn array(&self, order: &[RowPlace]) -> ArrayRef {
        let keys: Vec<i32> = order.iter().map(|place| self.key(place) as i32).collect();
        let nulls = self.has_nulls().then(|| order.iter().map(|place| self.is_valid(place)).collect::<Vec<bool>>().into());
        let values = Arc::new(StringArray::from_iter_values(&self.values)) as ArrayRef;
        Arc::new(DictionaryArray::new(Int32Array::new(keys.into(), nulls), values))
    }

    /// Writes the rows as a chunk whose dictionary holds the words they use, in the order of their first use.
    pub(super) fn write<W: Write + Send>(
        &self,
        order: &[RowPlace],
        column: ColumnDescPtr,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let presence: Option<Vec<u32>> = self.has_nulls().then(|| order.iter().map(|place| u32::from(self.is_valid(place))).collect());
        let mut used = vec![u32::MAX; self.values.len()];
        let (mut dictionary, mut entries) = (Vec::new(), 0);
        let mut keys = Vec::with_capacity(order.len());
        for (index, place) in order.iter().enumerate() {
            if presence.as_ref().is_some_and(|presence| presence[index] == 0) {
                continue;
            }
            let key = self.key(place) as usize;
            if used[key] == u32::MAX {
                used[key] = entries;
                entries += 1;
                let word = self.values[key].as_bytes();
                dictionary.extend_from_slice(&(word.len() as u32).to_le_bytes());
                dictionary.extend_from_slice(word);
            }
            keys.push(used[key]);
        }
        let keyed = Keyed { dictionary, entries: entries as usize, keys: &keys, presence: presence.as_deref(), rows: order.len() };
        keyed.write(column, row_group)
    }
}
