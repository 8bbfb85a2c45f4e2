//! What goes into a queue, as Python makes it. Constructors say what is wrong with a value; a queue never does.

use pyo3::{
    exceptions::PyTypeError,
    intern,
    prelude::*,
    types::{PyDict, PyInt, PyList, PyMapping, PyString},
};
use scouter_exporter::queue::{self as rust, AsFeature, FeatureValue};

use super::{
    json::{put_text, to_json},
    row::{self, FeatureValueOf, Row},
    unusable,
};
use crate::value::text;

/// The kinds of items.
#[pyclass(module = "scouter.queue", eq, eq_int, frozen, hash, from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EntityType {
    Feature,
    Metric,
    Agent,
}

#[pymethods]
impl EntityType {
    #[getter]
    fn name(&self) -> &'static str {
        match self {
            Self::Feature => "Feature",
            Self::Metric => "Metric",
            Self::Agent => "Agent",
        }
    }

    /// The name of `Agent` in earlier versions.
    #[classattr]
    #[pyo3(name = "GenAI")]
    fn gen_ai() -> Self {
        Self::Agent
    }
}

/// One named value: a feature that a model was given.
#[pyclass(module = "scouter.queue", frozen, from_py_object)]
#[derive(Clone)]
pub(crate) struct Feature {
    feature: rust::Feature,
}

#[pymethods]
impl Feature {
    #[new]
    fn new(name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name = text(name).into_owned();
        let feature = match row::feature_value(value) {
            Some(FeatureValueOf::Int(value)) => rust::Feature::int(name, value),
            Some(FeatureValueOf::Float(value)) => rust::Feature::float(name, value),
            Some(FeatureValueOf::Text(value)) => rust::Feature::string(name, value),
            None => return Err(unusable(&format!("feature `{name}`"), value, "a number or a text")),
        };
        Ok(Self { feature })
    }

    #[staticmethod]
    fn int(name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name = text(name).into_owned();
        match row::feature_value(value) {
            Some(FeatureValueOf::Int(value)) => Ok(Self { feature: rust::Feature::int(name, value) }),
            // Beyond 64 bits.
            Some(FeatureValueOf::Float(number)) if value.is_instance_of::<PyInt>() => {
                Ok(Self { feature: rust::Feature::float(name, number) })
            }
            _ => Err(unusable(&format!("feature `{name}`"), value, "a whole number")),
        }
    }

    #[staticmethod]
    fn float(name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name = text(name).into_owned();
        match row::feature_value(value) {
            Some(FeatureValueOf::Int(value)) => Ok(Self { feature: rust::Feature::float(name, value as f64) }),
            Some(FeatureValueOf::Float(value)) => Ok(Self { feature: rust::Feature::float(name, value) }),
            _ => Err(unusable(&format!("feature `{name}`"), value, "a number")),
        }
    }

    #[staticmethod]
    fn string(name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> Self {
        Self { feature: rust::Feature::string(text(name), text(value)) }
    }

    #[staticmethod]
    fn categorical(name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> Self {
        Self::string(name, value)
    }

    #[getter]
    fn name(&self) -> &str {
        self.feature.name()
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.feature.value() {
            FeatureValue::Int(value) => value.into_pyobject(py)?.into_any(),
            FeatureValue::Float(value) => value.into_pyobject(py)?.into_any(),
            FeatureValue::Text(value) => value.into_pyobject(py)?.into_any(),
            FeatureValue::Unusable => py.None().into_bound(py),
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Feature(name={:?}, value={})", self.name(), self.value(py)?.repr()?))
    }
}

/// The features of one prediction.
#[pyclass(module = "scouter.queue", frozen)]
pub(crate) struct Features {
    pub(super) features: rust::Features,
}

#[pymethods]
impl Features {
    #[new]
    fn new(features: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(list) = features.cast::<PyList>() {
            let read = |element: Bound<'_, PyAny>| match element.cast::<Feature>() {
                Ok(feature) => Ok(feature.get().feature.clone()),
                Err(_) => Err(unusable("an element of the list", &element, "a Feature")),
            };
            let features = list.iter().map(read).collect::<PyResult<Vec<_>>>()?;
            return Ok(Self { features: rust::Features::new(features) });
        }
        let row = mapping_row("features", features, "a list of Feature or a dict")?;
        let features = row.entries().iter().map(|(name, value)| Ok(Feature::new(name, value)?.feature)).collect::<PyResult<Vec<_>>>()?;
        Ok(Self { features: rust::Features::new(features) })
    }

    #[getter]
    fn features(&self) -> Vec<Feature> {
        self.features.as_slice().iter().map(|feature| Feature { feature: feature.clone() }).collect()
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of every item")]
    fn entity_type(&self) -> EntityType {
        EntityType::Feature
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let features = self.features().iter().map(|feature| feature.__repr__(py)).collect::<PyResult<Vec<_>>>()?;
        Ok(format!("Features([{}])", features.join(", ")))
    }
}

/// A value of a metric. Its name becomes lower case.
#[pyclass(module = "scouter.queue", frozen, from_py_object)]
#[derive(Clone)]
pub(crate) struct Metric {
    metric: rust::Metric,
}

#[pymethods]
impl Metric {
    #[new]
    fn new(name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name = text(name).into_owned();
        let number = match row::feature_value(value) {
            Some(FeatureValueOf::Int(value)) => value as f64,
            Some(FeatureValueOf::Float(value)) => value,
            _ => return Err(unusable(&format!("metric `{name}`"), value, "a number")),
        };
        Ok(Self { metric: rust::Metric::new(name, number) })
    }

    #[getter]
    fn name(&self) -> &str {
        self.metric.name()
    }

    #[getter]
    fn value(&self) -> f64 {
        self.metric.number()
    }

    fn __repr__(&self) -> String {
        format!("Metric(name={:?}, value={:?})", self.name(), self.value())
    }
}

/// Values of metrics at one moment.
#[pyclass(module = "scouter.queue", frozen)]
pub(crate) struct Metrics {
    pub(super) metrics: rust::Metrics,
}

#[pymethods]
impl Metrics {
    #[new]
    fn new(metrics: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(list) = metrics.cast::<PyList>() {
            let read = |element: Bound<'_, PyAny>| match element.cast::<Metric>() {
                Ok(metric) => Ok(metric.get().metric.clone()),
                Err(_) => Err(unusable("an element of the list", &element, "a Metric")),
            };
            let metrics = list.iter().map(read).collect::<PyResult<Vec<_>>>()?;
            return Ok(Self { metrics: rust::Metrics::new(metrics) });
        }
        let row = mapping_row("metrics", metrics, "a list of Metric or a dict")?;
        let metrics = row.entries().iter().map(|(name, value)| Ok(Metric::new(name, value)?.metric)).collect::<PyResult<Vec<_>>>()?;
        Ok(Self { metrics: rust::Metrics::new(metrics) })
    }

    #[getter]
    fn metrics(&self) -> Vec<Metric> {
        self.metrics.as_slice().iter().map(|metric| Metric { metric: metric.clone() }).collect()
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of every item")]
    fn entity_type(&self) -> EntityType {
        EntityType::Metric
    }

    fn __repr__(&self) -> String {
        format!("Metrics([{}])", self.metrics().iter().map(Metric::__repr__).collect::<Vec<_>>().join(", "))
    }
}

/// One interaction of a model or an agent, to be evaluated.
#[pyclass(module = "scouter.queue")]
pub(crate) struct EvalRecord {
    pub(super) record: rust::EvalRecord,
    #[pyo3(get, set)]
    entity_uid: String,
}

impl EvalRecord {
    /// A record of this moment with that context.
    pub(super) fn of_context(context: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !context.is_instance_of::<PyDict>() && row::fields(context)?.is_none() && context.cast::<PyMapping>().is_err() {
            return Err(unusable("context", context, "a dict, a pydantic model or a dataclass"));
        }
        Ok(Self { record: rust::EvalRecord::from_json(to_json(context)?), entity_uid: String::new() })
    }
}

#[pymethods]
impl EvalRecord {
    #[new]
    #[pyo3(signature = (context=None, id=None, session_id=None, trace_id=None))]
    fn new(context: Option<&Bound<'_, PyAny>>, id: Option<String>, session_id: Option<String>, trace_id: Option<&str>) -> PyResult<Self> {
        let mut made = match context {
            Some(context) => Self::of_context(context)?,
            None => Self { record: rust::EvalRecord::from_json("{}"), entity_uid: String::new() },
        };
        made.record.record_id = id.unwrap_or_default();
        if let Some(session_id) = session_id {
            made.record.session_id = session_id;
        }
        made.record.trace_id = trace_id.and_then(trace_id_of);
        Ok(made)
    }

    #[getter]
    fn uid(&self) -> &str {
        &self.record.uid
    }

    #[getter]
    fn record_id(&self) -> &str {
        &self.record.record_id
    }

    #[setter]
    fn set_record_id(&mut self, record_id: String) {
        self.record.record_id = record_id;
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.record.session_id
    }

    #[setter]
    fn set_session_id(&mut self, session_id: String) {
        self.record.session_id = session_id;
    }

    #[getter]
    fn trace_id(&self) -> Option<String> {
        self.record.trace_id.map(|id| format!("{:032x}", u128::from_be_bytes(id)))
    }

    #[setter]
    fn set_trace_id(&mut self, trace_id: Option<&str>) {
        self.record.trace_id = trace_id.and_then(trace_id_of);
    }

    #[getter]
    fn created_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let module = py.import("datetime")?;
        let keywords = PyDict::new(py);
        keywords.set_item("microseconds", self.record.created_at_unix_nano / 1000)?;
        let since = module.getattr("timedelta")?.call((), Some(&keywords))?;
        let utc = module.getattr("timezone")?.getattr("utc")?;
        module.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc))?.add(since)
    }

    #[getter]
    fn tags(&self) -> Vec<String> {
        self.record.tags.clone()
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of every item")]
    fn entity_type(&self) -> EntityType {
        EntityType::Agent
    }

    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import(intern!(py, "json"))?.call_method1(intern!(py, "loads"), (&self.record.context_json,))
    }

    /// Adds the tag ``key=value``.
    fn add_tag(&mut self, key: &str, value: &str) {
        self.record.add_tag(key, value);
    }

    /// Sets one field of the context.
    fn update_context_field(slf: &Bound<'_, Self>, key: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let context = slf.try_borrow()?.context(slf.py())?;
        let context = context.cast_into::<PyDict>().map_err(|_| PyTypeError::new_err("the context is no JSON object"))?;
        context.set_item(key, value)?;
        let json = to_json(&context)?;
        slf.try_borrow_mut()?.record.context_json = json;
        Ok(())
    }

    /// Gives the record as JSON, with the fields that Scouter gives it.
    fn model_dump_json(&self) -> String {
        let record = &self.record;
        let mut out = String::from("{");
        let mut field = |name: &str, value: &dyn Fn(&mut String)| {
            if out.len() > 1 {
                out.push(',');
            }
            put_text(&mut out, name);
            out.push(':');
            value(&mut out);
        };
        let quoted = |text: &str| {
            let mut quoted = String::new();
            put_text(&mut quoted, text);
            quoted
        };
        let tags: Vec<String> = record.tags.iter().map(|tag| quoted(tag)).collect();
        field("record_id", &|out| put_text(out, &record.record_id));
        field("session_id", &|out| put_text(out, &record.session_id));
        field("created_at", &|out| put_text(out, &record.created_at()));
        field("uid", &|out| put_text(out, &record.uid));
        field("context", &|out| out.push_str(&record.context_json));
        field("id", &|out| out.push('0'));
        for name in ["updated_at", "processing_started_at", "processing_ended_at", "processing_duration"] {
            field(name, &|out| out.push_str("null"));
        }
        field("entity_id", &|out| out.push('0'));
        field("entity_uid", &|out| put_text(out, &self.entity_uid));
        field("status", &|out| out.push_str("\"Pending\""));
        field("entity_type", &|out| out.push_str("\"GenAI\""));
        field("retry_count", &|out| out.push('0'));
        field("trace_id", &|out| match self.trace_id() {
            Some(id) => put_text(out, &id),
            None => out.push_str("null"),
        });
        field("tags", &|out| out.push_str(&format!("[{}]", tags.join(","))));
        out.push('}');
        out
    }

    fn __repr__(&self) -> String {
        format!("EvalRecord(uid={:?}, record_id={:?}, session_id={:?})", self.uid(), self.record_id(), self.session_id())
    }

    fn __str__(&self) -> String {
        self.model_dump_json()
    }
}

/// `None` for what is no trace id, as Scouter has it.
fn trace_id_of(hex: &str) -> Option<[u8; 16]> {
    let is_hex = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(hex, 16).ok()).flatten()?;
    (number != 0).then(|| number.to_be_bytes())
}

fn mapping_row<'py>(what: &str, given: &Bound<'py, PyAny>, expected: &str) -> PyResult<Row<'py>> {
    let is_row = given.is_instance_of::<PyDict>()
        || row::fields(given)?.is_some()
        || (given.hasattr(intern!(given.py(), "items"))? && given.hasattr(intern!(given.py(), "keys"))?);
    if is_row { Row::of(given) } else { Err(unusable(what, given, expected)) }
}
