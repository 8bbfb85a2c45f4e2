//! SQL functions for what spans hold: `attr(json, key)` and its typed sisters, `hex(binary)`, `unhex(text)`.
//!
//! All are pure, so that the planner computes them where the arguments are constants: `trace_id = unhex('...')` reaches the
//! files as a comparison with bytes, which their bloom filters answer.

pub(crate) mod member;
pub(crate) mod replacing;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Array, Int64Array, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use member::Member;

/// The functions, to be put into a session.
pub(crate) fn all() -> [ScalarUDF; 6] {
    [Function::Attr, Function::AttrInt, Function::AttrDouble, Function::AttrBool, Function::Hex, Function::Unhex]
        .map(|function| ScalarUDF::from(Registered { function, signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Function {
    /// `attr(json, key)`: the first member of that name; a string without its quotes, another value as JSON, null as NULL.
    Attr,
    /// `attr_int(json, key)`: the first member of that name if it is an int.
    AttrInt,
    /// `attr_double(json, key)`: the first member of that name if it is a double or an int.
    AttrDouble,
    /// `attr_bool(json, key)`: the first member of that name if it is a bool.
    AttrBool,
    /// `hex(binary)`: lower-case hexadecimal digits.
    Hex,
    /// `unhex(text)`: the bytes that hexadecimal digits stand for.
    Unhex,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Registered {
    function: Function,
    signature: Signature,
}

impl ScalarUDFImpl for Registered {
    fn name(&self) -> &str {
        match self.function {
            Function::Attr => "attr",
            Function::AttrInt => "attr_int",
            Function::AttrDouble => "attr_double",
            Function::AttrBool => "attr_bool",
            Function::Hex => "hex",
            Function::Unhex => "unhex",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.function {
            Function::Attr | Function::Hex => DataType::Utf8,
            Function::AttrInt => DataType::Int64,
            Function::AttrDouble => DataType::Float64,
            Function::AttrBool => DataType::Boolean,
            Function::Unhex => DataType::Binary,
        })
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match (self.function, given) {
            (Function::Attr, [json, key]) if is_text(json) && is_text(key) => {
                // A dictionary stays one: its values are searched once, however many rows have them.
                let json = if *json == repeated_text() { json.clone() } else { DataType::Utf8 };
                Ok(vec![json, DataType::Utf8])
            }
            (Function::AttrInt | Function::AttrDouble | Function::AttrBool, [json, key]) if is_text(json) && is_text(key) => {
                Ok(vec![DataType::Utf8, DataType::Utf8])
            }
            (Function::Attr | Function::AttrInt | Function::AttrDouble | Function::AttrBool, _) => {
                plan_err!("{0} takes a JSON text and a key: {0}(attributes, 'http.route')", self.name())
            }
            (Function::Hex, [bytes]) if is_bytes(bytes) => Ok(vec![DataType::Binary]),
            (Function::Hex, _) => plan_err!("hex takes one binary value: hex(trace_id)"),
            (Function::Unhex, [text]) if is_text(text) => Ok(vec![DataType::Utf8]),
            (Function::Unhex, _) => plan_err!("unhex takes one text: unhex('0af7651916cd43dd8448eb211c80319c')"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let first = args.args[0].to_array(rows)?;
        let answer = match self.function {
            Function::Attr => attr(&first, &args.args[1])?,
            Function::AttrInt | Function::AttrDouble | Function::AttrBool => {
                let keys = args.args[1].to_array(rows)?;
                let values = first.as_string::<i32>().iter().zip(keys.as_string::<i32>());
                typed(self.function, values)
            }
            Function::Hex => hex(&first),
            Function::Unhex => unhex(&first)?,
        };
        if is_constant { ScalarValue::try_from_array(&answer, 0).map(ColumnarValue::Scalar) } else { Ok(ColumnarValue::Array(answer)) }
    }
}

fn repeated_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Null => true,
        DataType::Dictionary(_, values) => is_bytes(values),
        _ => false,
    }
}

fn attr(json: &ArrayRef, key: &ColumnarValue) -> Result<ArrayRef> {
    let key = match key {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(key))) => key,
        ColumnarValue::Scalar(_) => return Ok(Arc::new(StringArray::new_null(json.len()))),
        ColumnarValue::Array(keys) => return attr_by_row(json, keys),
    };
    let member = Member::new(key);
    let Some(dictionary) = json.as_dictionary_opt::<Int32Type>() else {
        return Ok(attr_of_each(json.as_string(), &member));
    };
    let texts = dictionary.values().as_string::<i32>();
    if texts.len() > dictionary.len() {
        let texts = arrow::compute::take(texts, dictionary.keys(), None)?;
        return Ok(attr_of_each(texts.as_string(), &member));
    }
    Ok(arrow::compute::take(&attr_of_each(texts, &member), dictionary.keys(), None)?)
}

/// The members of one type. Neighbouring rows mostly ask for one key, so it is made ready once.
fn typed<'a>(function: Function, values: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> ArrayRef {
    let mut ready: Option<(&str, Member)> = None;
    let raw = values.map(|(json, key)| {
        let (json, key) = json.zip(key)?;
        if ready.as_ref().is_none_or(|(of, _)| *of != key) {
            ready = Some((key, Member::new(key)));
        }
        ready.as_ref().and_then(|(_, member)| member.value_in(json))
    });
    match function {
        Function::AttrInt => Arc::new(raw.map(|raw| raw?.parse().ok()).collect::<Int64Array>()),
        Function::AttrBool => Arc::new(raw.map(|raw| raw?.parse().ok()).collect::<BooleanArray>()),
        _ => Arc::new(raw.map(|raw| double(raw?)).collect::<Float64Array>()),
    }
}

/// A number, or what canonical JSON writes for one that JSON does not have.
fn double(raw: &str) -> Option<f64> {
    match raw.as_bytes().first()? {
        b'-' | b'0'..=b'9' => raw.parse().ok(),
        _ => raw.strip_prefix("{\"$double\":\"")?.strip_suffix("\"}")?.parse().ok(),
    }
}

fn attr_of_each(texts: &StringArray, member: &Member) -> ArrayRef {
    let mut out = StringBuilder::with_capacity(texts.len(), 0);
    for text in texts {
        out.append_option(text.and_then(|text| member.text_in(text)));
    }
    Arc::new(out.finish())
}

fn attr_by_row(json: &ArrayRef, keys: &ArrayRef) -> Result<ArrayRef> {
    let json = arrow::compute::cast(json, &DataType::Utf8)?;
    let mut out = StringBuilder::with_capacity(json.len(), 0);
    for (text, key) in json.as_string::<i32>().iter().zip(keys.as_string::<i32>()) {
        out.append_option(text.zip(key).and_then(|(text, key)| Member::new(key).text_in(text)));
    }
    Ok(Arc::new(out.finish()))
}

fn hex(bytes: &ArrayRef) -> ArrayRef {
    let bytes = bytes.as_binary::<i32>();
    let mut out = StringBuilder::with_capacity(bytes.len(), 0);
    for value in bytes {
        out.append_option(value.map(hex_text));
    }
    Arc::new(out.finish())
}

fn unhex(texts: &ArrayRef) -> Result<ArrayRef> {
    let texts = texts.as_string::<i32>();
    let mut out = BinaryBuilder::with_capacity(texts.len(), 0);
    for text in texts {
        match text.map(|text| (text, bytes_of_hex(text))) {
            None => out.append_null(),
            Some((_, Some(bytes))) => out.append_value(bytes),
            Some((text, None)) => {
                let shown: String = text.chars().take(64).collect();
                return exec_err!("unhex takes pairs of hexadecimal digits, not {shown:?}");
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex_text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes that hexadecimal digits of either case stand for.
pub fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
