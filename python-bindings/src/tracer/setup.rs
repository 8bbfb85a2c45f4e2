//! What the tracers of one scope have in common: sampler, ids, limits, envelope. Made by the provider, exchanged as a whole.

use std::sync::Arc;

use pyo3::{
    ffi,
    gc::{PyTraverseError, PyVisit},
    prelude::*,
    types::{PyDict, PyString, PyType},
};
use scouter_exporter::encode::EncodedEnvelope;

use super::{
    attributes::Bounds,
    capi,
    sampling::{Ids, Sampler},
    sinks::SpanSinks,
    span::SpanCore,
};
use crate::envelope;

/// Set on every span that names no entity, unless baggage names one.
pub(super) struct DefaultEntity {
    pub(super) key: Py<PyString>,
    pub(super) key_text: String,
    pub(super) uid: Py<PyString>,
}

/// What the tracers of one scope have in common.
#[pyclass(module = "scouter._scouter", frozen)]
pub(crate) struct TracerSetup {
    pub(super) span_class: Py<PyType>,
    pub(super) constructor: ffi::newfunc,
    pub(super) sampler: Sampler,
    pub(super) ids: Ids,
    pub(super) span_attributes: Bounds,
    pub(super) event_attributes: Bounds,
    pub(super) link_attributes: Bounds,
    pub(super) max_events: Option<usize>,
    pub(super) max_links: Option<usize>,
    pub(super) envelope: Arc<EncodedEnvelope>,
    pub(super) resource: Py<PyAny>,
    pub(super) scope: Py<PyAny>,
    pub(super) sinks: Py<SpanSinks>,
    pub(super) default_attributes: Option<Py<PyDict>>,
    pub(super) default_entity: Option<DefaultEntity>,
    pub(super) is_enabled: bool,
    /// Called with the parent's context and the decision (0, 1, 2) at each start; what it gives is called at the end.
    pub(super) metrics: Option<Py<PyAny>>,
}

impl TracerSetup {
    /// The entity key that is to be left out of a span that names another entity.
    pub(super) fn default_entity_key(&self) -> Option<&str> {
        self.default_entity.as_ref().map(|entity| entity.key_text.as_str())
    }
}

#[pymethods]
impl TracerSetup {
    #[new]
    #[pyo3(signature = (
        *, span_class, sampler, id_generator, limits, resource, scope, sinks, default_attributes=None, default_entity_uid=None,
        is_enabled=true, metrics=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        py: Python<'_>,
        span_class: Bound<'_, PyType>,
        sampler: &Bound<'_, PyAny>,
        id_generator: &Bound<'_, PyAny>,
        limits: &Bound<'_, PyAny>,
        resource: &Bound<'_, PyAny>,
        scope: &Bound<'_, PyAny>,
        sinks: Py<SpanSinks>,
        default_attributes: Option<Bound<'_, PyDict>>,
        default_entity_uid: Option<&str>,
        is_enabled: bool,
        metrics: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        super::sampling::watch_forks();
        let limit = |name: &str| -> PyResult<Option<usize>> { limits.getattr(name)?.extract() };
        let text_chars = limit("max_attribute_length")?;
        let default_entity = default_entity_uid.map(|uid| {
            let key = format!("scouter.entity.{uid}");
            DefaultEntity { key: PyString::new(py, &key).unbind(), key_text: key, uid: PyString::new(py, uid).unbind() }
        });
        Ok(Self {
            constructor: capi::constructor(&py.get_type::<SpanCore>())?,
            span_class: span_class.unbind(),
            sampler: Sampler::from_python(sampler)?,
            ids: Ids::from_python(id_generator)?,
            span_attributes: Bounds { count: limit("max_span_attributes")?, text_chars: limit("max_span_attribute_length")? },
            event_attributes: Bounds { count: limit("max_event_attributes")?, text_chars },
            link_attributes: Bounds { count: limit("max_link_attributes")?, text_chars },
            max_events: limit("max_events")?,
            max_links: limit("max_links")?,
            envelope: envelope::encode(resource, scope)?,
            resource: resource.clone().unbind(),
            scope: scope.clone().unbind(),
            sinks,
            default_attributes: default_attributes.filter(|defaults| !defaults.is_empty()).map(Bound::unbind),
            default_entity,
            is_enabled,
            metrics,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.sampler.visit(&visit)?;
        self.ids.visit(&visit)?;
        visit.call(&self.sinks)?;
        visit.call(&self.metrics)?;
        visit.call(&self.span_class)
    }
}
