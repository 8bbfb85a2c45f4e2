//! The canonical JSON text of attributes, written straight from protobuf bytes.
//!
//! Typed and lossless, in wire order, without white space. `docs/storage-columns.md` is the format's page:
//!
//! | value | text |
//! | --- | --- |
//! | none | `null` |
//! | string, bool | as JSON has them |
//! | int | digits, never a `.` or an exponent |
//! | double | shortest text that reads back the same, always with a `.` or an exponent |
//! | NaN, infinities | `{"$double":"NaN"}`, `"Infinity"`, `"-Infinity"` |
//! | bytes | `{"$bytes":"<base64, padded>"}` |
//! | string table index | `{"$strindex":1}` |
//! | list | array |
//! | map | object; a key that begins with `$` gets a second one in front |
//!
//! A list of attributes is an object too. Its own keys are written as they are: nothing but attributes can stand there, so
//! no key can be mistaken for one of the markers. Repeated keys are repeated.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scouter_tonic::limits::MAX_ATTRIBUTE_DEPTH;

use crate::otlp::{AnyValue, Fields, Wire, key_value};

/// Writes one attribute into an object that [`end_object`] ends.
#[inline]
pub(super) fn member(out: &mut Vec<u8>, is_first: bool, key: &[u8], value: AnyValue<'_>) {
    self::key(out, is_first, key);
    write(out, value, 1);
}

/// What stands before the value of an attribute.
#[inline]
pub(super) fn key(out: &mut Vec<u8>, is_first: bool, key: &[u8]) {
    out.push(if is_first { b'{' } else { b',' });
    string(out, key);
    out.push(b':');
}

/// Ends an object of attributes; one without members is `{}`.
#[inline]
pub(super) fn end_object(out: &mut Vec<u8>, is_empty: bool) {
    if is_empty {
        out.extend_from_slice(b"{}");
    } else {
        out.push(b'}');
    }
}

/// Writes a value that stands at `depth`, the outermost at 1.
pub(super) fn write(out: &mut Vec<u8>, value: AnyValue<'_>, depth: usize) {
    match value {
        AnyValue::String(text) => string(out, text),
        AnyValue::Int(value) => integer(out, value),
        AnyValue::Bool(true) => out.extend_from_slice(b"true"),
        AnyValue::Bool(false) => out.extend_from_slice(b"false"),
        AnyValue::Double(value) => double(out, value),
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::Bytes(bytes) => base64_bytes(out, bytes),
        AnyValue::StringIndex(index) => {
            out.extend_from_slice(br#"{"$strindex":"#);
            integer(out, i64::from(index));
            out.push(b'}');
        }
        // Judged values end well before; this keeps unjudged ones from exhausting the stack.
        AnyValue::Array(_) | AnyValue::Map(_) if depth > MAX_ATTRIBUTE_DEPTH => out.extend_from_slice(b"null"),
        AnyValue::Array(parts) => {
            out.push(b'[');
            let mut is_first = true;
            for element in parts.flat_map(elements) {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                write(out, AnyValue::read(element), depth + 1);
            }
            out.push(b']');
        }
        AnyValue::Map(parts) => {
            out.push(b'{');
            let mut is_first = true;
            for element in parts.flat_map(elements) {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                let (key, value) = key_value(element);
                out.push(b'"');
                if key.first() == Some(&b'$') {
                    out.push(b'$');
                }
                string_body(out, key);
                out.extend_from_slice(b"\":");
                write(out, value, depth + 1);
            }
            out.push(b'}');
        }
    }
}

/// Writes a JSON string. Only `"`, `\` and control characters are escaped.
#[inline]
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if is_clean(text) {
        out.extend_from_slice(text);
    } else {
        string_body(out, text);
    }
    out.push(b'"');
}

/// Whether no byte needs an escape. Sixteen at a time, which compilers turn into one comparison each.
#[inline]
fn is_clean(text: &[u8]) -> bool {
    let is_clean = |chunk: &[u8; 16]| !chunk.iter().fold(false, |found, byte| found | needs_escape(*byte));
    match (text.as_chunks::<16>().0, text.last_chunk::<16>()) {
        (chunks, Some(last)) => chunks.iter().all(is_clean) && is_clean(last),
        (_, None) => !text.iter().any(|byte| needs_escape(*byte)),
    }
}

pub(super) fn integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        out.extend_from_slice(br#"{"$double":""#);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(br#""}"#);
    }
}

fn base64_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(br#"{"$bytes":""#);
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("padded base64 takes four bytes for every three");
    out.extend_from_slice(br#""}"#);
}

/// The elements of an `ArrayValue` or a `KeyValueList`.
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields::new(list).readable().filter_map(|field| match (field.number, field.wire) {
        (1, Wire::Bytes(bytes)) => Some(bytes),
        _ => None,
    })
}

#[inline]
fn string_body(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let clean = clean_prefix(text);
        out.extend_from_slice(&text[..clean]);
        let Some(&byte) = text.get(clean) else { return };
        escape(out, byte);
        text = &text[clean + 1..];
    }
}

/// How many bytes from the start need no escape, found eight at a time.
#[inline]
fn clean_prefix(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let mut clean = 0;
    while let Some(chunk) = text[clean..].first_chunk::<8>() {
        let chunk = u64::from_le_bytes(*chunk);
        // The classic zero-byte and less-than tests. A borrow can mark a byte above a true hit, never below one.
        let (quotes, backslashes) = (chunk ^ (ONES * b'"' as u64), chunk ^ (ONES * b'\\' as u64));
        let hits = ((chunk.wrapping_sub(ONES * 0x20) & !chunk)
            | (quotes.wrapping_sub(ONES) & !quotes)
            | (backslashes.wrapping_sub(ONES) & !backslashes))
            & HIGHS;
        if hits != 0 {
            return clean + hits.trailing_zeros() as usize / 8;
        }
        clean += 8;
    }
    clean + text[clean..].iter().position(|&byte| needs_escape(byte)).unwrap_or(text.len() - clean)
}

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
