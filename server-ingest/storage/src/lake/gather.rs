//! One column of a file, from batches and an order of their rows: of which kind it is, and so how it is written.
//!
//! Joining the batches and taking the rows in order would make two more copies of all that is written. Whoever writes takes the values from
//! the batches, a run of rows at a time, or a piece that fits into the processor's cache.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;

use super::leaves::Leaf;
use super::order::RowPlace;
use super::words::{Numbers, Words};

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
    /// Texts, bytes, 64-bit numbers.
    Leaf(Leaf<'a>),
    /// Lists of such values or of structs of them: where the lists of each batch end, the definition level of an empty one, the leaves.
    Lists {
        ends: Vec<&'a [i32]>,
        empty: u32,
        leaves: Vec<Leaf<'a>>,
    },
    /// 32-bit numbers, of which there are few as a rule.
    Small(Vec<Numbers<'a, i32>>),
    Other,
}

/// A column for Parquet's own writer.
pub(super) struct Plain<'a> {
    arrays: Vec<&'a dyn Array>,
    piece_rows: usize,
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
            Some(DataType::List(_)) if let Some((ends, leaves)) = Leaf::of_lists(&arrays) => {
                Self::Lists { ends, empty: u32::from(is_nullable), leaves }
            }
            Some(DataType::Dictionary(key, value)) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                Self::Words(Words::new(&arrays))
            }
            Some(DataType::Int64) if let Some(value) = same_number(&arrays) => Self::Same(value),
            Some(DataType::Int32) => {
                let numbers = |array: &&'a dyn Array| Numbers::new(array.as_primitive::<Int32Type>().values(), *array);
                Self::Small(arrays.iter().map(numbers).collect())
            }
            _ => Leaf::new(&arrays).map_or(Self::Other, Self::Leaf),
        }
    }
}

impl<'a> Plain<'a> {
    /// Column `index` of the batches.
    pub(super) fn new(batches: &'a [RecordBatch], index: usize) -> Self {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        let rows: usize = arrays.iter().map(|array| array.len()).sum();
        let bytes: usize = arrays.iter().map(|array| array.get_buffer_memory_size()).sum();
        let piece_rows = (PIECE_BYTES / (bytes / rows.max(1)).max(1)).clamp(64, PIECE_ROWS);
        Self { arrays, piece_rows }
    }

    /// Shows the rows in `order`, piece by piece.
    pub(super) fn for_each_piece<E: From<ArrowError>>(
        &self,
        order: &[RowPlace],
        mut take: impl FnMut(ArrayRef) -> Result<(), E>,
    ) -> Result<(), E> {
        order.chunks(self.piece_rows).try_for_each(|piece| take(interleave(&self.arrays, piece)?))
    }
}

/// The number all rows have, if they do.
fn same_number(arrays: &[&dyn Array]) -> Option<i64> {
    let first = *arrays.iter().find_map(|array| array.as_primitive::<Int64Type>().values().first())?;
    let is_same =
        |array: &&dyn Array| array.null_count() == 0 && array.as_primitive::<Int64Type>().values().iter().all(|value| *value == first);
    arrays.iter().all(is_same).then_some(first)
}
