//! `replace` and `regexp_replace`, within bounds: they make much out of little where no memory limit sees it.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, exec_err, resources_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// The most that a batch may become.
const MAX_BYTES: usize = 512 << 20;

/// `function`, refusing to make a batch of more than [`MAX_BYTES`].
pub(crate) fn bounded(function: Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::from(Bounded { function })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.function.return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(given)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, sought, replacement, ..] = args.args.as_slice() else {
            return exec_err!("{} takes a text, what is sought and its replacement", self.name());
        };
        // One text beside columns is replaced in anew for each of their rows.
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let bytes = match text {
            ColumnarValue::Array(texts) => lengths(texts.as_ref()).total,
            ColumnarValue::Scalar(text) => length(text).saturating_mul(rows),
        };
        let lengths_of = |value: &ColumnarValue| match value {
            ColumnarValue::Array(texts) => lengths(texts.as_ref()),
            ColumnarValue::Scalar(text) => Lengths { total: length(text), shortest: length(text), longest: length(text) },
        };
        let (sought, replacement) = (lengths_of(sought).shortest, lengths_of(replacement).longest);
        // A pattern may match nothing, and a replacement may repeat what was matched. Nothing is found before, between and after all characters.
        let (places, repeated) = match self.name() {
            "replace" => (bytes / sought.max(1) + rows, bytes),
            _ => (bytes.saturating_add(rows), bytes.saturating_mul(1 + replacement / 2)),
        };
        if places.saturating_mul(replacement).saturating_add(repeated) > MAX_BYTES {
            return resources_err!("{} of {bytes} bytes of text with {replacement} bytes each could make too much", self.name());
        }
        self.function.invoke_with_args(args)
    }
}

fn length(text: &ScalarValue) -> usize {
    text.try_as_str().flatten().map_or(0, str::len)
}

/// Of the texts of a column, in bytes.
struct Lengths {
    total: usize,
    shortest: usize,
    longest: usize,
}

impl Lengths {
    fn of(lengths: impl Iterator<Item = usize>) -> Self {
        let none = Self { total: 0, shortest: usize::MAX, longest: 0 };
        let all = lengths.fold(none, |all, length| Self {
            total: all.total.saturating_add(length),
            shortest: all.shortest.min(length),
            longest: all.longest.max(length),
        });
        Self { shortest: all.shortest.min(all.longest), ..all }
    }
}

/// The lengths of the texts; an array of something else counts as what it takes, in every row.
fn lengths(texts: &dyn Array) -> Lengths {
    match texts.data_type() {
        DataType::Utf8 => Lengths::of(texts.as_string::<i32>().iter().map(|text| text.map_or(0, str::len))),
        DataType::LargeUtf8 => Lengths::of(texts.as_string::<i64>().iter().map(|text| text.map_or(0, str::len))),
        DataType::Utf8View => Lengths::of(texts.as_string_view().iter().map(|text| text.map_or(0, str::len))),
        DataType::Dictionary(_, _) => {
            let values = lengths(texts.as_any_dictionary().values().as_ref());
            Lengths { total: values.longest.saturating_mul(texts.len()), ..values }
        }
        _ => {
            let size = texts.get_array_memory_size();
            Lengths { total: size.saturating_mul(texts.len()), shortest: 0, longest: size }
        }
    }
}
