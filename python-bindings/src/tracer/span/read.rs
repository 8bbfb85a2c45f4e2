//! What can be read of a span: the properties of OpenTelemetry's `ReadableSpan`.

use pyo3::{
    prelude::*,
    types::{PyDict, PyList, PyMappingProxy, PyTuple},
};

use super::SpanCore;
use crate::tracer::{api::Api, attributes::Attributes, start::parent_context};

fn view<'py>(py: Python<'py>, attributes: Option<Attributes>) -> Bound<'py, PyMappingProxy> {
    let entries = attributes.and_then(|attributes| attributes.entries);
    let entries = entries.map_or_else(|| PyDict::new(py), |entries| entries.into_bound(py));
    PyMappingProxy::new(py, entries.as_mapping())
}

#[pymethods]
impl SpanCore {
    /// The span's name.
    #[getter]
    fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.read(|body| body.name.as_ref().map(|name| name.clone_ref(py))).flatten()
    }

    /// The span's context, OpenTelemetry's object.
    #[getter(context)]
    fn read_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context(py)
    }

    /// The trace's id in 32 hexadecimal digits.
    #[getter]
    fn trace_id(&self) -> String {
        format!("{:032x}", self.head.trace_id)
    }

    /// The span's id in 16 hexadecimal digits.
    #[getter]
    fn span_id(&self) -> String {
        format!("{:016x}", self.head.span_id)
    }

    /// The context of the parent, None for a root span.
    #[getter]
    fn parent<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let api = Api::get(py)?;
        self.head.parent.as_ref().map(|parent| parent_context(api, py, parent)).transpose()
    }

    /// OpenTelemetry's `SpanKind`.
    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(Api::get(py)?.kind(py, self.head.kind))
    }

    /// Nanoseconds since 1970.
    #[getter]
    fn start_time(&self) -> u64 {
        self.head.start_unix_nano
    }

    /// Nanoseconds since 1970; None before the end.
    #[getter]
    fn end_time(&self) -> Option<u64> {
        self.ended.get().map(|ended| ended.unix_nano)
    }

    /// The attributes, read-only.
    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> Bound<'py, PyMappingProxy> {
        view(py, self.read(|body| body.attributes.clone_ref(py)))
    }

    /// Attributes left out because of a limit.
    #[getter]
    fn dropped_attributes(&self) -> u32 {
        self.read(|body| body.attributes.dropped).unwrap_or(0)
    }

    /// Events left out because of a limit.
    #[getter]
    fn dropped_events(&self) -> u32 {
        self.read(|body| body.dropped_events).unwrap_or(0)
    }

    /// Links left out because of a limit.
    #[getter]
    fn dropped_links(&self) -> u32 {
        self.read(|body| body.links.dropped).unwrap_or(0)
    }

    /// OpenTelemetry's `Status`.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.read(|body| body.status.as_ref().map(|status| status.object.clone_ref(py))).flatten();
        match status {
            Some(status) => Ok(status.into_bound(py)),
            None => Ok(Api::get(py)?.status_unset.bind(py).clone()),
        }
    }

    /// What made the span.
    #[getter]
    fn resource(&self, py: Python<'_>) -> Py<PyAny> {
        self.setup().resource.clone_ref(py)
    }

    /// The scope of the tracer that made the span.
    #[getter]
    fn instrumentation_scope(&self, py: Python<'_>) -> Py<PyAny> {
        self.setup().scope.clone_ref(py)
    }

    /// The events: name, attributes, attributes left out, nanoseconds since 1970.
    fn _event_parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = self.read(|body| {
            let part = |event: &super::Event| (event.name.clone_ref(py), event.attributes.clone_ref(py), event.unix_nano);
            body.events.iter().map(part).collect::<Vec<_>>()
        });
        let parts = events.unwrap_or_default().into_iter().map(|(name, attributes, time)| {
            let dropped = attributes.dropped;
            (name, view(py, Some(attributes)), dropped, time).into_pyobject(py)
        });
        PyList::new(py, parts.collect::<Result<Vec<Bound<'py, PyTuple>>, _>>()?)
    }

    /// The links: the original object or None, context, attributes, attributes left out.
    fn _link_parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let links = self.read(|body| body.links.clone_ref(py)).unwrap_or_default();
        let parts = links.into_iter().map(|link| {
            let dropped = link.attributes.dropped;
            (link.original, link.context, view(py, Some(link.attributes)), dropped).into_pyobject(py)
        });
        PyList::new(py, parts.collect::<Result<Vec<Bound<'py, PyTuple>>, _>>()?)
    }
}
