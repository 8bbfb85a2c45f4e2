//! Reading the canonical JSON text back into OTLP values with their exact types.
//!
//! Accepts what [`super::json`] writes, and ordinary JSON as far as it has one meaning there; everything else is an error,
//! never a guess. Not serde_json: that merges repeated keys and need not read a double back to the same bits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use scouter_tonic::limits::MAX_ATTRIBUTE_DEPTH;

/// Text that is not canonical JSON of attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset} of the JSON text")]
pub struct JsonError {
    /// Where, in bytes from its start.
    pub offset: usize,
    /// What was found or missing.
    pub what: &'static str,
}

/// The attributes in a canonical JSON object, in order; a repeated key comes again.
///
/// # Errors
/// The text is not canonical JSON.
pub fn attributes_from_json(text: &str) -> Result<Vec<KeyValue>, JsonError> {
    let mut reader = Reader { text, at: 0 };
    let attributes = reader.object(1)?;
    reader.end()?;
    Ok(attributes.into_iter().map(|(key, value)| key_value(key, value)).collect())
}

/// The members of an object, each one string or several.
pub(super) type ObjectOfStrings = Vec<(String, Vec<String>)>;

/// The strings in the members of a list of objects that hold strings and lists of strings.
pub(super) fn objects_of_strings(text: &str) -> Result<Vec<ObjectOfStrings>, JsonError> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(1)?;
    reader.end()?;
    let wrong = JsonError { offset: 0, what: "no list of objects of strings" };
    let strings = |value: AnyValue| match value.value {
        Some(Value::StringValue(text)) => Ok(vec![text]),
        Some(Value::ArrayValue(list)) => list
            .values
            .into_iter()
            .map(|value| match value.value {
                Some(Value::StringValue(text)) => Ok(text),
                _ => Err(wrong),
            })
            .collect(),
        _ => Err(wrong),
    };
    let Some(Value::ArrayValue(list)) = value.value else { return Err(wrong) };
    list.values
        .into_iter()
        .map(|object| match object.value {
            Some(Value::KvlistValue(members)) => {
                members.values.into_iter().map(|member| Ok((member.key, strings(member.value.unwrap_or_default())?))).collect()
            }
            _ => Err(wrong),
        })
        .collect()
}

fn key_value(key: String, value: AnyValue) -> KeyValue {
    KeyValue { key, value: Some(value), key_strindex: 0 }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, what })
    }

    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_some() { self.error("text after the end") } else { Ok(()) }
    }

    /// A value that stands at `depth`. Markers take one level more than the values they stand for.
    fn value(&mut self, depth: usize) -> Result<AnyValue, JsonError> {
        if depth > MAX_ATTRIBUTE_DEPTH + 1 {
            return self.error("a value too deep");
        }
        let value = match self.peek() {
            Some(b'"') => Some(Value::StringValue(self.string()?)),
            Some(b'{') => {
                let start = self.at;
                let members = self.object(depth + 1)?;
                Some(self.marker_or_map(start, members)?)
            }
            Some(b'[') => Some(Value::ArrayValue(ArrayValue { values: self.list(depth + 1)? })),
            Some(b't') => self.word("true", Some(Value::BoolValue(true)))?,
            Some(b'f') => self.word("false", Some(Value::BoolValue(false)))?,
            Some(b'n') => self.word("null", None)?,
            Some(b'-' | b'0'..=b'9') => Some(self.number()?),
            _ => return self.error("no value"),
        };
        Ok(AnyValue { value })
    }

    fn word(&mut self, word: &str, value: Option<Value>) -> Result<Option<Value>, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return self.error("an unknown word");
        }
        self.at += word.len();
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<AnyValue>, JsonError> {
        let mut values = Vec::new();
        self.at += 1;
        if self.take(b']') {
            return Ok(values);
        }
        loop {
            values.push(self.value(depth)?);
            if self.take(b']') {
                return Ok(values);
            }
            if !self.take(b',') {
                return self.error("no comma in a list");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Vec<(String, AnyValue)>, JsonError> {
        let mut members = Vec::new();
        if !self.take(b'{') {
            return self.error("no object");
        }
        if self.take(b'}') {
            return Ok(members);
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.error("no key in an object");
            }
            let key = self.string()?;
            if !self.take(b':') {
                return self.error("no colon after a key");
            }
            members.push((key, self.value(depth)?));
            if self.take(b'}') {
                return Ok(members);
            }
            if !self.take(b',') {
                return self.error("no comma in an object");
            }
        }
    }

    /// An object below the attributes themselves: one of the markers, or a map.
    fn marker_or_map(&self, start: usize, members: Vec<(String, AnyValue)>) -> Result<Value, JsonError> {
        let wrong = JsonError { offset: start, what: "an unknown marker" };
        let values = members
            .iter()
            .map(|(key, value)| match key.strip_prefix('$') {
                None => Ok(key_value(key.clone(), value.clone())),
                Some(rest) if rest.starts_with('$') => Ok(key_value(rest.to_owned(), value.clone())),
                Some(_) => Err(wrong),
            })
            .collect::<Result<_, _>>();
        if let Ok(values) = values {
            return Ok(Value::KvlistValue(KeyValueList { values }));
        }
        let [(marker, AnyValue { value: Some(value) })] = members.as_slice() else { return Err(wrong) };
        match (marker.as_str(), value) {
            ("$double", Value::StringValue(name)) => match name.as_str() {
                "NaN" => Ok(Value::DoubleValue(f64::NAN)),
                "Infinity" => Ok(Value::DoubleValue(f64::INFINITY)),
                "-Infinity" => Ok(Value::DoubleValue(f64::NEG_INFINITY)),
                _ => Err(wrong),
            },
            ("$bytes", Value::StringValue(text)) => STANDARD.decode(text).map(Value::BytesValue).map_err(|_| wrong),
            ("$strindex", Value::IntValue(index)) => i32::try_from(*index).map(Value::StringValueStrindex).map_err(|_| wrong),
            _ => Err(wrong),
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).unwrap_or(rest.len());
        let digits = &rest[..length];
        let value = if digits.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            digits.parse().ok().map(Value::DoubleValue)
        } else {
            digits.parse().ok().map(Value::IntValue)
        };
        match value {
            Some(value) => {
                self.at += length;
                Ok(value)
            }
            None => self.error("a number that is neither an int nor a double"),
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let mut string = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let Some(clean) = rest.bytes().position(|byte| byte == b'"' || byte == b'\\') else {
                return self.error("a string without an end");
            };
            string.push_str(&rest[..clean]);
            self.at += clean + 1;
            if rest.as_bytes()[clean] == b'"' {
                return Ok(string);
            }
            string.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(&byte) = self.text.as_bytes().get(self.at) else { return self.error("a string without an end") };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let high = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex4()?;
                    0x10000 + ((high - 0xd800) << 10) + low.wrapping_sub(0xdc00)
                } else {
                    high
                };
                match char::from_u32(code) {
                    Some(character) => character,
                    None => return self.error("half a surrogate pair"),
                }
            }
            _ => return self.error("an unknown escape"),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.error("an escape without four hex digits"),
        }
    }
}
