//! Attribute values, and collections of attributes with unique keys.

use std::collections::HashMap;

use opentelemetry::{Array, StringValue, Value};
use scouter_tonic::limits::MAX_ATTRIBUTE_DEPTH;

use super::wire::{delimited, fixed64_field, put_bytes_always, put_nested, put_varint, varint_field, varint_len};

const KEY: u8 = delimited(1);
const VALUE: u8 = delimited(2);
const ANY_STRING: u8 = delimited(1);
const ANY_BOOL: u8 = varint_field(2);
const ANY_INT: u8 = varint_field(3);
const ANY_DOUBLE: u8 = fixed64_field(4);
const ANY_ARRAY: u8 = delimited(5);
const ANY_MAP: u8 = delimited(6);
const ANY_BYTES: u8 = delimited(7);
const ELEMENT: u8 = delimited(1);

/// Key and text together, so that the attribute's length stays below 128: it has eight bytes of heads, two of which are not counted in it.
const MAX_SHORT_ATTRIBUTE_BYTES: usize = 121;
/// Leaves room for the longest number beside the key.
const MAX_SHORT_KEY_BYTES: usize = 100;

/// Up to here, repeated keys are looked for by comparing; above, by hashing.
const FEW_KEYS: usize = 32;

/// A borrowed attribute value. The four list kinds without nesting exist so that the SDK's arrays are written without a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// No value: present and empty.
    None,
    /// Text.
    Str(&'a str),
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// A float, NaN and infinities included.
    F64(f64),
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// A list of any values.
    Array(&'a [ValueRef<'a>]),
    /// A map; of repeated keys the last one counts.
    Map(&'a [(&'a str, ValueRef<'a>)]),
    /// A list of truth values.
    Bools(&'a [bool]),
    /// A list of integers.
    I64s(&'a [i64]),
    /// A list of floats.
    F64s(&'a [f64]),
    /// A list of the SDK's strings.
    Strings(&'a [StringValue]),
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    #[inline]
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => ValueRef::Bool(*value),
            Value::I64(value) => ValueRef::I64(*value),
            Value::F64(value) => ValueRef::F64(*value),
            Value::String(value) => ValueRef::Str(value.as_str()),
            Value::Array(Array::Bool(values)) => ValueRef::Bools(values),
            Value::Array(Array::I64(values)) => ValueRef::I64s(values),
            Value::Array(Array::F64(values)) => ValueRef::F64s(values),
            Value::Array(Array::String(values)) => ValueRef::Strings(values),
            // Kinds the API may grow later; both enums are non-exhaustive.
            _ => ValueRef::None,
        }
    }
}

/// Writes a collection of attributes, each key once: the last value of a repeated key.
#[inline]
pub(super) fn put_attributes<'a>(out: &mut Vec<u8>, tag: u8, len: usize, attribute: impl Fn(usize) -> (&'a str, ValueRef<'a>)) {
    if has_repeated_key(len, |index| attribute(index).0) {
        put_last_of_each(out, tag, len, &attribute);
    } else {
        for index in 0..len {
            let (key, value) = attribute(index);
            put_attribute(out, tag, key, value, 1);
        }
    }
}

/// One set bit a key: only keys that share a bit are compared, so a collection without repeats costs a few instructions a key.
#[inline]
fn has_repeated_key<'a>(len: usize, key: impl Fn(usize) -> &'a str) -> bool {
    if len > FEW_KEYS {
        return true;
    }
    let mut seen = 0_u64;
    for index in 0..len {
        let this = key(index);
        let bytes = this.as_bytes();
        let mix = match (bytes.first(), bytes.get(bytes.len() / 2), bytes.last()) {
            (Some(first), Some(middle), Some(last)) => {
                u32::from(*first) | u32::from(*middle) << 8 | u32::from(*last) << 16 | (bytes.len() as u32) << 24
            }
            _ => 0,
        };
        let bit = 1_u64 << (mix.wrapping_mul(0x9e37_79b1) >> 26);
        if seen & bit != 0 && (0..index).any(|earlier| key(earlier) == this) {
            return true;
        }
        seen |= bit;
    }
    false
}

#[cold]
fn put_last_of_each<'a>(out: &mut Vec<u8>, tag: u8, len: usize, attribute: &impl Fn(usize) -> (&'a str, ValueRef<'a>)) {
    if len <= FEW_KEYS {
        for index in 0..len {
            let (key, value) = attribute(index);
            if !(index + 1..len).any(|later| attribute(later).0 == key) {
                put_attribute(out, tag, key, value, 1);
            }
        }
        return;
    }
    let last: HashMap<&str, usize> = (0..len).map(|index| (attribute(index).0, index)).collect();
    for index in 0..len {
        let (key, value) = attribute(index);
        if last.get(key) == Some(&index) {
            put_attribute(out, tag, key, value, 1);
        }
    }
}

/// Writes one `KeyValue`. `depth` counts the nesting of `value`, from 1.
#[inline]
pub(super) fn put_attribute(out: &mut Vec<u8>, tag: u8, key: &str, value: ValueRef<'_>, depth: usize) {
    if !key.is_empty() && key.len() <= MAX_SHORT_KEY_BYTES && put_short_attribute(out, tag, key, value) {
        return;
    }
    let Some(any_len) = flat_len(&value) else {
        put_nested(out, tag, |out| {
            put_key(out, key);
            put_nested(out, VALUE, |out| put_any(out, value, depth));
        });
        return;
    };
    let key_len = if key.is_empty() { 0 } else { 1 + varint_len(key.len() as u64) + key.len() };
    let len = key_len + 1 + varint_len(any_len as u64) + any_len;
    out.reserve(len + 11);
    out.push(tag);
    put_varint(out, len as u64);
    put_key(out, key);
    out.push(VALUE);
    put_varint(out, any_len as u64);
    put_any(out, value, depth);
}

/// The common case, where every length fits one byte: heads are made on the stack and copied as one piece. False when it is not that case.
#[inline]
fn put_short_attribute(out: &mut Vec<u8>, tag: u8, key: &str, value: ValueRef<'_>) -> bool {
    let head = |value_len: usize| [tag, (4 + key.len() + value_len) as u8, KEY, key.len() as u8];
    out.reserve(160);
    match value {
        ValueRef::Str(text) if key.len() + text.len() <= MAX_SHORT_ATTRIBUTE_BYTES => {
            let value_len = 2 + text.len();
            out.extend_from_slice(&head(value_len));
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&[VALUE, value_len as u8, ANY_STRING, text.len() as u8]);
            out.extend_from_slice(text.as_bytes());
        }
        ValueRef::I64(number) => {
            let mut bytes = [VALUE, 0, ANY_INT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut rest = number as u64;
            let mut len = 3;
            while rest >= 0x80 {
                bytes[len] = rest as u8 | 0x80;
                rest >>= 7;
                len += 1;
            }
            bytes[len] = rest as u8;
            bytes[1] = (len - 1) as u8;
            out.extend_from_slice(&head(len - 1));
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&bytes[..=len]);
        }
        ValueRef::Bool(value) => {
            out.extend_from_slice(&head(2));
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&[VALUE, 2, ANY_BOOL, u8::from(value)]);
        }
        ValueRef::F64(value) => {
            let mut bytes = [VALUE, 9, ANY_DOUBLE, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes[3..].copy_from_slice(&value.to_le_bytes());
            out.extend_from_slice(&head(9));
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&bytes);
        }
        _ => return false,
    }
    true
}

#[inline]
fn put_key(out: &mut Vec<u8>, key: &str) {
    if !key.is_empty() {
        out.push(KEY);
        put_varint(out, key.len() as u64);
        out.extend_from_slice(key.as_bytes());
    }
}

/// Bytes of an `AnyValue` that holds no other values.
#[inline]
fn flat_len(value: &ValueRef<'_>) -> Option<usize> {
    Some(match value {
        ValueRef::Str(text) => 1 + varint_len(text.len() as u64) + text.len(),
        ValueRef::I64(value) => 1 + varint_len(*value as u64),
        ValueRef::Bool(_) => 2,
        ValueRef::F64(_) => 9,
        ValueRef::Bytes(bytes) => 1 + varint_len(bytes.len() as u64) + bytes.len(),
        ValueRef::None => 0,
        _ => return None,
    })
}

/// Writes the content of an `AnyValue`.
#[inline]
fn put_any(out: &mut Vec<u8>, value: ValueRef<'_>, depth: usize) {
    match value {
        ValueRef::Str(text) => put_bytes_always(out, ANY_STRING, text.as_bytes()),
        ValueRef::I64(value) => {
            out.push(ANY_INT);
            put_varint(out, value as u64);
        }
        ValueRef::Bool(value) => out.extend_from_slice(&[ANY_BOOL, u8::from(value)]),
        ValueRef::F64(value) => {
            out.push(ANY_DOUBLE);
            out.extend_from_slice(&value.to_le_bytes());
        }
        ValueRef::Bytes(bytes) => put_bytes_always(out, ANY_BYTES, bytes),
        ValueRef::None => {}
        nested => put_nested_any(out, nested, depth),
    }
}

fn put_nested_any(out: &mut Vec<u8>, value: ValueRef<'_>, depth: usize) {
    if depth >= MAX_ATTRIBUTE_DEPTH {
        return;
    }
    let element = |out: &mut Vec<u8>, value: ValueRef<'_>| match flat_len(&value) {
        Some(len) => {
            out.push(ELEMENT);
            put_varint(out, len as u64);
            put_any(out, value, depth + 1);
        }
        None => put_nested(out, ELEMENT, |out| put_any(out, value, depth + 1)),
    };
    match value {
        ValueRef::Array(values) => put_nested(out, ANY_ARRAY, |out| values.iter().for_each(|value| element(out, *value))),
        ValueRef::Bools(values) => put_nested(out, ANY_ARRAY, |out| values.iter().for_each(|value| element(out, ValueRef::Bool(*value)))),
        ValueRef::I64s(values) => put_nested(out, ANY_ARRAY, |out| values.iter().for_each(|value| element(out, ValueRef::I64(*value)))),
        ValueRef::F64s(values) => put_nested(out, ANY_ARRAY, |out| values.iter().for_each(|value| element(out, ValueRef::F64(*value)))),
        ValueRef::Strings(values) => {
            put_nested(out, ANY_ARRAY, |out| values.iter().for_each(|value| element(out, ValueRef::Str(value.as_str()))));
        }
        ValueRef::Map(entries) => put_nested(out, ANY_MAP, |out| put_map(out, entries, depth + 1)),
        _ => {}
    }
}

fn put_map(out: &mut Vec<u8>, entries: &[(&str, ValueRef<'_>)], depth: usize) {
    if !has_repeated_key(entries.len(), |index| entries[index].0) {
        return entries.iter().for_each(|(key, value)| put_attribute(out, ELEMENT, key, *value, depth));
    }
    let last: HashMap<&str, usize> = entries.iter().enumerate().map(|(index, (key, _))| (*key, index)).collect();
    for (index, (key, value)) in entries.iter().enumerate() {
        if last.get(key) == Some(&index) {
            put_attribute(out, ELEMENT, key, *value, depth);
        }
    }
}
