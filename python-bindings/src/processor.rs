//! The Rust half of the span processor: encode where the span ends, queue, and be gone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyDict};
use scouter_exporter::{Pipeline, QueueConfig, encode::EncodedEnvelope};

use crate::{
    envelope::Envelopes,
    error::Faults,
    log,
    otlp::{OtlpTarget, Share},
    report,
    scratch::Scratch,
    span::SpanView,
    transport, wait,
};

/// A span waits this long for others, unless the environment or the caller says otherwise.
const DEFAULT_SCHEDULE_DELAY: Duration = Duration::from_millis(500);

/// At most one message about dropped spans in this time.
const WARN_INTERVAL_SECS: u64 = 30;

/// The Rust half of `scouter.tracing.GrpcSpanProcessor`.
#[pyclass(module = "scouter._scouter", subclass, frozen)]
pub(crate) struct SpanProcessor {
    pipeline: Pipeline,
    envelopes: Envelopes,
    default_entity_key: Option<String>,
    share: Share,
    /// Spans that could not be read. They never reach the pipeline's own account.
    unreadable: AtomicU64,
    is_shut_down: AtomicBool,
    built_at: Instant,
    /// When it was last said that spans are dropped, in seconds after `built_at` plus the interval; 0: never.
    told_at: AtomicU64,
}

impl SpanProcessor {
    fn push(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        let view = SpanView::new(span)?;
        if !view.is_sampled()? {
            return Ok(());
        }
        let envelope = self.envelopes.get(&view.envelope_parts()?)?;
        let mut scratch = Scratch::take();
        let written = view.write(self.default_entity_key.as_deref(), &scratch.arena, &mut scratch.bytes);
        if written.is_ok() {
            self.push_encoded(span.py(), &envelope, &scratch.bytes);
        }
        scratch.give_back();
        written
    }

    /// Queues an encoded span.
    #[inline]
    pub(crate) fn push_encoded(&self, py: Python<'_>, envelope: &Arc<EncodedEnvelope>, span: &[u8]) {
        if !self.share.takes(span) {
            return;
        }
        let is_queued = self.pipeline.try_push(envelope, span);
        // After a shutdown the report has said it all.
        if !is_queued && !self.is_shut_down() {
            self.note_dropped(py);
        }
    }

    /// Counts a span that was lost here, and says so the first time.
    pub(crate) fn note_unreadable(&self, py: Python<'_>, error: &PyErr) {
        if self.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn(py, "a span could not be read and was dropped; the counter `dropped_unreadable` has the total", Some(error));
        }
    }

    /// Says that spans are dropped, once in a while.
    fn note_dropped(&self, py: Python<'_>) {
        let now = self.built_at.elapsed().as_secs() + WARN_INTERVAL_SECS;
        let told = self.told_at.load(Ordering::Relaxed);
        let is_due = told == 0 || now >= told + WARN_INTERVAL_SECS;
        if !is_due || self.told_at.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let stats = self.pipeline.stats();
        let reason = stats.last_error.map_or(String::new(), |error| format!("; last error: {error}"));
        log::warn(py, &format!("spans dropped so far: {}{reason}", stats.spans.dropped.total()), None);
    }
}

#[pymethods]
impl SpanProcessor {
    #[new]
    #[pyo3(signature = (
        transport_config=None, *, max_queue_size=None, scheduled_delay_ms=None, max_export_batch_size=None, max_queue_bytes=None,
        default_entity_key=None, otlp=None, sample_ratio=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        transport_config: Option<&Bound<'_, PyAny>>,
        max_queue_size: Option<usize>,
        scheduled_delay_ms: Option<u64>,
        max_export_batch_size: Option<usize>,
        max_queue_bytes: Option<usize>,
        default_entity_key: Option<String>,
        otlp: Option<PyRef<'_, OtlpTarget>>,
        sample_ratio: Option<f64>,
    ) -> PyResult<Self> {
        let mut faults = Faults::default();
        let mut queue = QueueConfig::from_env().unwrap_or_else(|error| {
            faults.extend(error.faults);
            QueueConfig::default()
        });
        if std::env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none_or(|delay| delay.is_empty()) {
            queue.schedule_delay = DEFAULT_SCHEDULE_DELAY;
        }
        queue.max_spans = max_queue_size.unwrap_or(queue.max_spans);
        queue.schedule_delay = scheduled_delay_ms.map_or(queue.schedule_delay, Duration::from_millis);
        // A smaller queue alone is no fault: the batch follows.
        queue.max_batch_spans = max_export_batch_size.unwrap_or_else(|| queue.max_batch_spans.min(queue.max_spans));
        queue.max_bytes = max_queue_bytes.unwrap_or(queue.max_bytes);
        if let Err(error) = queue.validate() {
            faults.extend(error.faults);
        }
        faults.check("BatchConfig")?;
        let share = Share::new(sample_ratio)?;
        let pipeline = match otlp {
            Some(otlp) => otlp.pipeline(queue)?,
            None => transport::pipeline(transport_config, queue)?,
        };
        Ok(Self {
            pipeline,
            envelopes: Envelopes::default(),
            default_entity_key,
            share,
            unreadable: AtomicU64::new(0),
            is_shut_down: AtomicBool::new(false),
            built_at: Instant::now(),
            told_at: AtomicU64::new(0),
        })
    }

    /// Does nothing: a span is of interest when it ends.
    #[pyo3(signature = (span, parent_context=None))]
    #[expect(clippy::unused_self, unused_variables, reason = "the interface of the SDK")]
    fn on_start(&self, span: &Bound<'_, PyAny>, parent_context: Option<&Bound<'_, PyAny>>) {}

    /// Encodes and queues an ended span. Never raises and never waits.
    fn on_end(&self, span: &Bound<'_, PyAny>) {
        let pushed =
            catch_unwind(AssertUnwindSafe(|| self.push(span))).unwrap_or_else(|_| Err(PyRuntimeError::new_err("the encoder panicked")));
        if let Err(error) = pushed {
            self.note_unreadable(span.py(), &error);
        }
    }

    /// Waits until every span that ended before is stored by the server.
    ///
    /// Args:
    ///     timeout_millis: The longest it waits.
    ///
    /// Returns:
    ///     False when time ran out, or a span was lost meanwhile.
    #[pyo3(signature = (timeout_millis=30000))]
    fn force_flush(&self, py: Python<'_>, timeout_millis: i64) -> PyResult<bool> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Ok(self.pipeline.stats().spans.pending() == 0);
        }
        let timeout = Duration::from_millis(u64::try_from(timeout_millis).unwrap_or(0));
        let pipeline = self.pipeline.clone();
        let flushed = wait::run(py, move || pipeline.flush(timeout))?;
        if let Err(error) = &flushed {
            log::warn(py, &error.to_string(), None);
        }
        Ok(flushed.is_ok())
    }

    /// Delivers what is queued within five seconds and stops.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        self.shutdown_within(py, 5.0).map(drop)
    }

    /// Delivers what is queued and stops. Spans that end later are dropped and counted.
    ///
    /// Args:
    ///     timeout_secs: The longest it waits.
    ///
    /// Returns:
    ///     ``delivered``, ``undelivered`` and ``last_error``, over the life of the processor.
    fn shutdown_within<'py>(&self, py: Python<'py>, timeout_secs: f64) -> PyResult<Bound<'py, PyDict>> {
        self.is_shut_down.store(true, Ordering::Release);
        let timeout = wait::seconds(timeout_secs);
        let pipeline = self.pipeline.clone();
        let report = wait::run(py, move || pipeline.shutdown(timeout))?;
        report::shutdown(py, &report.stats, self.unreadable.load(Ordering::Relaxed))
    }

    /// Whether it was shut down.
    #[getter]
    fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// What became of the spans, by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        report::stats(py, &self.pipeline.stats(), self.unreadable.load(Ordering::Relaxed))
    }

    fn _after_fork_in_child(&self) {
        self.pipeline.after_fork_in_child();
        self.unreadable.store(0, Ordering::Relaxed);
        if self.is_shut_down() {
            self.pipeline.shutdown(Duration::ZERO);
        }
    }
}

/// Flushes processors at the same time, so that one whose server is gone takes nothing from the others' time.
///
/// Args:
///     processors: Processors of ours.
///     timeout_secs: The longest it waits.
///
/// Returns:
///     For each whether every span that ended before is stored.
#[pyfunction]
pub(crate) fn flush_together(py: Python<'_>, processors: Vec<Py<SpanProcessor>>, timeout_secs: f64) -> PyResult<Vec<bool>> {
    let timeout = wait::seconds(timeout_secs);
    let pipelines = processors.iter().map(|processor| processor.get().pipeline.clone()).collect();
    let flushed = together(py, pipelines, move |pipeline| pipeline.flush(timeout))?;
    for error in flushed.iter().filter_map(|flushed| flushed.as_ref().err()) {
        log::warn(py, &error.to_string(), None);
    }
    Ok(flushed.iter().map(Result::is_ok).collect())
}

/// Shuts processors down at the same time.
///
/// Args:
///     processors: Processors of ours.
///     timeout_secs: The longest it waits.
///
/// Returns:
///     For each what `SpanProcessor.shutdown_within` gives.
#[pyfunction]
pub(crate) fn shut_down_together<'py>(
    py: Python<'py>,
    processors: Vec<Py<SpanProcessor>>,
    timeout_secs: f64,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let timeout = wait::seconds(timeout_secs);
    let pipelines = processors.iter().map(|processor| processor.get().pipeline.clone()).collect();
    processors.iter().for_each(|processor| processor.get().is_shut_down.store(true, Ordering::Release));
    let reports = together(py, pipelines, move |pipeline| pipeline.shutdown(timeout))?;
    let told = reports.iter().zip(&processors);
    told.map(|(told, processor)| report::shutdown(py, &told.stats, processor.get().unreadable.load(Ordering::Relaxed))).collect()
}

/// Does the same with all of them, each on a thread of its own where there is more than one.
fn together<T: Send + 'static>(
    py: Python<'_>,
    pipelines: Vec<Pipeline>,
    work: impl Fn(&Pipeline) -> T + Send + Sync + Clone + 'static,
) -> PyResult<Vec<T>> {
    wait::run(py, move || {
        let Some((last, others)) = pipelines.split_last() else { return Vec::new() };
        let work = &work;
        thread::scope(|scope| {
            let spawned: Vec<_> = others.iter().map(|one| (one, thread::Builder::new().spawn_scoped(scope, move || work(one)))).collect();
            let of_last = work(last);
            let of_others =
                spawned.into_iter().map(|(one, thread)| thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| work(one)));
            of_others.collect::<Vec<T>>().into_iter().chain([of_last]).collect()
        })
    })
}
