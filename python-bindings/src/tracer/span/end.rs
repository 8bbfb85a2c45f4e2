//! The end of a span: frozen, encoded, queued.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bumpalo::Bump;
use pyo3::{exceptions::PyRuntimeError, intern, prelude::*, types::PyDict};
use scouter_exporter::{
    encode::{SpanHead, SpanWriter, StatusRef},
    opentelemetry::trace::SpanKind,
};

use super::{Body, Ended, SpanCore, as_text};
use crate::{
    log,
    processor::SpanProcessor,
    scratch::Scratch,
    span::names_another_entity,
    tracer::{
        api::{Api, SAMPLED},
        attributes::Attributes,
    },
    value::{entries, lend, text},
};

/// Ends a span: freezes it, tells the processors, queues its bytes. Never raises and never waits.
pub(in crate::tracer) fn end(span: &Bound<'_, SpanCore>, unix_nano: u64) {
    let py = span.py();
    let this = span.get();
    let frozen = {
        let mut body = this.lock();
        // Under the lock, so that who finds no body finds the end.
        body.take().map(|body| this.ended.set(Ended { unix_nano, body }))
    };
    if frozen.is_none() {
        log::warn(py, "a second end came after the span's end and was ignored", None);
        return;
    }
    let Some(ended) = this.ended.get() else { return };
    let setup = this.setup();
    if let Some(metrics) = &this.head.end_metrics {
        super::quietly(py, "metrics of the tracer", || metrics.bind(py).call0().map(drop));
    }
    let sinks = setup.sinks.get().current();
    for processor in &sinks.others {
        super::quietly(py, "a span processor at the end of a span", || {
            match processor.bind(py).getattr_opt(intern!(py, "_on_ending"))? {
                Some(on_ending) => on_ending.call1((span,)).map(drop),
                None => Ok(()),
            }
        });
    }
    if this.head.flags & SAMPLED != 0 && !sinks.natives.is_empty() {
        let encoded = catch_unwind(AssertUnwindSafe(|| queue(py, this, ended, &sinks.natives)))
            .unwrap_or_else(|_| Err(PyRuntimeError::new_err("the encoder panicked")));
        if let Err(error) = encoded {
            sinks.natives.iter().for_each(|native| native.get().note_unreadable(py, &error));
        }
    }
    if !sinks.others.is_empty() {
        super::quietly(py, "a span processor at the end of a span", || {
            let readable = span.call_method0(intern!(py, "_readable_span"))?;
            for processor in &sinks.others {
                super::quietly(py, "a span processor at the end of a span", || {
                    processor.bind(py).call_method1(intern!(py, "on_end"), (&readable,)).map(drop)
                });
            }
            Ok(())
        });
    }
}

#[inline]
fn queue(py: Python<'_>, span: &SpanCore, ended: &Ended, natives: &[Py<SpanProcessor>]) -> PyResult<()> {
    let setup = span.setup();
    let mut scratch = Scratch::take();
    let written = write(py, span, ended, &scratch.arena, &mut scratch.bytes);
    if written.is_ok() {
        for native in natives {
            native.get().push_encoded(py, &setup.envelope, &scratch.bytes);
        }
    }
    scratch.give_back();
    written
}

#[inline]
fn write(py: Python<'_>, span: &SpanCore, ended: &Ended, arena: &Bump, out: &mut Vec<u8>) -> PyResult<()> {
    let Ended { unix_nano, body } = ended;
    let head = &span.head;
    let name = match &body.name {
        Some(name) => as_text(name.bind(py))?,
        None => as_text(py.None().bind(py))?,
    };
    let trace_state = match &head.trace_state {
        Some(state) => text(&as_text(&state.bind(py).call_method0(intern!(py, "to_header"))?)?).into_owned(),
        None => String::new(),
    };
    let mut writer = SpanWriter::begin(
        out,
        &SpanHead {
            trace_id: head.trace_id.to_be_bytes(),
            span_id: head.span_id.to_be_bytes(),
            parent_span_id: head.parent.as_ref().map(|parent| parent.span_id.to_be_bytes()),
            parent_is_remote: head.parent.as_ref().is_some_and(|parent| parent.is_remote),
            trace_flags: head.flags,
            trace_state: &trace_state,
            name: &text(&name),
            kind: kind(head.kind),
            start_unix_nano: head.start_unix_nano,
            end_unix_nano: *unix_nano,
        },
    );
    write_attributes(py, span, &body.attributes, arena, &mut writer)?;
    for event in &body.events {
        let name = as_text(event.name.bind(py))?;
        let attributes = match &event.attributes.entries {
            Some(attributes) => entries(attributes.bind(py).as_any(), arena, 0)?,
            None => &[],
        };
        writer.event(&text(&name), event.unix_nano, attributes, event.attributes.dropped);
    }
    body.links.write(py, arena, &mut writer)?;
    write_status(py, body, &mut writer)?;
    writer.dropped(body.attributes.dropped, body.dropped_events, body.links.dropped);
    Ok(())
}

#[inline]
fn write_attributes(py: Python<'_>, span: &SpanCore, attributes: &Attributes, arena: &Bump, writer: &mut SpanWriter<'_>) -> PyResult<()> {
    let Some(entries) = &attributes.entries else { return Ok(()) };
    let entries = entries.bind(py);
    let omitted = match span.setup().default_entity_key() {
        Some(key) if names_another_entity(entries.as_any(), key)? => Some(key),
        _ => None,
    };
    // Nothing changes the dictionary of an ended span.
    for (key, value) in entries.iter() {
        let key = as_text(&key)?;
        let key = text(&key);
        if omitted != Some(&*key) {
            lend(&value, arena, |value| writer.attribute(&key, value));
        }
    }
    Ok(())
}

fn write_status(py: Python<'_>, body: &Body, writer: &mut SpanWriter<'_>) -> PyResult<()> {
    match &body.status {
        None => writer.status(StatusRef::Unset),
        Some(status) if status.code == 1 => writer.status(StatusRef::Ok),
        Some(status) => {
            let description = status.object.bind(py).getattr(intern!(py, "description"))?;
            if description.is_none() {
                writer.status(StatusRef::Error(""));
            } else {
                writer.status(StatusRef::Error(&text(&as_text(&description)?)));
            }
        }
    }
    Ok(())
}

fn kind(index: u8) -> SpanKind {
    match index {
        1 => SpanKind::Server,
        2 => SpanKind::Client,
        3 => SpanKind::Producer,
        4 => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

/// Notes an exception on any span of OpenTelemetry's: as an event, as a status, as the caller wishes.
pub(in crate::tracer) fn note_exception(
    span: &Bound<'_, PyAny>,
    exception: &Bound<'_, PyAny>,
    record: bool,
    set_status: bool,
    escaped: bool,
) {
    let py = span.py();
    if record {
        super::quietly(py, "recording an exception", || {
            let keywords = PyDict::new(py);
            if escaped {
                keywords.set_item(intern!(py, "escaped"), true)?;
            }
            span.getattr(intern!(py, "record_exception"))?.call((exception,), Some(&keywords)).map(drop)
        });
    }
    if set_status {
        super::quietly(py, "setting the status of a failed span", || {
            let api = Api::get(py)?;
            let class = exception.get_type().name()?;
            let description = format!("{}: {}", text(&class), text(&exception.str()?));
            let status = api.status_class.bind(py).call1((&api.status_codes[2], description))?;
            span.call_method1(intern!(py, "set_status"), (status,)).map(drop)
        });
    }
}
