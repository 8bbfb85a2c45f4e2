//! Queues of monitoring records. What is Python's business, such as the end of the process, is in `scouter.queue`.

mod item;
pub(crate) mod json;
mod report;
mod row;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
    sync::PyOnceLock,
    types::PyDict,
};
use scouter_exporter::queue::{self as rust, DriftType, ItemDrop, Profile, RecordQueueConfig};

use self::row::Row;
use crate::{
    error::{Faults, config_error},
    log, transport, wait,
};

pub(crate) use item::{EntityType, EvalRecord, Feature, Features, Metric, Metrics};

/// Evaluation records that a capture keeps.
const MAX_CAPTURED: usize = 20_000;

/// The Rust half of `scouter.ScouterQueue`.
#[pyclass(module = "scouter._scouter", frozen)]
pub(crate) struct RecordQueue {
    queues: rust::RecordQueue,
}

/// The queue of one profile.
#[pyclass(module = "scouter.queue", frozen)]
pub(crate) struct Queue {
    queue: rust::Queue,
    /// A bit for each reason to drop an item that was told.
    told: AtomicU32,
    captures: AtomicBool,
    captured: Mutex<Vec<Py<EvalRecord>>>,
}

#[pymethods]
impl RecordQueue {
    #[staticmethod]
    #[pyo3(signature = (paths, transport_config=None))]
    fn from_paths(paths: Vec<(String, PathBuf)>, transport_config: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::new(paths.into_iter().map(|(alias, path)| (alias, Profile::from_path(path))), transport_config)
    }

    #[staticmethod]
    #[pyo3(signature = (profiles, transport_config=None))]
    fn from_json(profiles: Vec<(String, String)>, transport_config: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::new(profiles.into_iter().map(|(alias, json)| (alias, Profile::from_json(json))), transport_config)
    }

    /// Every queue with its alias, in the order given.
    fn queues(&self) -> Vec<(String, Queue)> {
        self.queues.queues().map(|queue| (queue.alias().to_owned(), Queue::new(queue))).collect()
    }

    /// Publishes and delivers everything inserted before.
    fn flush(&self, py: Python<'_>, timeout_secs: f64) -> PyResult<bool> {
        let (queues, timeout) = (self.queues.clone(), wait::seconds(timeout_secs));
        wait::run(py, move || queues.flush(timeout).is_ok())
    }

    /// Publishes and delivers what is left, and stops.
    fn shutdown_within<'py>(&self, py: Python<'py>, timeout_secs: f64) -> PyResult<Bound<'py, PyDict>> {
        let (queues, timeout) = (self.queues.clone(), wait::seconds(timeout_secs));
        let outcome = wait::run(py, move || queues.shutdown(timeout))?;
        report::shutdown(py, &outcome)
    }

    /// What became of items and records, by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        report::stats(py, &self.queues.stats())
    }

    fn set_sample_ratio(&self, ratio: f64) {
        self.queues.queues().for_each(|queue| queue.set_sample_ratio(ratio));
    }

    fn _after_fork_in_child(&self) {
        self.queues.after_fork_in_child();
    }
}

impl RecordQueue {
    fn new(
        profiles: impl Iterator<Item = (String, Result<Profile, rust::ProfileError>)>,
        transport_config: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let config = transport::config(transport_config)?;
        let mut faults = Faults::default();
        let mut good = Vec::new();
        for (alias, profile) in profiles {
            match profile {
                Ok(profile) => good.push((alias, profile)),
                Err(error) => faults.add(format!("queue `{alias}`: {error}")),
            }
        }
        let settings = RecordQueueConfig::from_env().unwrap_or_else(|error| {
            faults.extend(error.faults);
            RecordQueueConfig::default()
        });
        faults.check("ScouterQueue")?;
        let queues =
            rust::RecordQueue::new(good, config, settings).map_err(|error| config_error(format!("invalid ScouterQueue: {error}")))?;
        Ok(Self { queues })
    }
}

#[pymethods]
impl Queue {
    /// Counts an item. Never raises and never waits: what cannot be used is counted, and logged the first time.
    ///
    /// Args:
    ///     item: `Features`, `Metrics` or an `EvalRecord`, as the profile asks; or a mapping, a pydantic model, a dataclass, or a row of
    ///         pandas to make one of.
    fn insert(&self, item: &Bound<'_, PyAny>) {
        match catch_unwind(AssertUnwindSafe(|| self.take(item))) {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => self.note(item, trouble),
            Err(_) => self.note(item, Trouble::Unreadable(PyRuntimeError::new_err("reading the item panicked"))),
        }
    }

    /// ``space/name/vVERSION/type`` of the profile.
    #[getter]
    fn identifier(&self) -> String {
        self.queue.profile().identifier()
    }

    /// The profile's id.
    #[getter]
    fn entity_uid(&self) -> &str {
        self.queue.profile().uid()
    }

    /// Keeps the evaluation records that are inserted from now on, beside sending them.
    fn enable_capture(&self) {
        self.captures.store(true, Ordering::Release);
    }

    /// Keeps no more records; those kept can still be drained.
    fn disable_capture(&self) {
        self.captures.store(false, Ordering::Release);
    }

    /// Gives the records kept, and forgets them.
    fn drain(&self) -> Vec<Py<EvalRecord>> {
        std::mem::take(&mut *self.captured.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn __repr__(&self) -> String {
        format!("Queue(identifier={:?}, entity_uid={:?})", self.identifier(), self.entity_uid())
    }
}

/// Why an item was dropped.
enum Trouble {
    /// It is in the account.
    Dropped(ItemDrop),
    /// It could not be read, and is not in the account yet.
    Unreadable(PyErr),
}

impl From<rust::InsertError> for Trouble {
    fn from(error: rust::InsertError) -> Self {
        Self::Dropped(error.reason)
    }
}

impl From<PyErr> for Trouble {
    fn from(error: PyErr) -> Self {
        Self::Unreadable(error)
    }
}

impl Queue {
    fn new(queue: rust::Queue) -> Self {
        Self { queue, told: AtomicU32::new(0), captures: AtomicBool::new(false), captured: Mutex::default() }
    }

    /// No lock is held while Python code runs: what the item's own code gives is collected first.
    fn take(&self, item: &Bound<'_, PyAny>) -> Result<(), Trouble> {
        if let Ok(features) = item.cast::<Features>() {
            return Ok(self.queue.insert(&features.get().features)?);
        }
        if let Ok(metrics) = item.cast::<Metrics>() {
            return Ok(self.queue.insert(&metrics.get().metrics)?);
        }
        if let Ok(record) = item.cast::<EvalRecord>() {
            return self.take_record(record);
        }
        match self.queue.profile().drift_type() {
            DriftType::GenAi | DriftType::Agent => {
                let record = Bound::new(item.py(), EvalRecord::of_context(item)?)?;
                self.take_record(&record)
            }
            DriftType::Spc | DriftType::Psi => {
                if !item.is_instance_of::<PyDict>()
                    && let Some(features) = row::to_features(item)?
                {
                    return Ok(self.queue.insert(&features.get().features)?);
                }
                Row::of(item)?.lend(|row| self.queue.insert_features(row)).map_err(Trouble::from)
            }
            DriftType::Custom => Row::of(item)?.lend(|row| self.queue.insert_metrics(row)).map_err(Trouble::from),
        }
    }

    fn take_record(&self, record: &Bound<'_, EvalRecord>) -> Result<(), Trouble> {
        let has_trace = record.try_borrow().map_err(PyErr::from)?.record.trace_id.is_some();
        if !has_trace && let Some(trace_id) = current_trace_id(record.py()) {
            record.try_borrow_mut().map_err(PyErr::from)?.record.trace_id = Some(trace_id);
        }
        self.queue.insert(&record.try_borrow().map_err(PyErr::from)?.record)?;
        if self.captures.load(Ordering::Acquire) {
            let mut captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
            if captured.len() < MAX_CAPTURED {
                captured.push(record.clone().unbind());
            }
        }
        Ok(())
    }

    /// Counts an item that could not be read, and says once for each reason that items are dropped.
    fn note(&self, item: &Bound<'_, PyAny>, trouble: Trouble) {
        let (reason, cause) = match trouble {
            Trouble::Dropped(reason) => (reason, None),
            Trouble::Unreadable(error) => {
                self.queue.note_unreadable();
                (ItemDrop::Unreadable, Some(error))
            }
        };
        let bit = 1 << reason as u32;
        if reason == ItemDrop::Shutdown || self.told.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return;
        }
        let kind = item.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        let profile = self.queue.profile();
        let message = format!(
            "an item of type {kind} was dropped ({reason}) by the queue `{}` of a {} profile: {}; the counter `dropped_{reason}` has the total",
            self.queue.alias(),
            profile.drift_type(),
            profile.expectation(reason),
        );
        log::warn(item.py(), &message, cause.as_ref());
    }
}

/// The trace of OpenTelemetry's current span.
fn current_trace_id(py: Python<'_>) -> Option<[u8; 16]> {
    static CURRENT_SPAN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = || -> PyResult<Option<[u8; 16]>> {
        let function =
            CURRENT_SPAN.get_or_try_init(py, || PyResult::Ok(py.import("opentelemetry.trace")?.getattr("get_current_span")?.unbind()))?;
        let context = function.bind(py).call0()?.call_method0("get_span_context")?;
        if !context.getattr("is_valid")?.is_truthy()? {
            return Ok(None);
        }
        Ok(Some(context.getattr("trace_id")?.extract::<u128>()?.to_be_bytes()))
    };
    // A program without a trace still has its record.
    current().ok().flatten()
}

/// What a constructor says of a value that is of no use.
fn unusable(name: &str, value: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {expected}, not {kind}"))
}
