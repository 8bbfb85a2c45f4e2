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
        let (bytes, rows) = match text {
            ColumnarValue::Array(texts) => (text_bytes(texts.as_ref()), texts.len()),
            ColumnarValue::Scalar(text) => (longest(text), 1),
        };
        let longest_of = |value: &ColumnarValue| match value {
            ColumnarValue::Array(texts) => longest_text(texts.as_ref()),
            ColumnarValue::Scalar(text) => longest(text),
        };
        let (sought, replacement) = (longest_of(sought), longest_of(replacement));
        // A pattern may match nothing, and a replacement may repeat what was matched.
        let (places, each) =
            if self.name() == "replace" { (bytes / sought.max(1) + rows, replacement) } else { (bytes + rows, replacement) };
        let repeated = if self.name() == "replace" { bytes } else { bytes.saturating_mul(1 + replacement / 2) };
        if places.saturating_mul(each).saturating_add(repeated) > MAX_BYTES {
            return resources_err!("{} of {bytes} bytes of text with {replacement} bytes each could make too much", self.name());
        }
        self.function.invoke_with_args(args)
    }
}

fn longest(text: &ScalarValue) -> usize {
    text.try_as_str().flatten().map_or(0, str::len)
}

fn text_bytes(texts: &dyn Array) -> usize {
    lengths(texts).sum()
}

fn longest_text(texts: &dyn Array) -> usize {
    lengths(texts).max().unwrap_or(0)
}

/// The lengths of the texts; of an array of something else, what it takes.
fn lengths(texts: &dyn Array) -> Box<dyn Iterator<Item = usize> + '_> {
    match texts.data_type() {
        DataType::Utf8 => Box::new(texts.as_string::<i32>().iter().map(|text| text.map_or(0, str::len))),
        DataType::LargeUtf8 => Box::new(texts.as_string::<i64>().iter().map(|text| text.map_or(0, str::len))),
        DataType::Utf8View => Box::new(texts.as_string_view().iter().map(|text| text.map_or(0, str::len))),
        _ => Box::new(std::iter::once(texts.get_array_memory_size())),
    }
}
