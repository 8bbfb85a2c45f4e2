//! The start of a span: parent, sampling, ids, first attributes.

use std::time::SystemTime;

use pyo3::{
    exceptions::PyTypeError,
    intern,
    prelude::*,
    types::{PyDict, PyString},
};

use super::{
    api::{Api, RANDOM_TRACE_ID, SAMPLED},
    attributes::{self, Attributes},
    links,
    sampling::{Decision, Question},
    setup::TracerSetup,
    span::{self, Body, Head, SpanCore},
};
use crate::{
    log,
    span::{SpanContext, enum_value, unix_nano},
    value::text,
};

/// Entity that baggage names for all spans below.
const ACTIVE_ENTITY_BAGGAGE: &str = "scouter.active.entity_uid";

/// What the parent of a span hands down.
pub(super) struct Parent {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) is_remote: bool,
    pub(super) flags: u8,
    pub(super) trace_state: Option<Py<PyAny>>,
    /// The API's object, where there was one.
    pub(super) context: Option<Py<PyAny>>,
}

/// The arguments of `start_span`.
pub(super) struct Request<'a, 'py> {
    pub(super) name: &'a Bound<'py, PyAny>,
    pub(super) context: Option<&'a Bound<'py, PyAny>>,
    pub(super) kind: Option<&'a Bound<'py, PyAny>>,
    pub(super) attributes: Option<&'a Bound<'py, PyAny>>,
    pub(super) links: Option<&'a Bound<'py, PyAny>>,
    pub(super) start_time: Option<&'a Bound<'py, PyAny>>,
    pub(super) record_exception: bool,
    pub(super) set_status_on_exception: bool,
}

/// Starts a span. `current` is the current context, where the caller has it already.
#[inline]
pub(super) fn start<'py>(
    setup: &Bound<'py, TracerSetup>,
    request: &Request<'_, 'py>,
    current: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = setup.py();
    let api = Api::get(py)?;
    let from_current;
    let context = match (request.context, current) {
        (Some(context), _) | (None, Some(context)) => context,
        (None, None) => {
            from_current = api.current_context(py)?;
            &from_current
        }
    };
    let this = setup.get();
    let sinks = this.sinks.get().current();
    let Surroundings { parent, is_suppressed, has_baggage } = surroundings(api, context, !sinks.others.is_empty())?;
    if is_suppressed || !this.is_enabled {
        return match &parent {
            Some(parent) => api.non_recording(&parent_context(api, py, parent)?),
            None => Ok(api.invalid_span(py).clone()),
        };
    }
    let trace_id = match &parent {
        Some(parent) => parent.trace_id,
        None => this.ids.trace_id(py)?,
    };
    let kind = request.kind.map_or(0, |kind| kind_index(api, kind));
    let sampled = this.sampler.decide(&Question {
        py,
        trace_id,
        parent: parent.as_ref(),
        context: request.context,
        name: request.name,
        kind: api.kind(py, kind),
        attributes: request.attributes,
        links: request.links,
    })?;
    let is_random =
        parent.as_ref().map_or_else(|| api.has_random_flag && this.ids.is_random(), |parent| parent.flags & RANDOM_TRACE_ID != 0);
    let flags = if sampled.decision == Decision::Sample { SAMPLED } else { 0 } | if is_random { RANDOM_TRACE_ID } else { 0 };
    let trace_state = match sampled.trace_state {
        Some(own) => own.map(Bound::unbind),
        None => parent.as_ref().and_then(|parent| parent.trace_state.as_ref().map(|state| state.clone_ref(py))),
    };
    let span_id = this.ids.span_id(py)?;
    let end_metrics = match &this.metrics {
        Some(metrics) => started(metrics.bind(py), api, parent.as_ref(), sampled.decision),
        None => None,
    };
    if sampled.decision == Decision::Drop {
        return api.non_recording(&api.span_context(py, trace_id, span_id, false, flags, trace_state.as_ref())?);
    }
    let given = sampled.attributes.as_ref().or(request.attributes);
    let mut attributes = attributes::copied(given, this.span_attributes).or_else(|error| no_attributes(py, &error))?;
    if this.default_attributes.is_some() || this.default_entity.is_some() || has_baggage {
        fill_in_defaults(this, api, context, &mut attributes).or_else(|error| no_attributes(py, &error).map(drop))?;
    }
    let mut body = Body::named(request.name.clone().unbind(), attributes);
    if let Some(given) = request.links.filter(|links| !links.is_none()) {
        body.links = links::given(given, this).or_else(|error| {
            log::warn(py, "links of a span could not be read and were left out", Some(&error));
            Ok::<_, PyErr>(links::Links::default())
        })?;
    }
    let start_unix_nano = match request.start_time.filter(|time| !time.is_none()) {
        Some(time) => unix_nano(time),
        None => now(),
    };
    let head = Head {
        setup: setup.clone().unbind(),
        trace_id,
        span_id,
        flags,
        trace_state,
        parent,
        kind,
        start_unix_nano,
        record_exception: request.record_exception,
        set_status_on_exception: request.set_status_on_exception,
        end_metrics,
    };
    let span = span::make(py, this, api, head, body)?;
    if !sinks.others.is_empty() {
        tell_of_start(&sinks.others, &span, request.context);
    }
    Ok(span)
}

/// Nanoseconds since 1970.
#[inline]
pub(super) fn now() -> u64 {
    scouter_exporter::encode::unix_nano(SystemTime::now())
}

/// What a context says to a span that starts in it.
struct Surroundings {
    parent: Option<Parent>,
    /// The context asks for no telemetry.
    is_suppressed: bool,
    has_baggage: bool,
}

/// Reads a context. `is_seen`: the parent's context will be looked at.
#[inline]
fn surroundings(api: &Api, context: &Bound<'_, PyAny>, is_seen: bool) -> PyResult<Surroundings> {
    let py = context.py();
    let entries = context.cast::<PyDict>().map_or(2, |entries| entries.len());
    if entries == 0 {
        return Ok(Surroundings { parent: None, is_suppressed: false, has_baggage: false });
    }
    let span = Api::entry(context, api.span_key.bind(py).as_any())?;
    let has_more = entries > usize::from(span.is_some());
    let is_suppressed =
        has_more && Api::entry(context, api.suppress_key.bind(py).as_any())?.is_some_and(|value| value.is_truthy().unwrap_or(false));
    let has_baggage = has_more && Api::entry(context, api.baggage_key.bind(py))?.is_some();
    let parent = match span {
        Some(span) => as_parent(api, &span, is_seen)?,
        None => None,
    };
    Ok(Surroundings { parent, is_suppressed, has_baggage })
}

#[inline]
fn as_parent(api: &Api, span: &Bound<'_, PyAny>, is_seen: bool) -> PyResult<Option<Parent>> {
    let py = span.py();
    if let Ok(ours) = span.cast::<SpanCore>() {
        let head = &ours.get().head;
        if head.trace_id == 0 || head.span_id == 0 {
            return Ok(None);
        }
        return Ok(Some(Parent {
            trace_id: head.trace_id,
            span_id: head.span_id,
            is_remote: false,
            flags: head.flags,
            trace_state: head.trace_state.as_ref().map(|state| state.clone_ref(py)),
            // The same object wherever it is seen, as in the SDK; it is dear, so it is made for somebody only.
            context: if is_seen { Some(ours.get().context(py)?.unbind()) } else { ours.get().known_context(py) },
        }));
    }
    if !span.is_instance(api.span_class.bind(py).as_any())? {
        return Ok(None);
    }
    let context = span.call_method0(intern!(py, "get_span_context"))?;
    if context.is_none() {
        return Ok(None);
    }
    let fields = SpanContext::new(&context).map_err(|_| PyTypeError::new_err("the parent's context is no SpanContext"))?;
    let (Ok(trace_id), Ok(span_id)) = (fields.trace_id(), fields.span_id()) else { return Ok(None) };
    let (trace_id, span_id) = (u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id));
    if trace_id == 0 || span_id == 0 {
        return Ok(None);
    }
    Ok(Some(Parent {
        trace_id,
        span_id,
        is_remote: fields.is_remote()?,
        flags: fields.trace_flags()?,
        trace_state: fields.trace_state_object()?.map(Bound::unbind),
        context: Some(context.unbind()),
    }))
}

/// The API's object for a parent.
pub(super) fn parent_context<'py>(api: &Api, py: Python<'py>, parent: &Parent) -> PyResult<Bound<'py, PyAny>> {
    match &parent.context {
        Some(context) => Ok(context.bind(py).clone()),
        None => api.span_context(py, parent.trace_id, parent.span_id, parent.is_remote, parent.flags, parent.trace_state.as_ref()),
    }
}

/// The index of a kind: a member of OpenTelemetry's `SpanKind`, of another enum with its values, or such a number.
#[inline]
fn kind_index(api: &Api, kind: &Bound<'_, PyAny>) -> u8 {
    if let Some(index) = api.kind_index(kind) {
        return index;
    }
    enum_value(kind).ok().and_then(|value| u8::try_from(value).ok()).filter(|value| *value <= 4).unwrap_or(0)
}

fn no_attributes(py: Python<'_>, error: &PyErr) -> PyResult<Attributes> {
    log::warn(py, "attributes of a span could not be read and were left out", Some(error));
    Ok(Attributes::default())
}

/// Sets what the span does not have itself. An entity that baggage names goes before the default one.
fn fill_in_defaults(setup: &TracerSetup, api: &Api, context: &Bound<'_, PyAny>, attributes: &mut Attributes) -> PyResult<()> {
    let py = context.py();
    let active = match Api::entry(context, api.baggage_key.bind(py))? {
        Some(baggage) => baggage.call_method1(intern!(py, "get"), (intern!(py, ACTIVE_ENTITY_BAGGAGE),))?,
        None => py.None().into_bound(py),
    };
    let active = active.cast::<PyString>().ok();
    if active.is_none() && setup.default_attributes.is_none() && setup.default_entity.is_none() {
        return Ok(());
    }
    let entries = attributes.entries.get_or_insert_with(|| PyDict::new(py).unbind()).bind(py).clone();
    let mut names_entity = false;
    for key in entries.keys() {
        names_entity |= key.cast::<PyString>().is_ok_and(|key| text(key).starts_with(crate::span::ENTITY_PREFIX));
    }
    if let Some(defaults) = &setup.default_attributes {
        for (key, value) in defaults.bind(py).iter() {
            if !entries.contains(&key)? {
                attributes.dropped += attributes::insert(&entries, &key, &value, setup.span_attributes)?;
            }
        }
    }
    if names_entity {
        return Ok(());
    }
    if let Some(uid) = active {
        let key = PyString::new(py, &format!("{}.{}", crate::span::ENTITY_PREFIX, text(uid)));
        attributes.dropped += attributes::insert(&entries, key.as_any(), uid.as_any(), setup.span_attributes)?;
    } else if let Some(entity) = &setup.default_entity {
        attributes.dropped += attributes::insert(&entries, entity.key.bind(py), entity.uid.bind(py), setup.span_attributes)?;
    }
    Ok(())
}

/// Tells the processors written in Python.
fn tell_of_start(others: &[Py<PyAny>], span: &Bound<'_, PyAny>, context: Option<&Bound<'_, PyAny>>) {
    let py = span.py();
    for processor in others {
        let told = || -> PyResult<()> {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "parent_context"), context)?;
            processor.bind(py).getattr(intern!(py, "on_start"))?.call((span,), Some(&keywords)).map(drop)
        };
        if let Err(error) = told() {
            log::warn(py, "a span processor failed at the start of a span", Some(&error));
        }
    }
}

fn started(metrics: &Bound<'_, PyAny>, api: &Api, parent: Option<&Parent>, decision: Decision) -> Option<Py<PyAny>> {
    let py = metrics.py();
    let called = || -> PyResult<Py<PyAny>> {
        let parent = parent.map(|parent| parent_context(api, py, parent)).transpose()?;
        Ok(metrics.call1((parent, decision as u8))?.unbind())
    };
    called().map_err(|error| log::warn(py, "metrics of the tracer failed", Some(&error))).ok()
}
