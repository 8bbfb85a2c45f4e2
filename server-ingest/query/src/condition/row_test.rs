//! The tests that no literal can say, as functions of a plan.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::attribute::{AnyCase, AttributeTest, Found, Prepared};

/// What is tested of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// Of objects of attributes: the first that has the key decides.
    Attribute(AttributeTest),
    /// Of texts, the last of several being JSON, and of events after these: one of them has it.
    Text(String),
    /// Of a list of texts: it has one of these.
    Lists(Vec<String>),
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RowTest {
    test: Test,
    signature: Signature,
}

impl RowTest {
    pub(super) fn new(test: Test, arguments: usize) -> Self {
        Self { test, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RowTest {
    fn name(&self) -> &str {
        match self.test {
            Test::Attribute(_) => "scouter_attribute_test",
            Test::Text(_) => "scouter_text_test",
            Test::Lists(_) => "scouter_list_test",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let passes = match &self.test {
            Test::Attribute(test) => attribute(test, &columns)?,
            Test::Text(text) => has_text(text, &columns)?,
            Test::Lists(values) => lists(values, &columns)?,
        };
        Ok(ColumnarValue::Array(Arc::new(passes)))
    }
}

fn attribute(test: &AttributeTest, columns: &[ArrayRef]) -> Result<BooleanArray> {
    let prepared = Prepared::new(test);
    let mut found: Vec<Found> = Vec::new();
    for column in columns {
        let in_column = for_each_text(column, Found::Nothing, |json| prepared.find_in(json))?;
        if found.is_empty() {
            found = in_column;
        } else {
            for (found, here) in found.iter_mut().zip(in_column) {
                if *found == Found::Nothing {
                    *found = here;
                }
            }
        }
    }
    Ok(found.into_iter().map(|found| Some(found.passes(&test.wanted))).collect())
}

fn has_text(text: &str, columns: &[ArrayRef]) -> Result<BooleanArray> {
    let plain = AnyCase::new(text);
    // Inside of JSON the text stands escaped.
    let quoted = serde_json::Value::from(text).to_string();
    let escaped = AnyCase::new(&quoted[1..quoted.len() - 1]);
    let texts = columns.iter().take_while(|column| column.as_list_opt::<i32>().is_none()).count();
    let mut passes: Vec<bool> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let in_column = match column.as_list_opt::<i32>() {
            Some(events) => has_event(events, &plain, &escaped)?,
            // Of several columns the last holds the attributes.
            None if index > 0 && index + 1 == texts => for_each_text(column, false, |text| escaped.is_in(text))?,
            None => for_each_text(column, false, |text| plain.is_in(text))?,
        };
        if passes.is_empty() {
            passes = in_column;
        } else {
            passes.iter_mut().zip(in_column).for_each(|(passes, here)| *passes |= here);
        }
    }
    Ok(BooleanArray::from(passes))
}

/// By row, whether the name or the attributes of an event have the text.
fn has_event(events: &ListArray, plain: &AnyCase, escaped: &AnyCase) -> Result<Vec<bool>> {
    // Batches are slices of larger ones, with whose events they come.
    let offsets = events.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[events.len()] as usize);
    let of_slice = events.values().slice(first, last - first);
    let Some(fields) = of_slice.as_struct_opt() else {
        return exec_err!("a column of events was expected");
    };
    let field = |name: &str| fields.column_by_name(name).ok_or_else(|| exec_datafusion_err!("events have no {name}"));
    let in_names = for_each_text(field("name")?, false, |text| plain.is_in(text))?;
    let in_attributes = for_each_text(field("attributes")?, false, |text| escaped.is_in(text))?;
    let has_one = |row: usize| {
        let of_row = offsets[row] as usize - first..offsets[row + 1] as usize - first;
        events.is_valid(row) && of_row.into_iter().any(|event| in_names[event] || in_attributes[event])
    };
    Ok((0..events.len()).map(has_one).collect())
}

fn lists(values: &[String], columns: &[ArrayRef]) -> Result<BooleanArray> {
    let wanted: HashSet<&str> = values.iter().map(String::as_str).collect();
    let Some(lists) = columns.first().and_then(|column| column.as_list_opt::<i32>()) else {
        return exec_err!("a column of lists was expected");
    };
    let elements = arrow::compute::cast(lists.values(), &DataType::Utf8)?;
    let elements = elements.as_string::<i32>();
    let offsets = lists.value_offsets();
    let has_one = |row: usize| {
        lists.is_valid(row) && (offsets[row]..offsets[row + 1]).any(|element| wanted.contains(elements.value(element as usize)))
    };
    Ok((0..lists.len()).map(|row| Some(has_one(row))).collect())
}

/// What `of` says of the text of each row. Of a dictionary each value is asked once, if they are fewer than the rows.
fn for_each_text<T: Copy>(column: &ArrayRef, absent: T, of: impl Fn(&str) -> T) -> Result<Vec<T>> {
    if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>()
        && let Some(values) = dictionary.values().as_string_opt::<i32>()
        && values.len() <= dictionary.len()
    {
        let answers: Vec<T> = values.iter().map(|text| text.map_or(absent, &of)).collect();
        return Ok(dictionary.keys().iter().map(|key| key.map_or(absent, |key| answers[key as usize])).collect());
    }
    let texts = arrow::compute::cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map_or(absent, &of)).collect())
}
