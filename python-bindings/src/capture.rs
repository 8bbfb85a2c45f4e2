//! Inputs and outputs of a function as bounded text: JSON, with what must not be seen left out.
//!
//! What JSON does not know becomes its `str()`. Python says which fields an object has and which of them are secret; all else is here, since every
//! call of a traced function comes by twice.

use std::fmt::Write;

use pyo3::{
    intern,
    prelude::*,
    types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMemoryView, PySet, PyString, PyTuple},
};

use crate::{
    queue::json::{put_int, put_text},
    value::text,
};

const REDACTED: &str = "\"[REDACTED]\"";
const MAX_DEPTH: usize = 12;
const MAX_ITEMS: usize = 200;

/// The JSON of `value`, cut at `max_length` characters.
///
/// `hides(name)` tells whether a field is left out. `fields_of(value)` gives a mapping of an object's fields, or None; it is not asked about dicts, lists and
/// scalars.
///
/// # Errors
/// What the value's own code raises.
#[pyfunction]
pub(crate) fn captured_json(
    value: &Bound<'_, PyAny>,
    max_length: usize,
    hides: &Bound<'_, PyAny>,
    fields_of: &Bound<'_, PyAny>,
) -> PyResult<String> {
    let mut capture = Capture { out: String::new(), max_length, hides, fields_of };
    capture.put(value, 0)?;
    let mut out = capture.out;
    if let Some((end, _)) = out.char_indices().nth(max_length) {
        out.truncate(end);
    }
    Ok(out)
}

struct Capture<'a, 'py> {
    out: String,
    max_length: usize,
    hides: &'a Bound<'py, PyAny>,
    fields_of: &'a Bound<'py, PyAny>,
}

impl<'py> Capture<'_, 'py> {
    fn put(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        if let Ok(string) = value.cast::<PyString>() {
            self.put_start(&text(string));
        } else if value.is_none() {
            self.out.push_str("null");
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.out.push_str(if truth.is_true() { "true" } else { "false" });
        } else if let Ok(float) = value.cast::<PyFloat>() {
            self.put_float(float)?;
        } else if value.is_instance_of::<PyInt>() {
            put_int(&mut self.out, value)?;
        } else if depth >= MAX_DEPTH {
            self.out.push_str("\"...\"");
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            if dict.len() <= MAX_ITEMS {
                // A copy of the entries: what is asked about them may change the dict.
                self.put_fields(dict.items().as_any(), dict.len(), depth)?;
            } else {
                self.put_fields(&value.call_method0(intern!(value.py(), "items"))?, dict.len(), depth)?;
            }
        } else if value.is_exact_instance_of::<PyList>() || value.is_exact_instance_of::<PyTuple>() {
            self.put_items(value, depth)?;
        } else {
            self.put_object(value, depth)?;
        }
        Ok(())
    }

    fn put_object(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        let fields = self.fields_of.call1((value,))?;
        if !fields.is_none() {
            let items = fields.call_method0(intern!(value.py(), "items"))?;
            return self.put_fields(&items, fields.len()?, depth);
        }
        let is_list = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
        if is_list || value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
            return self.put_items(value, depth);
        }
        if value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            let length = value.len()?;
            self.put_start(&format!("<{length} bytes>"));
        } else {
            self.put_start(&text(&value.str()?));
        }
        Ok(())
    }

    fn put_fields(&mut self, items: &Bound<'py, PyAny>, length: usize, depth: usize) -> PyResult<()> {
        self.out.push('{');
        for (index, item) in items.try_iter()?.enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            if index == MAX_ITEMS {
                let _written = write!(self.out, "\"...\": \"{} more\"", length.saturating_sub(MAX_ITEMS));
                break;
            }
            let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
            let name = match key.cast::<PyString>() {
                Ok(name) => name.clone(),
                Err(_) => key.str()?,
            };
            put_text(&mut self.out, &text(&name));
            self.out.push_str(": ");
            if self.hides.call1((name,))?.is_truthy()? {
                self.out.push_str(REDACTED);
            } else {
                self.put(&value, depth + 1)?;
            }
            if self.is_full() {
                return Ok(());
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn put_items(&mut self, items: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        self.out.push('[');
        for (index, item) in items.try_iter()?.enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            if index == MAX_ITEMS {
                let _written = write!(self.out, "\"... {} more\"", items.len()?.saturating_sub(MAX_ITEMS));
                break;
            }
            self.put(&item?, depth + 1)?;
            if self.is_full() {
                return Ok(());
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// A text, of which no more is looked at than is kept.
    fn put_start(&mut self, text: &str) {
        let end = text.char_indices().nth(self.max_length + 1).map_or(text.len(), |(end, _)| end);
        put_text(&mut self.out, &text[..end]);
    }

    fn put_float(&mut self, float: &Bound<'py, PyFloat>) -> PyResult<()> {
        if float.value().is_finite() {
            let _written = write!(self.out, "{:?}", float.value());
        } else {
            // JSON knows neither NaN nor infinity.
            put_text(&mut self.out, &text(&float.str()?));
        }
        Ok(())
    }

    /// Whether there is enough, however many bytes a character takes.
    fn is_full(&self) -> bool {
        self.out.len() > self.max_length.saturating_mul(4)
    }
}
