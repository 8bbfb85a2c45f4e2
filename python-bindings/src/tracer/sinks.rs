//! Where the spans of one provider go. Processors come and go while spans live: a span goes where they are when it ends.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{
    gc::{PyTraverseError, PyVisit},
    intern,
    prelude::*,
};

use crate::processor::SpanProcessor;

#[derive(Default)]
pub(super) struct Sinks {
    /// Processors of ours: a span is encoded once for all of them.
    pub(super) natives: Vec<Py<SpanProcessor>>,
    /// Processors written in Python, in order.
    pub(super) others: Vec<Py<PyAny>>,
}

/// Where the spans of one provider go.
#[pyclass(module = "scouter._scouter", frozen)]
#[derive(Default)]
pub(crate) struct SpanSinks {
    current: Mutex<Arc<Sinks>>,
}

impl SpanSinks {
    #[inline]
    pub(super) fn current(&self) -> Arc<Sinks> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, sinks: Sinks) {
        let former = std::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), Arc::new(sinks));
        drop(former);
    }
}

#[pymethods]
impl SpanSinks {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Puts these processors in place of the former ones.
    fn exchange(&self, py: Python<'_>, processors: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut sinks = Sinks::default();
        let native_end = py.get_type::<SpanProcessor>().getattr(intern!(py, "on_end"))?;
        for processor in processors.try_iter()? {
            let processor = processor?;
            match processor.cast::<SpanProcessor>() {
                // One that overrides `on_end` wants to see the spans.
                Ok(native) if native.get_type().getattr(intern!(py, "on_end"))?.is(&native_end) => {
                    sinks.natives.push(native.clone().unbind());
                }
                _ => sinks.others.push(processor.unbind()),
            }
        }
        self.replace(sinks);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Nobody holds this lock while Python code, and so the collector, runs.
        let Ok(sinks) = self.current.try_lock() else { return Ok(()) };
        sinks.natives.iter().try_for_each(|native| visit.call(native))?;
        sinks.others.iter().try_for_each(|other| visit.call(other))
    }

    fn __clear__(&self) {
        self.replace(Sinks::default());
    }
}
