//! Python objects as rows of named values.
//!
//! | Python | row |
//! | --- | --- |
//! | mapping, row of pandas, named tuple | its entries |
//! | pydantic model, dataclass | its fields |
//! | list or tuple of `Feature` or `Metric` | those |
//! | object with `to_features()` | what that gives |
//!
//! A value is a number, or a text, or anything that Python's `int()` or `float()` takes by its own methods, such as numpy's scalars.
//! What is none of these is unusable: it is counted and leaves its neighbours alone.

use std::borrow::Cow;

use pyo3::{
    intern,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use scouter_exporter::queue::{AsFeature, FeatureValue};

use super::{Feature, Features, Metric, unusable};
use crate::value::{for_each_item, text};

/// Names and values as Python holds them.
pub(super) struct Row<'py>(Vec<(Bound<'py, PyString>, Bound<'py, PyAny>)>);

/// An entry of a row, lent.
pub(super) struct Entry<'a> {
    name: Cow<'a, str>,
    value: Value<'a>,
}

enum Value<'a> {
    Number(FeatureValue<'static>),
    Text(Cow<'a, str>),
}

impl AsFeature for Entry<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn value(&self) -> FeatureValue<'_> {
        match &self.value {
            Value::Number(value) => *value,
            Value::Text(text) => FeatureValue::Text(text),
        }
    }
}

impl<'py> Row<'py> {
    /// Reads any object that has names and values.
    pub(super) fn of(item: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = item.py();
        if item.is_instance_of::<PyList>() || item.is_instance_of::<PyTuple>() && !item.hasattr(intern!(py, "_fields"))? {
            return Self::of_list(item);
        }
        let fields = fields(item)?;
        let item = fields.as_ref().unwrap_or(item);
        let mut pairs = Vec::new();
        match item.cast::<PyDict>() {
            // No Python code runs between two entries.
            Ok(dict) => pairs.extend(dict.iter()),
            Err(_) if !item.hasattr(intern!(py, "items"))? => return Err(unusable("the item", item, "names and values")),
            Err(_) => for_each_item(item, |name, value| {
                pairs.push((name.clone(), value.clone()));
                Ok(())
            })?,
        }
        let named = |(name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>)| match name.cast_into::<PyString>() {
            Ok(name) => Ok((name, value)),
            Err(error) => Ok((error.into_inner().str()?, value)),
        };
        pairs.into_iter().map(named).collect::<PyResult<_>>().map(Self)
    }

    fn of_list(list: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut entries = Vec::new();
        for element in list.try_iter()? {
            let element = element?;
            if !element.is_instance_of::<Feature>() && !element.is_instance_of::<Metric>() {
                return Err(unusable("an element of the list", &element, "a Feature or a Metric"));
            }
            let name = element.getattr(intern!(list.py(), "name"))?.cast_into::<PyString>()?;
            entries.push((name, element.getattr(intern!(list.py(), "value"))?));
        }
        Ok(Self(entries))
    }

    /// Converts the values, then lends the row. Python code may run while values are converted, and none after it.
    pub(super) fn lend<R>(&self, insert: impl FnOnce(&[Entry<'_>]) -> R) -> R {
        let entries: Vec<Entry<'_>> = self.0.iter().map(|(name, value)| Entry { name: text(name), value: read(value) }).collect();
        insert(&entries)
    }

    /// The entries themselves, for constructors that refuse what is unusable.
    pub(super) fn entries(&self) -> &[(Bound<'py, PyString>, Bound<'py, PyAny>)] {
        &self.0
    }
}

/// What `to_features()` of an object gives.
pub(super) fn to_features<'py>(item: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Features>>> {
    let Some(method) = item.getattr_opt(intern!(item.py(), "to_features"))? else { return Ok(None) };
    Ok(Some(method.call0()?.cast_into::<Features>()?))
}

/// The fields of an object that is no mapping itself.
pub(super) fn fields<'py>(item: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = item.py();
    if item.is_instance_of::<PyDict>() {
        return Ok(None);
    }
    if let Some(dump) = item.getattr_opt(intern!(py, "model_dump"))? {
        return Ok(Some(dump.call0()?));
    }
    if let Some(dump) = item.getattr_opt(intern!(py, "_asdict"))? {
        return Ok(Some(dump.call0()?));
    }
    if let Some(names) = item.get_type().getattr_opt(intern!(py, "__dataclass_fields__"))? {
        let fields = PyDict::new(py);
        for name in names.try_iter()? {
            let name = name?.cast_into::<PyString>()?;
            fields.set_item(&name, item.getattr(&name)?)?;
        }
        return Ok(Some(fields.into_any()));
    }
    Ok(None)
}

/// A value of a feature or metric.
pub(super) fn feature_value<'a>(value: &'a Bound<'_, PyAny>) -> Option<FeatureValueOf<'a>> {
    match read(value) {
        Value::Number(FeatureValue::Unusable) => None,
        Value::Number(FeatureValue::Int(value)) => Some(FeatureValueOf::Int(value)),
        Value::Number(FeatureValue::Float(value)) => Some(FeatureValueOf::Float(value)),
        Value::Number(FeatureValue::Text(_)) => None,
        Value::Text(text) => Some(FeatureValueOf::Text(text)),
    }
}

/// A value of some use.
pub(super) enum FeatureValueOf<'a> {
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

fn read<'a>(value: &'a Bound<'_, PyAny>) -> Value<'a> {
    if let Ok(float) = value.cast::<PyFloat>() {
        return Value::Number(FeatureValue::Float(float.value()));
    }
    if let Ok(text_value) = value.cast::<PyString>() {
        return Value::Text(text(text_value));
    }
    Value::Number(number(value))
}

fn number(value: &Bound<'_, PyAny>) -> FeatureValue<'static> {
    if let Ok(truth) = value.cast::<PyBool>() {
        return FeatureValue::Int(i64::from(truth.is_true()));
    }
    let float = || value.extract::<f64>().map_or(FeatureValue::Unusable, FeatureValue::Float);
    if value.is_instance_of::<PyInt>() {
        // Beyond 64 bits it is a number all the same.
        return value.extract().map_or_else(|_| float(), FeatureValue::Int);
    }
    if value.is_none() {
        return FeatureValue::Unusable;
    }
    // numpy's integers know themselves as an index; anything else of use knows itself as a float.
    value.extract().map_or_else(|_| float(), FeatureValue::Int)
}
