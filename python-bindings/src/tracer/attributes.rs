//! Attributes of a living span: a dictionary of values that nobody else can change.
//!
//! The rules are those of OpenTelemetry's Python SDK: text is cut at its limit, sequences become tuples, mappings are copied, a key that is no
//! non-empty text is left out and counted, a value of another kind becomes its text. A full collection lets its oldest entry go.

use pyo3::{
    exceptions::PyTypeError,
    ffi,
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString, PyTuple},
};

use crate::{log, value::for_each_item};

/// Deeper nesting is cut off; the encoder would leave it out anyway, and the stack has an end.
const MAX_DEPTH: usize = 64;

/// Bounds of one collection; `None` is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) count: Option<usize>,
    pub(super) text_chars: Option<usize>,
}

/// A collection as it stands on a span, an event or a link.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) entries: Option<Py<PyDict>>,
    pub(super) dropped: u32,
}

impl Attributes {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { entries: self.entries.as_ref().map(|entries| entries.clone_ref(py)), dropped: self.dropped }
    }
}

/// Copies what a user gave.
pub(super) fn copied(given: Option<&Bound<'_, PyAny>>, bounds: Bounds) -> PyResult<Attributes> {
    let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(Attributes::default()) };
    if let Some(entries) = copied_plain(given, bounds) {
        return Ok(Attributes { entries: Some(entries.unbind()), dropped: 0 });
    }
    let entries = PyDict::new(given.py());
    let dropped = insert_all(&entries, given, bounds)?;
    Ok(Attributes { entries: Some(entries.unbind()), dropped })
}

/// The common case in one piece: a dictionary of text keys and plain values that fits.
#[inline]
fn copied_plain<'py>(given: &Bound<'py, PyAny>, bounds: Bounds) -> Option<Bound<'py, PyDict>> {
    let dict = given.cast_exact::<PyDict>().ok()?;
    if bounds.count.is_some_and(|max| dict.len() > max) {
        return None;
    }
    for (key, value) in dict.iter() {
        let key = key.cast_exact::<PyString>().ok()?;
        let is_plain = match value.cast_exact::<PyString>() {
            Ok(text) => bounds.text_chars.is_none_or(|max| chars(text) <= max),
            Err(_) => {
                value.is_exact_instance_of::<PyInt>()
                    || value.is_exact_instance_of::<PyBool>()
                    || value.is_exact_instance_of::<PyFloat>()
                    || value.is_none()
            }
        };
        if !is_plain || chars(key) == 0 {
            return None;
        }
    }
    dict.copy().ok()
}

/// Sets each entry of a mapping. Gives the number of those that were left out or had to make room.
pub(super) fn insert_all(entries: &Bound<'_, PyDict>, given: &Bound<'_, PyAny>, bounds: Bounds) -> PyResult<u32> {
    let mut dropped = 0;
    for_each_item(given, |key, value| {
        dropped += insert(entries, key, value, bounds)?;
        Ok(())
    })?;
    Ok(dropped)
}

/// Sets one entry; it moves to the end. Gives the number of entries that were left out or had to make room.
#[inline]
pub(super) fn insert(entries: &Bound<'_, PyDict>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, bounds: Bounds) -> PyResult<u32> {
    let py = key.py();
    if bounds.count == Some(0) {
        return Ok(1);
    }
    if !key.cast::<PyString>().is_ok_and(|key| chars(key) > 0) {
        log::warn(py, &format!("an attribute key that is no non-empty text was left out: {}", shown(key)), None);
        return Ok(1);
    }
    let value = cleaned(value, bounds.text_chars, 0)?;
    let mut dropped = 0;
    if entries.contains(key)? {
        entries.del_item(key)?;
    } else if bounds.count.is_some_and(|max| entries.len() >= max) {
        log::warn(py, "attributes are at their limit: the oldest one made room for a new one", None);
        if let Some((oldest, _)) = entries.iter().next() {
            entries.del_item(oldest)?;
        }
        dropped = 1;
    }
    entries.set_item(key, value)?;
    Ok(dropped)
}

/// A value that cannot change and whose text is within the limit.
fn cleaned<'py>(value: &Bound<'py, PyAny>, text_chars: Option<usize>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if let Ok(text) = value.cast::<PyString>() {
        return cut(text, text_chars);
    }
    let is_plain =
        value.is_none() || value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyBytes>();
    if is_plain {
        return Ok(value.clone());
    }
    if depth >= MAX_DEPTH {
        return Ok(py.None().into_bound(py));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() || value.cast::<PySequence>().is_ok() {
        let elements = value.try_iter()?.map(|element| cleaned(&element?, text_chars, depth + 1));
        return Ok(PyTuple::new(py, elements.collect::<PyResult<Vec<_>>>()?)?.into_any());
    }
    if value.cast::<PyMapping>().is_ok() {
        let entries = PyDict::new(py);
        for_each_item(value, |key, value| {
            if let Some(key) = nested_key(key)? {
                entries.set_item(key, cleaned(value, text_chars, depth + 1)?)?;
            }
            Ok(())
        })?;
        return Ok(entries.into_any());
    }
    let kind = shown(&value.get_type());
    log::warn(py, &format!("an attribute value of {kind} is no text, number, truth value, bytes, list or mapping: its text is kept"), None);
    if has_own_text(value)? { cut(&value.str()?, text_chars) } else { Ok(py.None().into_bound(py)) }
}

/// The key of a nested mapping, as text.
fn nested_key<'py>(key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
    if let Ok(text) = key.cast::<PyString>() {
        if chars(text) > 0 {
            return Ok(Some(text.clone()));
        }
    } else if key.is_truthy()? && has_own_text(key)? {
        log::warn(key.py(), &format!("an attribute key that is no text was turned into text: {}", shown(key)), None);
        return Ok(Some(key.str()?));
    }
    log::warn(key.py(), &format!("an attribute key that is no non-empty text was left out: {}", shown(key)), None);
    Ok(None)
}

/// Whether an object's text says more than its address.
fn has_own_text(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    let object = py.get_type::<PyAny>();
    let class = value.get_type();
    let is_own = |name| -> PyResult<bool> { Ok(!class.getattr(name)?.is(&object.getattr(name)?)) };
    Ok(is_own("__str__")? || is_own("__repr__")?)
}

fn cut<'py>(text: &Bound<'py, PyString>, max: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
    let py = text.py();
    match max {
        Some(max) if chars(text) > max => {
            log::warn(py, &format!("an attribute's text was cut at the limit of {max} characters"), None);
            let end = ffi::Py_ssize_t::try_from(max).map_err(|_| PyTypeError::new_err("a limit that is no length"))?;
            // SAFETY: `text` is a string, and `end` is within it.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_Substring(text.as_ptr(), 0, end)) }
        }
        _ => Ok(text.as_any().clone()),
    }
}

/// Length of a string in characters.
#[inline]
pub(super) fn chars(text: &Bound<'_, PyString>) -> usize {
    // SAFETY: `text` is a string; for those the length is never negative.
    usize::try_from(unsafe { ffi::PyUnicode_GetLength(text.as_ptr()) }).unwrap_or(0)
}

fn shown(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string_lossy().into_owned())
}
