//! The columns of a batch by name and type, dictionaries read through.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use scouter_query::QueryError;

/// The columns of one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a>(pub(crate) &'a RecordBatch);

/// A column of texts, each stored once or once a row.
#[derive(Debug)]
pub(crate) enum Words<'a> {
    Dictionary(&'a Int32Array, StringArray),
    Plain(StringArray),
}

impl Words<'_> {
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::Dictionary(keys, values) => {
                let key = keys.is_valid(row).then(|| keys.value(row))?;
                Some(values.value(usize::try_from(key).ok()?))
            }
            Self::Plain(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }

    pub(crate) fn or_empty(&self, row: usize) -> &str {
        self.get(row).unwrap_or_default()
    }

    pub(crate) fn owned(&self, row: usize) -> String {
        self.or_empty(row).to_owned()
    }
}

fn other_type(name: &str) -> QueryError {
    QueryError::Internal(format!("column {name} has another type than expected"))
}

impl<'a> Columns<'a> {
    pub(crate) fn rows(self) -> usize {
        self.0.num_rows()
    }

    pub(crate) fn get(self, name: &str) -> Result<&'a ArrayRef, QueryError> {
        self.0.column_by_name(name).ok_or_else(|| QueryError::Internal(format!("there is no column {name}")))
    }

    pub(crate) fn words(self, name: &str) -> Result<Words<'a>, QueryError> {
        let column = self.get(name)?;
        if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() {
            let values = cast::<StringArray>(dictionary.values(), &DataType::Utf8, name)?;
            return Ok(Words::Dictionary(dictionary.keys(), values));
        }
        Ok(Words::Plain(cast(column, &DataType::Utf8, name)?))
    }

    pub(crate) fn integers(self, name: &str) -> Result<&'a Int64Array, QueryError> {
        self.get(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| other_type(name))
    }

    pub(crate) fn codes(self, name: &str) -> Result<&'a Int32Array, QueryError> {
        self.get(name)?.as_primitive_opt::<Int32Type>().ok_or_else(|| other_type(name))
    }

    pub(crate) fn doubles(self, name: &str) -> Result<&'a Float64Array, QueryError> {
        self.get(name)?.as_primitive_opt::<Float64Type>().ok_or_else(|| other_type(name))
    }

    pub(crate) fn flags(self, name: &str) -> Result<&'a arrow::array::BooleanArray, QueryError> {
        self.get(name)?.as_boolean_opt().ok_or_else(|| other_type(name))
    }

    pub(crate) fn bytes(self, name: &str) -> Result<BinaryArray, QueryError> {
        cast(self.get(name)?, &DataType::Binary, name)
    }

    pub(crate) fn lists(self, name: &str) -> Result<&'a ListArray, QueryError> {
        self.get(name)?.as_list_opt::<i32>().ok_or_else(|| other_type(name))
    }

    pub(crate) fn texts_in_lists(self, name: &str) -> Result<TextLists<'a>, QueryError> {
        let lists = self.lists(name)?;
        Ok(TextLists { lists, elements: cast(lists.values(), &DataType::Utf8, name)? })
    }
}

/// A column of lists of texts.
#[derive(Debug)]
pub(crate) struct TextLists<'a> {
    lists: &'a ListArray,
    elements: StringArray,
}

impl TextLists<'_> {
    pub(crate) fn of(&self, row: usize) -> impl Iterator<Item = &str> {
        range(self.lists, row).map(|element| self.elements.value(element))
    }
}

/// Where the elements of a row lie.
pub(crate) fn range(lists: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    if lists.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

/// A column in the given type.
pub(crate) fn cast<A: Array + Clone + 'static>(column: &ArrayRef, data_type: &DataType, name: &str) -> Result<A, QueryError> {
    let column = if column.data_type() == data_type {
        column.clone()
    } else {
        arrow::compute::cast(column, data_type).map_err(|_| other_type(name))?
    };
    column.as_any().downcast_ref::<A>().cloned().ok_or_else(|| other_type(name))
}

/// The number in a row, if there is one.
pub(crate) fn integer(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

/// An id of the length it must have.
pub(crate) fn id<const N: usize>(column: &BinaryArray, row: usize) -> Option<[u8; N]> {
    if column.is_null(row) { None } else { column.value(row).try_into().ok() }
}
