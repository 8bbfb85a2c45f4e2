//! OpenTelemetry's tracer in Rust: a span costs its thread the making, the encoding and the queueing, and no Python code.
//!
//! `scouter.tracing.ScouterTracer` and `ScouterSpan` are these classes and OpenTelemetry's: first ours in the order of resolution, so that
//! their methods are Rust, then the SDK's, so that `isinstance` holds. Terms: a *setup* is what the provider decides for the tracers of one
//! scope and exchanges as a whole; *natives* are processors of ours, *others* those written in Python, for which alone a Python view of a span
//! is made.
//!
//! Invariants: no lock is held while Python code runs; after construction nothing here raises into the traced program; the pipeline keeps bytes
//! and no Python object.

mod api;
mod attributes;
mod capi;
mod current;
mod links;
mod sampling;
mod setup;
mod sinks;
mod span;
mod start;

use std::sync::{Mutex, PoisonError};

use pyo3::{
    exceptions::PyRuntimeError,
    gc::{PyTraverseError, PyVisit},
    prelude::*,
    types::{PyDict, PyTuple},
};

use self::{api::Api, start::Request};
pub(crate) use self::{current::CurrentSpan, setup::TracerSetup, sinks::SpanSinks, span::SpanCore};
use crate::log;

/// The Rust half of `scouter.tracing.ScouterTracer`.
#[pyclass(module = "scouter._scouter", subclass, frozen)]
pub(crate) struct TracerCore {
    setup: Mutex<Option<Py<TracerSetup>>>,
}

impl TracerCore {
    #[inline]
    fn setup<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, TracerSetup>> {
        let setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        match &*setup {
            Some(setup) => Ok(setup.bind(py).clone()),
            None => Err(PyRuntimeError::new_err("a tracer that no provider has set up")),
        }
    }
}

#[pymethods]
impl TracerCore {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self { setup: Mutex::new(None) }
    }

    fn _configure(&self, setup: Py<TracerSetup>) {
        let former = self.setup.lock().unwrap_or_else(PoisonError::into_inner).replace(setup);
        drop(former);
    }

    /// Starts a span, which is not made the current one.
    #[pyo3(signature = (
        name, context=None, kind=None, attributes=None, links=None, start_time=None, record_exception=true, set_status_on_exception=true,
        **scouter
    ))]
    #[expect(clippy::too_many_arguments, reason = "OpenTelemetry's arguments")]
    fn start_span<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        kind: Option<&Bound<'py, PyAny>>,
        attributes: Option<&Bound<'py, PyAny>>,
        links: Option<&Bound<'py, PyAny>>,
        start_time: Option<&Bound<'py, PyAny>>,
        record_exception: bool,
        set_status_on_exception: bool,
        scouter: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(scouter) = scouter {
            let arguments = (slf, name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception);
            return arguments_of_scouter(py)?.getattr("start_span")?.call(arguments, Some(scouter));
        }
        let request = Request { name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception };
        let started = slf.get().setup(py).and_then(|setup| start::start(&setup, &request, None));
        started.or_else(|error| {
            log::warn(py, "a span could not be started", Some(&error));
            Ok(Api::get(py)?.invalid_span(py).clone())
        })
    }

    /// Gives a context manager and decorator that starts a span and makes it the current one.
    #[pyo3(signature = (
        name, context=None, kind=None, attributes=None, links=None, start_time=None, record_exception=true, set_status_on_exception=true,
        end_on_exit=true, **scouter
    ))]
    #[expect(clippy::too_many_arguments, reason = "OpenTelemetry's arguments")]
    fn start_as_current_span<'py>(
        slf: &Bound<'py, Self>,
        name: Py<PyAny>,
        context: Option<Py<PyAny>>,
        kind: Option<Py<PyAny>>,
        attributes: Option<Py<PyAny>>,
        links: Option<Py<PyAny>>,
        start_time: Option<Py<PyAny>>,
        record_exception: bool,
        set_status_on_exception: bool,
        end_on_exit: bool,
        scouter: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(scouter) = scouter {
            let arguments =
                (slf, name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception, end_on_exit);
            return arguments_of_scouter(py)?.getattr("start_as_current_span")?.call(arguments, Some(scouter));
        }
        let manager = CurrentSpan {
            tracer: slf.clone().unbind(),
            name,
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
            end_on_exit,
            entered: Mutex::new(None),
        };
        Ok(Bound::new(py, manager)?.into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs with the interpreter's lock; who holds this one does not run Python code.
        match self.setup.try_lock() {
            Ok(setup) => visit.call(&*setup),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let former = self.setup.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(former);
    }
}

/// What understands the arguments that Scouter's tracer takes beyond OpenTelemetry's: baggage, tags, headers and the like.
fn arguments_of_scouter(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("scouter.tracing._arguments")
}
