//! The Rust half of the span exporter: a batch in, its outcome out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bumpalo::Bump;
use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyBytes, PyDict},
};
use scouter_exporter::{Pipeline, QueueConfig, encode::EncodedBatch};

use crate::{
    envelope::Envelopes,
    error::export_error,
    log,
    otlp::{OtlpTarget, Share},
    report,
    span::SpanView,
    transport, wait,
};

/// The Rust half of `scouter.tracing.GrpcSpanExporter`.
#[pyclass(module = "scouter._scouter", subclass, frozen)]
pub(crate) struct SpanExporter {
    pipeline: Pipeline,
    envelopes: Envelopes,
    share: Share,
    is_shut_down: AtomicBool,
    /// Spans that could not be read, and so were never in the pipeline.
    unreadable: AtomicU64,
}

#[pymethods]
impl SpanExporter {
    #[new]
    #[pyo3(signature = (transport_config=None, *, otlp=None, sample_ratio=None))]
    fn new(transport_config: Option<&Bound<'_, PyAny>>, otlp: Option<PyRef<'_, OtlpTarget>>, sample_ratio: Option<f64>) -> PyResult<Self> {
        let share = Share::new(sample_ratio)?;
        let pipeline = match otlp {
            Some(otlp) => otlp.pipeline(QueueConfig::default())?,
            None => transport::pipeline(transport_config, QueueConfig::default())?,
        };
        Ok(Self { pipeline, envelopes: Envelopes::default(), share, is_shut_down: AtomicBool::new(false), unreadable: AtomicU64::new(0) })
    }

    /// Encodes spans, sends them and waits for the server to have stored them.
    ///
    /// Args:
    ///     spans: Ended spans.
    ///
    /// A span that cannot be read is left out, logged and counted as `dropped_unreadable`; the others are sent.
    ///
    /// Raises:
    ///     ExportError: If not every one is stored; by kind, see `scouter.errors`.
    ///     The error of the first span that could not be read, after the others were stored.
    fn send(&self, py: Python<'_>, spans: &Bound<'_, PyAny>) -> PyResult<()> {
        let send = || {
            let mut unreadable = None;
            let batch = encode(&self.envelopes, &self.share, spans, |error| {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
                log::warn(py, "a span could not be read and was dropped; the counter `dropped_unreadable` has the total", Some(&error));
                unreadable.get_or_insert(error);
                Ok(())
            })?;
            wait::block_on(py, self.pipeline.send(batch))?.map_err(|error| export_error(&error))?;
            unreadable.map_or(Ok(()), Err)
        };
        // A panic would come out as an exception that `except Exception` lets through.
        catch_unwind(AssertUnwindSafe(send)).unwrap_or_else(|_| Err(PyRuntimeError::new_err("the exporter panicked")))
    }

    /// Waits for exports that run on other threads.
    #[pyo3(signature = (timeout_millis=30000))]
    fn force_flush(&self, py: Python<'_>, timeout_millis: i64) -> PyResult<bool> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Ok(true);
        }
        let timeout = Duration::from_millis(u64::try_from(timeout_millis).unwrap_or(0));
        let pipeline = self.pipeline.clone();
        wait::run(py, move || pipeline.flush(timeout).is_ok())
    }

    /// Closes the connection, waiting for running exports.
    #[pyo3(signature = (timeout_millis=5000.0))]
    fn shutdown(&self, py: Python<'_>, timeout_millis: f64) -> PyResult<()> {
        self.is_shut_down.store(true, Ordering::Release);
        let timeout = wait::seconds(timeout_millis / 1000.0);
        let pipeline = self.pipeline.clone();
        wait::run(py, move || pipeline.shutdown(timeout)).map(drop)
    }

    /// What became of the spans, by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        report::stats(py, &self.pipeline.stats(), self.unreadable.load(Ordering::Relaxed))
    }

    fn _after_fork_in_child(&self) {
        self.pipeline.after_fork_in_child();
        self.unreadable.store(0, Ordering::Relaxed);
        if self.is_shut_down.load(Ordering::Acquire) {
            self.pipeline.shutdown(Duration::ZERO);
        }
    }
}

/// Encodes spans as they travel: the protobuf bytes of one Scouter `InsertMessageRequest`, whose field 2 holds OTLP's
/// `ResourceSpans`.
///
/// Args:
///     spans: Ended spans.
///
/// Returns:
///     The request's bytes; empty without spans.
#[pyfunction]
pub(crate) fn encode_spans<'py>(py: Python<'py>, spans: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let batch = encode(&Envelopes::default(), &Share::new(None)?, spans, Err)?;
    let (requests, _) = batch.requests(usize::MAX);
    Ok(PyBytes::new(py, requests.first().map_or(&[], |request| &request.body)))
}

/// Encodes all spans that can be read; `unreadable` says what becomes of the others' errors.
fn encode(
    envelopes: &Envelopes,
    share: &Share,
    spans: &Bound<'_, PyAny>,
    mut unreadable: impl FnMut(PyErr) -> PyResult<()>,
) -> PyResult<EncodedBatch> {
    let mut batch = EncodedBatch::default();
    let mut bytes = Vec::new();
    let mut arena = Bump::new();
    for span in spans.try_iter()? {
        let span = span?;
        bytes.clear();
        let written = SpanView::new(&span).and_then(|view| {
            let envelope = envelopes.get(&view.envelope_parts()?)?;
            view.write(None, &arena, &mut bytes)?;
            Ok(envelope)
        });
        match written {
            Ok(envelope) if share.takes(&bytes) => batch.push(&envelope, &bytes),
            Ok(_) => {}
            Err(error) => unreadable(error)?,
        }
        arena.reset();
    }
    Ok(batch)
}
