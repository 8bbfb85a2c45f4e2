//! Python values as attribute values.
//!
//! | Python | OTLP |
//! | --- | --- |
//! | `None` | present, no value |
//! | `bool`, `float`, `bytes` | bool, double (NaN and infinities included), bytes |
//! | `int` | int; beyond 64 bits its decimal text, as OTLP has no larger integer |
//! | `str`, enums that are strings | string; halves of surrogate pairs are joined, lone ones become U+FFFD |
//! | sequence, mapping | array, key-value list; deeper than 30 levels no value |
//! | anything else | its `str()`; no value where that raises |
//!
//! Scalars are lent as they lie in Python's memory. Nested values are copied into an arena that is reset after each span.

use std::borrow::Cow;

use bumpalo::{Bump, collections::Vec as BumpVec};
use pyo3::{
    intern,
    prelude::*,
    types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString, PyTuple},
};
use scouter_exporter::encode::ValueRef;

/// Levels of lists and mappings inside one attribute. A level of a mapping is three protobuf messages deep, and most protobuf
/// readers, which refuse more than 100, must be able to read what we write.
const MAX_DEPTH: usize = 30;

/// The text of a Python string, without a copy unless it holds surrogates.
pub(crate) fn text<'a>(string: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    match string.to_str() {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(joined_surrogates(string).unwrap_or_else(|| string.to_string_lossy().into_owned())),
    }
}

fn joined_surrogates(string: &Bound<'_, PyString>) -> Option<String> {
    let bytes = string.call_method1("encode", ("utf-16-le", "surrogatepass")).ok()?;
    let units: Vec<u16> =
        bytes.cast::<PyBytes>().ok()?.as_bytes().chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}

/// Lends `value` to `put` in the form the encoder takes.
#[inline]
pub(crate) fn lend<R>(value: &Bound<'_, PyAny>, arena: &Bump, put: impl FnOnce(ValueRef<'_>) -> R) -> R {
    if let Ok(string) = value.cast::<PyString>() { put(ValueRef::Str(&text(string))) } else { put(in_arena(value, arena, 0)) }
}

/// Copies `value` into the arena.
pub(crate) fn in_arena<'a>(value: &Bound<'_, PyAny>, arena: &'a Bump, depth: usize) -> ValueRef<'a> {
    if let Ok(string) = value.cast::<PyString>() {
        return ValueRef::Str(arena.alloc_str(&text(string)));
    }
    if value.is_none() {
        return ValueRef::None;
    }
    // A bool is an int to Python, so it comes first.
    if let Ok(truth) = value.cast::<PyBool>() {
        return ValueRef::Bool(truth.is_true());
    }
    if let Ok(integer) = value.cast::<PyInt>() {
        return integer.extract().map_or_else(|_| large_integer(integer, arena), ValueRef::I64);
    }
    if let Ok(float) = value.cast::<PyFloat>() {
        return ValueRef::F64(float.value());
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return ValueRef::Bytes(arena.alloc_slice_copy(bytes.as_bytes()));
    }
    nested(value, arena, depth).unwrap_or(ValueRef::None)
}

/// Decimal text; Python refuses it above some thousand digits, where hexadecimal text takes its place.
fn large_integer<'a>(integer: &Bound<'_, PyInt>, arena: &'a Bump) -> ValueRef<'a> {
    let digits = integer.str().or_else(|_| integer.call_method1("__format__", ("#x",))?.str());
    digits.map_or(ValueRef::None, |digits| ValueRef::Str(arena.alloc_str(&text(&digits))))
}

fn nested<'a>(value: &Bound<'_, PyAny>, arena: &'a Bump, depth: usize) -> PyResult<ValueRef<'a>> {
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(ValueRef::Bytes(arena.alloc_slice_copy(&bytes.to_vec())));
    }
    let is_sequence = value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>();
    let is_mapping = !is_sequence && (value.is_instance_of::<PyDict>() || value.cast::<PyMapping>().is_ok());
    if is_mapping {
        if depth >= MAX_DEPTH {
            return Ok(ValueRef::None);
        }
        return Ok(ValueRef::Map(entries(value, arena, depth + 1)?));
    }
    if is_sequence || value.cast::<PySequence>().is_ok() {
        if depth >= MAX_DEPTH {
            return Ok(ValueRef::None);
        }
        let mut values = BumpVec::new_in(arena);
        for element in value.try_iter()? {
            values.push(in_arena(&element?, arena, depth + 1));
        }
        return Ok(ValueRef::Array(values.into_bump_slice()));
    }
    Ok(ValueRef::Str(arena.alloc_str(&text(&value.str()?))))
}

/// Copies a mapping into the arena. Keys that are no strings become their `str()`.
pub(crate) fn entries<'a>(mapping: &Bound<'_, PyAny>, arena: &'a Bump, depth: usize) -> PyResult<&'a [(&'a str, ValueRef<'a>)]> {
    let mut entries = BumpVec::new_in(arena);
    for_each_item(mapping, |key, value| {
        let key: &str = match key.cast::<PyString>() {
            Ok(key) => arena.alloc_str(&text(key)),
            Err(_) => arena.alloc_str(&text(&key.str()?)),
        };
        entries.push((key, in_arena(value, arena, depth)));
        Ok(())
    })?;
    Ok(entries.into_bump_slice())
}

/// Walks any mapping. What is walked is a copy of its entries, since the `str()` of a value may change the mapping.
pub(crate) fn for_each_item<'py>(
    mapping: &Bound<'py, PyAny>,
    mut each: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(dict) = mapping.cast_exact::<PyDict>() {
        for item in dict.items() {
            let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
            each(&key, &value)?;
        }
        return Ok(());
    }
    for item in mapping.call_method0(intern!(mapping.py(), "items"))?.try_iter()? {
        let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
        each(&key, &value)?;
    }
    Ok(())
}
