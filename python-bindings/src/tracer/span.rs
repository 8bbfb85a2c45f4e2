//! A span while it lives and after: `scouter.tracing.ScouterSpan` is this and OpenTelemetry's class.
//!
//! Its head never changes. Its body may until it ends, when it is frozen and written as OTLP bytes, once for all destinations of ours.
//! Invariants: the lock of the body is never held while Python code runs; no method raises for what a traced program does wrong.

mod end;
mod read;

use std::{
    cell::Cell,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use pyo3::{
    exceptions::PyTypeError,
    gc::{PyTraverseError, PyVisit},
    intern,
    prelude::*,
    types::{PyDict, PyString},
};

pub(super) use self::end::{end, note_exception};
use super::{
    api::Api,
    attributes::{self, Attributes, Bounds},
    capi,
    links::{self, Link, Links},
    setup::TracerSetup,
    start::{Parent, now},
};
use crate::{log, span::unix_nano};

pub(super) struct Head {
    pub(super) setup: Py<TracerSetup>,
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) flags: u8,
    /// `None`: empty.
    pub(super) trace_state: Option<Py<PyAny>>,
    pub(super) parent: Option<Parent>,
    pub(super) kind: u8,
    pub(super) start_unix_nano: u64,
    pub(super) record_exception: bool,
    pub(super) set_status_on_exception: bool,
    pub(super) end_metrics: Option<Py<PyAny>>,
}

pub(super) struct Body {
    name: Option<Py<PyAny>>,
    attributes: Attributes,
    events: Vec<Event>,
    dropped_events: u32,
    pub(super) links: Links,
    status: Option<Status>,
}

impl Body {
    pub(super) fn named(name: Py<PyAny>, attributes: Attributes) -> Self {
        Self { name: Some(name), attributes, events: Vec::new(), dropped_events: 0, links: Links::default(), status: None }
    }
}

struct Event {
    name: Py<PyAny>,
    unix_nano: u64,
    attributes: Attributes,
}

struct Status {
    /// 1 is ok, 2 is error.
    code: u8,
    /// The API's object.
    object: Py<PyAny>,
}

struct Ended {
    unix_nano: u64,
    body: Body,
}

/// The Rust half of `scouter.tracing.ScouterSpan`.
#[pyclass(module = "scouter._scouter", subclass, frozen)]
pub(crate) struct SpanCore {
    pub(super) head: Head,
    body: Mutex<Option<Body>>,
    ended: OnceLock<Ended>,
    context: OnceLock<Py<PyAny>>,
}

thread_local! {
    /// What the next instance is made of: Python allocates it, so the parts wait here for a moment.
    static PARTS: Cell<Option<Box<(Head, Body)>>> = const { Cell::new(None) };
}

/// Makes an instance of the setup's class.
#[inline]
pub(super) fn make<'py>(py: Python<'py>, setup: &TracerSetup, api: &Api, head: Head, body: Body) -> PyResult<Bound<'py, PyAny>> {
    PARTS.set(Some(Box::new((head, body))));
    capi::new_instance(setup.constructor, setup.span_class.bind(py), api.empty_tuple(py))
}

impl SpanCore {
    fn lock(&self) -> MutexGuard<'_, Option<Body>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the body, which must run no Python code.
    fn read<T>(&self, read: impl FnOnce(&Body) -> T) -> Option<T> {
        if let Some(ended) = self.ended.get() {
            return Some(read(&ended.body));
        }
        let body = self.lock();
        match &*body {
            Some(body) => Some(read(body)),
            // It ended between the two looks.
            None => {
                drop(body);
                self.ended.get().map(|ended| read(&ended.body))
            }
        }
    }

    /// Changes the body, which must run no Python code. False, and a warning, after the end.
    fn change<T>(&self, py: Python<'_>, what: &str, change: impl FnOnce(&mut Body) -> T) -> Option<T> {
        let changed = self.lock().as_mut().map(change);
        if changed.is_none() {
            log::warn(py, &format!("{what} came after the span's end and was ignored"), None);
        }
        changed
    }

    pub(super) fn setup(&self) -> &TracerSetup {
        self.head.setup.get()
    }

    pub(super) fn is_live(&self) -> bool {
        self.ended.get().is_none()
    }

    /// The API's `SpanContext`, made at the first call.
    pub(super) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(context) = self.context.get() {
            return Ok(context.bind(py).clone());
        }
        let head = &self.head;
        let context = Api::get(py)?.span_context(py, head.trace_id, head.span_id, false, head.flags, head.trace_state.as_ref())?;
        Ok(self.context.get_or_init(|| context.unbind()).bind(py).clone())
    }

    /// The same, if it was made already.
    pub(super) fn known_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.context.get().map(|context| context.clone_ref(py))
    }

    /// The dictionary of the attributes, made when there is none. `None` after the end.
    fn live_attributes<'py>(&self, py: Python<'py>, what: &str) -> Option<Bound<'py, PyDict>> {
        let known = self.change(py, what, |body| body.attributes.entries.as_ref().map(|entries| entries.clone_ref(py)))?;
        if let Some(entries) = known {
            return Some(entries.into_bound(py));
        }
        let fresh = PyDict::new(py);
        self.change(py, what, |body| body.attributes.entries.get_or_insert_with(|| fresh.unbind()).clone_ref(py))
            .map(|dict| dict.into_bound(py))
    }

    fn change_attributes(&self, py: Python<'_>, set: impl FnOnce(&Bound<'_, PyDict>, Bounds) -> PyResult<u32>) {
        let Some(entries) = self.live_attributes(py, "an attribute") else { return };
        match set(&entries, self.setup().span_attributes) {
            Ok(0) => {}
            Ok(dropped) => {
                if let Some(body) = self.lock().as_mut() {
                    body.attributes.dropped = body.attributes.dropped.saturating_add(dropped);
                }
            }
            Err(error) => log::warn(py, "an attribute could not be read and was left out", Some(&error)),
        }
    }

    fn push_event(&self, py: Python<'_>, name: Py<PyAny>, attributes: Option<&Bound<'_, PyAny>>, time: Option<&Bound<'_, PyAny>>) {
        let setup = self.setup();
        let attributes = attributes::copied(attributes, setup.event_attributes).unwrap_or_else(|error| {
            log::warn(py, "attributes of an event could not be read and were left out", Some(&error));
            Attributes::default()
        });
        let unix_nano = time.filter(|time| !time.is_none()).map_or_else(now, unix_nano);
        let event = Event { name, unix_nano, attributes };
        let former = self.change(py, "an event", |body| {
            if setup.max_events.is_some_and(|max| body.events.len() >= max) {
                body.dropped_events = body.dropped_events.saturating_add(1);
                if body.events.is_empty() {
                    return Some(event);
                }
                let former = body.events.remove(0);
                body.events.push(event);
                return Some(former);
            }
            body.events.push(event);
            None
        });
        drop(former);
    }

    fn put_status(&self, py: Python<'_>, status: &Bound<'_, PyAny>, description: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let api = Api::get(py)?;
        let description = description.filter(|description| !description.is_none());
        let object = if status.is_instance(api.status_class.bind(py).as_any())? {
            if description.is_some() {
                log::warn(py, "a status has its own description; the one beside it was ignored", None);
            }
            status.clone()
        } else if status.is_instance(api.status_code_class.bind(py).as_any())? {
            api.status_class.bind(py).call1((status, description))?
        } else {
            return Ok(());
        };
        let code = object.getattr(intern!(py, "status_code"))?;
        let Some(code) = api.status_codes.iter().position(|known| known.is(&code)).filter(|code| *code != 0) else {
            return self.change(py, "a status", |_| ()).map_or(Ok(()), Ok);
        };
        let status = Status { code: code as u8, object: object.unbind() };
        let unused = self.change(py, "a status", |body| {
            let is_final = body.status.as_ref().is_some_and(|status| status.code == 1);
            if is_final { Some(status) } else { body.status.replace(status) }
        });
        drop(unused);
        Ok(())
    }
}

/// Runs what must not raise.
fn quietly(py: Python<'_>, what: &str, run: impl FnOnce() -> PyResult<()>) {
    if let Err(error) = run() {
        log::warn(py, &format!("{what} failed"), Some(&error));
    }
}

#[pymethods]
impl SpanCore {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyAny>, _keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        match PARTS.take() {
            Some(parts) => {
                let (head, body) = *parts;
                Ok(Self { head, body: Mutex::new(Some(body)), ended: OnceLock::new(), context: OnceLock::new() })
            }
            None => Err(PyTypeError::new_err("spans are made by a tracer: call start_span or start_as_current_span of one")),
        }
    }

    /// The span's context, OpenTelemetry's object.
    fn get_span_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context(py)
    }

    /// Whether the span has not ended.
    fn is_recording(&self) -> bool {
        self.is_live()
    }

    /// Sets an attribute.
    fn set_attribute(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) {
        self.change_attributes(py, |entries, bounds| attributes::insert(entries, key, value, bounds));
    }

    /// Sets several attributes.
    fn set_attributes(&self, py: Python<'_>, attributes: &Bound<'_, PyAny>) {
        self.change_attributes(py, |entries, bounds| attributes::insert_all(entries, attributes, bounds));
    }

    /// Adds an event.
    #[pyo3(signature = (name, attributes=None, timestamp=None))]
    fn add_event(&self, py: Python<'_>, name: Py<PyAny>, attributes: Option<&Bound<'_, PyAny>>, timestamp: Option<&Bound<'_, PyAny>>) {
        self.push_event(py, name, attributes, timestamp);
    }

    /// Adds a link to another span.
    #[pyo3(signature = (context, attributes=None))]
    fn add_link(&self, py: Python<'_>, context: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) {
        quietly(py, "adding a link", || {
            if !links::is_meaningful(context, attributes)? {
                return Ok(());
            }
            let setup = self.setup();
            let attributes = attributes::copied(attributes, setup.link_attributes)?;
            let link = Link { context: context.clone().unbind(), attributes, original: None };
            let former = self.change(py, "a link", |body| body.links.push(link, setup.max_links));
            drop(former);
            Ok(())
        });
    }

    /// Gives the span another name.
    fn update_name(&self, py: Python<'_>, name: Py<PyAny>) {
        let former = self.change(py, "a name", |body| body.name.replace(name));
        drop(former);
    }

    /// Sets the outcome: Ok is final, Unset is ignored, of errors the last one counts.
    #[pyo3(signature = (status, description=None))]
    fn set_status(&self, py: Python<'_>, status: &Bound<'_, PyAny>, description: Option<&Bound<'_, PyAny>>) {
        quietly(py, "setting a status", || self.put_status(py, status, description));
    }

    /// Ends the span.
    #[pyo3(signature = (end_time=None))]
    fn end(slf: &Bound<'_, Self>, end_time: Option<&Bound<'_, PyAny>>) {
        let end_time = end_time.filter(|time| !time.is_none()).map_or_else(now, unix_nano);
        end(slf, end_time);
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    #[pyo3(signature = (exc_type, exc_val, exc_tb))]
    fn __exit__(slf: &Bound<'_, Self>, exc_type: &Bound<'_, PyAny>, exc_val: &Bound<'_, PyAny>, exc_tb: &Bound<'_, PyAny>) {
        let (_, _) = (exc_type, exc_tb);
        let head = &slf.get().head;
        if !exc_val.is_none() && slf.get().is_live() {
            note_exception(slf.as_any(), exc_val, head.record_exception, head.set_status_on_exception, true);
        }
        // Through the class, which a subclass may have extended.
        quietly(slf.py(), "ending a span", || slf.call_method0(intern!(slf.py(), "end")).map(drop));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.head.setup)
    }
}

fn as_text<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.clone()),
        Err(_) => value.str(),
    }
}
