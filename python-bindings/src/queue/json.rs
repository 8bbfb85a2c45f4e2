//! Python values as JSON text.
//!
//! | Python | JSON |
//! | --- | --- |
//! | NaN, infinities | `null`, as Scouter writes them |
//! | mapping, pydantic model, dataclass | object |
//! | other sequences and sets, arrays of numpy | array |
//! | scalars of numpy, enums | their plain value |
//! | dates and times | ISO 8601 text |
//! | anything else | its `str()` |

use std::fmt::Write;

use pyo3::{
    exceptions::PyTypeError,
    intern,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple},
};

use super::row::fields;
use crate::value::{for_each_item, text};

/// Levels of lists and mappings; a value that holds itself ends here.
const MAX_DEPTH: usize = 100;

pub(super) fn to_json(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut out = String::new();
    put(&mut out, value, 0)?;
    Ok(out)
}

fn put(out: &mut String, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    let py = value.py();
    if depth > MAX_DEPTH {
        return Err(PyTypeError::new_err(format!("the context is nested deeper than {MAX_DEPTH} levels, or holds itself")));
    }
    if let Ok(string) = value.cast::<PyString>() {
        put_text(out, &text(string));
    } else if value.is_none() {
        out.push_str("null");
    } else if let Ok(truth) = value.cast::<PyBool>() {
        out.push_str(if truth.is_true() { "true" } else { "false" });
    } else if let Ok(float) = value.cast::<PyFloat>() {
        put_float(out, float.value());
    } else if value.is_instance_of::<PyInt>() {
        put_int(out, value)?;
    } else if value.is_instance_of::<PyDict>() {
        put_object(out, value, depth)?;
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() && !value.hasattr(intern!(py, "_fields"))? {
        put_array(out, value, depth)?;
    } else if let Some(fields) = fields(value)? {
        put(out, &fields, depth + 1)?;
    } else if value.hasattr(intern!(py, "keys"))? && value.hasattr(intern!(py, "items"))? {
        put_object(out, value, depth)?;
    } else if let Some(list) = value.getattr_opt(intern!(py, "tolist"))? {
        put(out, &list.call0()?, depth + 1)?;
    } else if value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
        put_array(out, value, depth)?;
    } else if value.get_type().hasattr(intern!(py, "__members__"))? {
        put(out, &value.getattr(intern!(py, "value"))?, depth + 1)?;
    } else if let Some(iso) = value.getattr_opt(intern!(py, "isoformat"))? {
        put(out, &iso.call0()?, depth + 1)?;
    } else {
        put_text(out, &text(&value.str()?));
    }
    Ok(())
}

fn put_object(out: &mut String, mapping: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    out.push('{');
    let mut is_first = true;
    for_each_item(mapping, |key, value| {
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        match key.cast::<PyString>() {
            Ok(key) => put_text(out, &text(key)),
            Err(_) => put_text(out, &text(&key.str()?)),
        }
        out.push(':');
        put(out, value, depth + 1)
    })?;
    out.push('}');
    Ok(())
}

fn put_array(out: &mut String, elements: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    out.push('[');
    for (index, element) in elements.try_iter()?.enumerate() {
        if index > 0 {
            out.push(',');
        }
        put(out, &element?, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

/// Rust's own notation of a float has a point or an exponent and is JSON.
fn put_float(out: &mut String, value: f64) {
    if value.is_finite() {
        // Writing to a string cannot fail.
        let _written = write!(out, "{value:?}");
    } else {
        out.push_str("null");
    }
}

pub(crate) fn put_int(out: &mut String, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(value) = value.extract::<i64>() {
        let _written = write!(out, "{value}");
        return Ok(());
    }
    // An enum of integers has a text of its own, so ask for the digits.
    out.push_str(&text(&value.call_method1(intern!(value.py(), "__format__"), ("d",))?.cast_into::<PyString>()?));
    Ok(())
}

pub(crate) fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _written = write!(out, "\\u{:04x}", u32::from(control));
            }
            character => out.push(character),
        }
    }
    out.push('"');
}
