//! What `start_as_current_span` gives: a context manager that starts a span and makes it the current one, and a decorator.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{exceptions::PyException, intern, prelude::*};

use super::{
    TracerCore,
    api::Api,
    span::{self, SpanCore},
    start::{self, Request, now},
};
use crate::log;

/// Starts a span where it is entered, makes it the current one, ends it where it is left.
///
/// As a decorator it does so at each call, of plain functions and of coroutine functions.
#[pyclass(module = "scouter._scouter", frozen)]
pub(crate) struct CurrentSpan {
    pub(super) tracer: Py<TracerCore>,
    pub(super) name: Py<PyAny>,
    pub(super) context: Option<Py<PyAny>>,
    pub(super) kind: Option<Py<PyAny>>,
    pub(super) attributes: Option<Py<PyAny>>,
    pub(super) links: Option<Py<PyAny>>,
    pub(super) start_time: Option<Py<PyAny>>,
    pub(super) record_exception: bool,
    pub(super) set_status_on_exception: bool,
    pub(super) end_on_exit: bool,
    pub(super) entered: Mutex<Option<Entered>>,
}

pub(super) struct Entered {
    span: Py<PyAny>,
    token: Option<Py<PyAny>>,
}

impl CurrentSpan {
    fn lock(&self) -> MutexGuard<'_, Option<Entered>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn enter<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let api = Api::get(py)?;
        let current = api.current_context(py)?;
        let setup = self.tracer.get().setup(py)?;
        let request = Request {
            name: self.name.bind(py),
            context: self.context.as_ref().map(|context| context.bind(py)),
            kind: self.kind.as_ref().map(|kind| kind.bind(py)),
            attributes: self.attributes.as_ref().map(|attributes| attributes.bind(py)),
            links: self.links.as_ref().map(|links| links.bind(py)),
            start_time: self.start_time.as_ref().map(|time| time.bind(py)),
            record_exception: self.record_exception,
            set_status_on_exception: self.set_status_on_exception,
        };
        let span = start::start(&setup, &request, Some(&current))?;
        let token = api.attach_span(&current, &span)?;
        Ok((span, token))
    }

    fn leave(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(Entered { span, token }) = self.lock().take() else { return Ok(()) };
        let api = Api::get(py)?;
        if let Some(token) = token {
            api.detach(py, token.bind(py));
        }
        let span = span.bind(py);
        let ours = span.cast::<SpanCore>().ok();
        // What is no `Exception`, as the end of a generator, is no error.
        if !exception.is_none() && exception.is_instance_of::<PyException>() {
            let is_recording = match ours {
                Some(ours) => ours.get().is_live(),
                None => span.call_method0(intern!(py, "is_recording"))?.is_truthy()?,
            };
            if is_recording {
                span::note_exception(span, exception, self.record_exception, self.set_status_on_exception, false);
            }
        }
        if self.end_on_exit {
            match ours {
                Some(ours) => span::end(ours, now()),
                None => span.call_method0(intern!(py, "end")).map(drop)?,
            }
        }
        Ok(())
    }
}

#[pymethods]
impl CurrentSpan {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (span, token) = match self.enter(py) {
            Ok((span, token)) => (span, Some(token)),
            Err(error) => {
                log::warn(py, "a span could not be started", Some(&error));
                (Api::get(py)?.invalid_span(py).clone(), None)
            }
        };
        let entered = Entered { span: span.clone().unbind(), token: token.map(Bound::unbind) };
        let former = self.lock().replace(entered);
        drop(former);
        Ok(span)
    }

    #[pyo3(signature = (exc_type, exc_val, exc_tb))]
    fn __exit__(&self, py: Python<'_>, exc_type: &Bound<'_, PyAny>, exc_val: &Bound<'_, PyAny>, exc_tb: &Bound<'_, PyAny>) -> bool {
        let (_, _) = (exc_type, exc_tb);
        if let Err(error) = self.leave(py, exc_val) {
            log::warn(py, "a span could not be ended", Some(&error));
        }
        false
    }

    /// The same, for ``async with``.
    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        decorator(slf.py())?.call_method1("enter_async", (slf,))
    }

    #[pyo3(signature = (exc_type, exc_val, exc_tb))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exc_type: &Bound<'py, PyAny>,
        exc_val: &Bound<'py, PyAny>,
        exc_tb: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        decorator(slf.py())?.call_method1("exit_async", (slf, exc_type, exc_val, exc_tb))
    }

    /// Decorates a function or a coroutine function.
    fn __call__<'py>(slf: &Bound<'py, Self>, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        decorator(slf.py())?.call_method1("decorated", (slf, function))
    }

    /// The same once more: a decorated function enters a fresh one at each call.
    fn _recreate_cm(&self, py: Python<'_>) -> Self {
        let clone = |part: &Option<Py<PyAny>>| part.as_ref().map(|part| part.clone_ref(py));
        Self {
            tracer: self.tracer.clone_ref(py),
            name: self.name.clone_ref(py),
            context: clone(&self.context),
            kind: clone(&self.kind),
            attributes: clone(&self.attributes),
            links: clone(&self.links),
            start_time: clone(&self.start_time),
            record_exception: self.record_exception,
            set_status_on_exception: self.set_status_on_exception,
            end_on_exit: self.end_on_exit,
            entered: Mutex::new(None),
        }
    }
}

fn decorator(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("scouter.tracing._decorator")
}
