//! Links of a living span.

use pyo3::{intern, prelude::*, types::PyTuple};
use scouter_exporter::encode::{LinkRef, SpanWriter};

use super::{
    attributes::{self, Attributes},
    setup::TracerSetup,
};
use crate::{
    span::{Known, SpanContext},
    value::entries,
};

#[derive(Default)]
pub(super) struct Links {
    pub(super) items: Vec<Link>,
    pub(super) dropped: u32,
}

pub(super) struct Link {
    pub(super) context: Py<PyAny>,
    pub(super) attributes: Attributes,
    /// The API's object, where there was one.
    pub(super) original: Option<Py<PyAny>>,
}

impl Links {
    /// Adds a link. The oldest one makes room.
    pub(super) fn push(&mut self, link: Link, max: Option<usize>) -> Option<Link> {
        let former = match max {
            Some(max) if self.items.len() >= max => {
                self.dropped = self.dropped.saturating_add(1);
                if max == 0 {
                    return Some(link);
                }
                Some(self.items.remove(0))
            }
            _ => None,
        };
        self.items.push(link);
        former
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Vec<Link> {
        let cloned = |link: &Link| Link {
            context: link.context.clone_ref(py),
            attributes: link.attributes.clone_ref(py),
            original: link.original.as_ref().map(|original| original.clone_ref(py)),
        };
        self.items.iter().map(cloned).collect()
    }

    pub(super) fn write(&self, py: Python<'_>, arena: &bumpalo::Bump, writer: &mut SpanWriter<'_>) -> PyResult<()> {
        for link in &self.items {
            let context = link.context.bind(py);
            let context = SpanContext::new(context)?;
            let attributes = match &link.attributes.entries {
                Some(attributes) => entries(attributes.bind(py).as_any(), arena, 0)?,
                None => &[],
            };
            writer.link(&LinkRef {
                trace_id: context.trace_id()?,
                span_id: context.span_id()?,
                trace_state: &context.trace_state(Known::get(py)?)?,
                trace_flags: context.trace_flags()?,
                is_remote: context.is_remote()?,
                attributes,
                dropped_attributes: link.attributes.dropped,
            });
        }
        Ok(())
    }
}

/// The links given at a span's start, those without a meaning left out.
pub(super) fn given(given: &Bound<'_, PyAny>, setup: &TracerSetup) -> PyResult<Links> {
    let py = given.py();
    let mut links = Links::default();
    for link in given.try_iter()? {
        let link = link?;
        if link.is_none() {
            continue;
        }
        let context = link.getattr(intern!(py, "context"))?;
        let attributes = link.getattr(intern!(py, "attributes"))?;
        if is_meaningful(&context, Some(&attributes))? {
            let attributes = attributes::copied(Some(&attributes), setup.link_attributes)?;
            links.push(Link { context: context.unbind(), attributes, original: Some(link.unbind()) }, setup.max_links);
        }
    }
    Ok(links)
}

/// Whether a link says anything: it names a span, or has attributes or a trace state.
pub(super) fn is_meaningful(context: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let Ok(tuple) = context.cast::<PyTuple>() else { return Ok(false) };
    let fields = SpanContext::new(tuple.as_any())?;
    let names_span = fields.trace_id().is_ok_and(|id| id != [0; 16]) && fields.span_id().is_ok_and(|id| id != [0; 8]);
    Ok(names_span || attributes.map_or(Ok(false), |attributes| attributes.is_truthy())? || fields.trace_state_object()?.is_some())
}
