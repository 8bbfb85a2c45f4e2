//! An ended Python span as the bytes of an OTLP `Span`.
//!
//! Spans of the SDK's own class are read by their private fields: its properties copy events, links and attributes on
//! each access. Anything else that looks like a `ReadableSpan` is read by the public properties.

use bumpalo::Bump;
use pyo3::{
    exceptions::PyValueError,
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyInt, PyString, PyTuple, PyType},
};
use scouter_exporter::{
    encode::{LinkRef, SpanHead, SpanWriter, StatusRef},
    opentelemetry::trace::SpanKind,
};

use crate::value::{entries, for_each_item, lend, text};

/// W3C trace flags, bit 0.
const SAMPLED: u8 = 1;

/// Every attribute that names an entity starts so.
pub(crate) const ENTITY_PREFIX: &str = "scouter.entity";

/// Classes and objects of OpenTelemetry that are recognised by identity.
pub(crate) struct Known {
    readable_span: Py<PyType>,
    bounded_attributes: Py<PyType>,
    bounded_list: Py<PyType>,
    empty_trace_state: Py<PyAny>,
}

impl Known {
    /// Imports them once.
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Self> {
        static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
        KNOWN.get_or_try_init(py, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Self {
                readable_span: class("opentelemetry.sdk.trace", "ReadableSpan")?,
                bounded_attributes: class("opentelemetry.attributes", "BoundedAttributes")?,
                bounded_list: class("opentelemetry.sdk.util", "BoundedList")?,
                empty_trace_state: py.import("opentelemetry.trace.span")?.getattr("DEFAULT_TRACE_STATE")?.unbind(),
            })
        })
    }
}

/// Reads one field, by its private name where `private` says so.
macro_rules! field {
    ($span:expr, $private:expr, $name:literal) => {{
        let py = $span.py();
        if $private { $span.getattr(intern!(py, concat!("_", $name))) } else { $span.getattr(intern!(py, $name)) }
    }};
}

/// A span being read.
pub(crate) struct SpanView<'a, 'py> {
    span: &'a Bound<'py, PyAny>,
    known: &'a Known,
    private: bool,
}

/// What identifies a span's envelope: its resource and its scope, either may be `None`.
pub(crate) type EnvelopeParts<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl<'a, 'py> SpanView<'a, 'py> {
    pub(crate) fn new(span: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        let known = Known::get(span.py())?;
        let private = span.get_type().is(&known.readable_span);
        Ok(Self { span, known, private })
    }

    pub(crate) fn envelope_parts(&self) -> PyResult<EnvelopeParts<'py>> {
        Ok((field!(self.span, self.private, "resource")?, field!(self.span, self.private, "instrumentation_scope")?))
    }

    /// Whether the span's trace is sampled. Others are recorded for local eyes only.
    pub(crate) fn is_sampled(&self) -> PyResult<bool> {
        Ok(SpanContext::new(&field!(self.span, self.private, "context")?)?.trace_flags()? & SAMPLED != 0)
    }

    /// Appends the span's bytes to `out`. `default_entity_key` is left out where another attribute names an entity.
    pub(crate) fn write(&self, default_entity_key: Option<&str>, arena: &Bump, out: &mut Vec<u8>) -> PyResult<()> {
        let (span, private) = (self.span, self.private);
        let context = field!(span, private, "context")?;
        let context = SpanContext::new(&context)?;
        let parent = field!(span, private, "parent")?;
        let parent = if parent.is_none() { None } else { Some(SpanContext::new(&parent)?) };
        let name = field!(span, private, "name")?;
        let name = name.cast::<PyString>()?;
        let trace_state = context.trace_state(self.known)?;
        let head = SpanHead {
            trace_id: context.trace_id()?,
            span_id: context.span_id()?,
            parent_span_id: parent.as_ref().map(SpanContext::span_id).transpose()?,
            parent_is_remote: parent.as_ref().map_or(Ok(false), SpanContext::is_remote)?,
            trace_flags: context.trace_flags()?,
            trace_state: &trace_state,
            name: &text(name),
            kind: kind(&field!(span, private, "kind")?)?,
            start_unix_nano: unix_nano(&field!(span, private, "start_time")?),
            end_unix_nano: unix_nano(&field!(span, private, "end_time")?),
        };
        let mut writer = SpanWriter::begin(out, &head);
        let dropped_attributes = self.write_attributes(default_entity_key, arena, &mut writer)?;
        let dropped_events = self.write_events(arena, &mut writer)?;
        let dropped_links = self.write_links(arena, &mut writer)?;
        write_status(&field!(span, private, "status")?, &mut writer)?;
        writer.dropped(dropped_attributes, dropped_events, dropped_links);
        Ok(())
    }

    fn write_attributes(&self, default_entity_key: Option<&str>, arena: &Bump, writer: &mut SpanWriter<'_>) -> PyResult<u32> {
        let attributes = field!(self.span, self.private, "attributes")?;
        if attributes.is_none() {
            return Ok(0);
        }
        let omitted = match default_entity_key {
            Some(key) if names_another_entity(&attributes, key)? => Some(key),
            _ => None,
        };
        let mut write = |key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>| -> PyResult<()> {
            let as_text;
            let key = match key.cast::<PyString>() {
                Ok(key) => key,
                Err(_) => {
                    as_text = key.str()?;
                    &as_text
                }
            };
            let key = text(key);
            if omitted != Some(&*key) {
                lend(value, arena, |value| writer.attribute(&key, value));
            }
            Ok(())
        };
        if attributes.get_type().is(&self.known.bounded_attributes) {
            let py = attributes.py();
            let dict = attributes.getattr(intern!(py, "_dict"))?;
            // Nothing changes the attributes of an ended span, and their values are plain: the walk runs no Python code.
            for (key, value) in dict.cast::<PyDict>()?.iter() {
                write(&key, &value)?;
            }
            return Ok(count(&attributes.getattr(intern!(py, "dropped"))?));
        }
        for_each_item(&attributes, write)?;
        self.dropped(intern!(self.span.py(), "dropped_attributes"))
    }

    fn write_events(&self, arena: &Bump, writer: &mut SpanWriter<'_>) -> PyResult<u32> {
        let py = self.span.py();
        let events = field!(self.span, self.private, "events")?;
        let (items, dropped) = self.list(&events, intern!(py, "dropped_events"))?;
        if let Some(items) = items {
            for event in items.try_iter()? {
                let event = event?;
                let name = event.getattr(intern!(py, "name"))?.str()?;
                let time = unix_nano(&event.getattr(intern!(py, "timestamp"))?);
                let (attributes, dropped) = self.attributes_of(&event, arena)?;
                writer.event(&text(&name), time, attributes, dropped);
            }
        }
        Ok(dropped)
    }

    fn write_links(&self, arena: &Bump, writer: &mut SpanWriter<'_>) -> PyResult<u32> {
        let py = self.span.py();
        let links = field!(self.span, self.private, "links")?;
        let (items, dropped) = self.list(&links, intern!(py, "dropped_links"))?;
        if let Some(items) = items {
            for link in items.try_iter()? {
                let link = link?;
                let context = link.getattr(intern!(py, "context"))?;
                let context = SpanContext::new(&context)?;
                let (attributes, dropped_attributes) = self.attributes_of(&link, arena)?;
                writer.link(&LinkRef {
                    trace_id: context.trace_id()?,
                    span_id: context.span_id()?,
                    trace_state: &context.trace_state(self.known)?,
                    trace_flags: context.trace_flags()?,
                    is_remote: context.is_remote()?,
                    attributes,
                    dropped_attributes,
                });
            }
        }
        Ok(dropped)
    }

    /// The items of a list of the span, `None` when there are none, and how many a limit left out.
    fn list(&self, list: &Bound<'py, PyAny>, dropped: &Bound<'py, PyString>) -> PyResult<(Option<Bound<'py, PyAny>>, u32)> {
        let py = list.py();
        if list.is_none() {
            return Ok((None, 0));
        }
        if list.get_type().is(&self.known.bounded_list) {
            let items = list.getattr(intern!(py, "_dq"))?;
            let items = if items.len()? == 0 { None } else { Some(items) };
            return Ok((items, count(&list.getattr(intern!(py, "dropped"))?)));
        }
        Ok((Some(list.clone()), self.dropped(dropped)?))
    }

    fn dropped(&self, name: &Bound<'py, PyString>) -> PyResult<u32> {
        Ok(self.span.getattr_opt(name)?.map_or(0, |dropped| count(&dropped)))
    }

    /// Attributes of an event or a link, and how many a limit left out.
    fn attributes_of<'b>(
        &self,
        owner: &Bound<'py, PyAny>,
        arena: &'b Bump,
    ) -> PyResult<(&'b [(&'b str, scouter_exporter::encode::ValueRef<'b>)], u32)> {
        let py = owner.py();
        let attributes = owner.getattr(intern!(py, "attributes"))?;
        if attributes.is_none() {
            return Ok((&[], 0));
        }
        if attributes.get_type().is(&self.known.bounded_attributes) {
            let dict = attributes.getattr(intern!(py, "_dict"))?;
            return Ok((entries(&dict, arena, 0)?, count(&attributes.getattr(intern!(py, "dropped"))?)));
        }
        let dropped = owner.getattr_opt(intern!(py, "dropped_attributes"))?.map_or(0, |dropped| count(&dropped));
        Ok((entries(&attributes, arena, 0)?, dropped))
    }
}

pub(crate) fn names_another_entity(attributes: &Bound<'_, PyAny>, default_key: &str) -> PyResult<bool> {
    for key in attributes.try_iter()? {
        let key = key?;
        if let Ok(key) = key.cast::<PyString>() {
            let key = text(key);
            if key.starts_with(ENTITY_PREFIX) && key != default_key {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn write_status(status: &Bound<'_, PyAny>, writer: &mut SpanWriter<'_>) -> PyResult<()> {
    let py = status.py();
    if status.is_none() {
        writer.status(StatusRef::Unset);
        return Ok(());
    }
    match enum_value(&status.getattr(intern!(py, "status_code"))?)? {
        1 => writer.status(StatusRef::Ok),
        2 => {
            let description = status.getattr(intern!(py, "description"))?;
            match description.cast::<PyString>() {
                Ok(description) => writer.status(StatusRef::Error(&text(description))),
                Err(_) => writer.status(StatusRef::Error("")),
            }
        }
        _ => writer.status(StatusRef::Unset),
    }
    Ok(())
}

fn kind(kind: &Bound<'_, PyAny>) -> PyResult<SpanKind> {
    Ok(match enum_value(kind)? {
        1 => SpanKind::Server,
        2 => SpanKind::Client,
        3 => SpanKind::Producer,
        4 => SpanKind::Consumer,
        _ => SpanKind::Internal,
    })
}

/// The number behind a member of an `Enum`. `_value_` is the plain field behind the property `value`.
pub(crate) fn enum_value(member: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = member.py();
    match member.getattr(intern!(py, "_value_")) {
        Ok(value) => value.extract(),
        Err(_) => member.extract(),
    }
}

/// Nanoseconds since 1970. Times before are 0, and what is no number too; floats are cut.
pub(crate) fn unix_nano(time: &Bound<'_, PyAny>) -> u64 {
    if let Ok(nanos) = time.extract::<u64>() {
        return nanos;
    }
    match time.cast::<PyInt>() {
        Ok(nanos) if nanos.gt(0).unwrap_or(false) => u64::MAX,
        Ok(_) => 0,
        // `as` saturates, and turns NaN into 0.
        Err(_) => time.extract::<f64>().map_or(0, |nanos| nanos as u64),
    }
}

fn count(number: &Bound<'_, PyAny>) -> u32 {
    number.extract::<u64>().map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// OpenTelemetry's `SpanContext`: a tuple of trace id, span id, is_remote, flags, trace state.
pub(crate) struct SpanContext<'a, 'py>(&'a Bound<'py, PyTuple>);

impl<'a, 'py> SpanContext<'a, 'py> {
    pub(crate) fn new(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        match context.cast::<PyTuple>() {
            Ok(tuple) if tuple.len() >= 5 => Ok(Self(tuple)),
            _ => Err(PyValueError::new_err("a span without SpanContext")),
        }
    }

    pub(crate) fn trace_id(&self) -> PyResult<[u8; 16]> {
        Ok(self.0.get_item(0)?.extract::<u128>()?.to_be_bytes())
    }

    pub(crate) fn span_id(&self) -> PyResult<[u8; 8]> {
        Ok(self.0.get_item(1)?.extract::<u64>()?.to_be_bytes())
    }

    pub(crate) fn is_remote(&self) -> PyResult<bool> {
        self.0.get_item(2)?.is_truthy()
    }

    pub(crate) fn trace_flags(&self) -> PyResult<u8> {
        // `TraceFlags` is an int subclass; bits above the eighth have no meaning.
        Ok((self.0.get_item(3)?.extract::<u64>()? & 0xff) as u8)
    }

    /// The trace state, `None` when it is empty.
    pub(crate) fn trace_state_object(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.0.get_item(4)?;
        Ok((!state.is_none() && state.is_truthy()?).then_some(state))
    }

    pub(crate) fn trace_state(&self, known: &Known) -> PyResult<String> {
        let state = self.0.get_item(4)?;
        if state.is(&known.empty_trace_state) || state.is_none() {
            return Ok(String::new());
        }
        let header = state.call_method0(intern!(state.py(), "to_header"))?;
        Ok(text(header.cast::<PyString>()?).into_owned())
    }
}
