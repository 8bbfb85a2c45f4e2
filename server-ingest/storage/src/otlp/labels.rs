//! What Scouter keeps beside its spans, taken from their attributes: tags, baggage, and the profiles they name.
//!
//! | attribute | becomes |
//! | --- | --- |
//! | `scouter.tracing.tag.K` | the tag K |
//! | `baggage.scouter.tracing.tag.K` | the tag K, and baggage `scouter.tracing.tag.K` |
//! | `baggage.K` | baggage K |
//! | `scouter.entity`, `scouter.entity.UID` (of spans and their events) | the profile's uid |
//!
//! Nothing is taken out of the spans. The bytes were judged; unjudged ones give wrong labels, never a panic.

use super::value::{AnyValue, key_value};
use super::{Envelope, Fields, Wire};

const BAGGAGE: &str = "baggage.";
const TAG: &str = "scouter.tracing.tag.";
const ENTITY: &str = "scouter.entity";
const EVENTS: u32 = 11;
const ATTRIBUTES: u32 = 9;

/// The labels of one span; there are some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanLabels {
    /// Of the span's trace.
    pub trace_id: [u8; 16],
    /// When the span began.
    pub start_unix_nano: u64,
    /// The name of the instrumentation scope.
    pub scope_name: String,
    /// Keys and values, in the order they came.
    pub tags: Vec<(String, String)>,
    /// Keys and values, in the order they came.
    pub baggage: Vec<(String, String)>,
    /// Uids of profiles, each once.
    pub entity_uids: Vec<String>,
}

/// The labels of the spans of a judged payload that have some and are not among the ascending `rejected` indexes.
pub fn labels_in(payload: &[u8], envelope: Envelope, rejected: &[u32]) -> Vec<SpanLabels> {
    let mut labels = Vec::new();
    let mut index = 0_u32;
    for resource_spans in messages(payload, envelope.resource_spans_field()) {
        for scope_spans in messages(resource_spans, 2) {
            let from = labels.len();
            for span in messages(scope_spans, 2) {
                let is_rejected = rejected.binary_search(&index).is_ok();
                index = index.wrapping_add(1);
                if !is_rejected {
                    labels.extend(labels_of(span));
                }
            }
            if labels.len() > from {
                let name = messages(scope_spans, 1).flat_map(|scope| messages(scope, 1)).last().unwrap_or_default();
                for span in &mut labels[from..] {
                    span.scope_name = text(name);
                }
            }
        }
    }
    labels
}

fn labels_of(span: &[u8]) -> Option<SpanLabels> {
    let mut labels = SpanLabels::default();
    for attribute in messages(span, ATTRIBUTES) {
        let (key, value) = key_value(attribute);
        labels.see(key, value);
    }
    for event in messages(span, EVENTS) {
        for attribute in messages(event, 3) {
            let (key, value) = key_value(attribute);
            labels.see_entity(key, value);
        }
    }
    if labels.tags.is_empty() && labels.baggage.is_empty() && labels.entity_uids.is_empty() {
        return None;
    }
    for field in Fields::new(span).readable() {
        match (field.number, field.wire) {
            (1, Wire::Bytes(bytes)) => labels.trace_id = bytes.try_into().unwrap_or_default(),
            (7, Wire::Fixed64(nanos)) => labels.start_unix_nano = nanos,
            _ => {}
        }
    }
    Some(labels)
}

impl SpanLabels {
    fn see(&mut self, key: &[u8], value: AnyValue<'_>) {
        let (bare, is_baggage) = match key.strip_prefix(BAGGAGE.as_bytes()) {
            Some(bare) => (bare, true),
            None => (key, false),
        };
        if is_baggage {
            self.baggage.push((text(bare), value_text(value)));
        }
        match bare.strip_prefix(TAG.as_bytes()) {
            Some(tag) => self.tags.push((text(tag), value_text(value))),
            None if !is_baggage => self.see_entity(key, value),
            None => {}
        }
    }

    fn see_entity(&mut self, key: &[u8], value: AnyValue<'_>) {
        let Some(rest) = key.strip_prefix(ENTITY.as_bytes()) else { return };
        let said = if let AnyValue::String(uid) = value { uid } else { &[] };
        let uid = match rest.strip_prefix(b".") {
            Some(named) if said.is_empty() => named,
            Some(_) => said,
            None if rest.is_empty() => said,
            None => return,
        };
        if !uid.is_empty() && !self.entity_uids.iter().any(|known| known.as_bytes() == uid) {
            self.entity_uids.push(text(uid));
        }
    }
}

/// The bodies of the fields of that number.
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).readable().filter_map(move |field| match field.wire {
        Wire::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A string as it is, anything else as the table has it in its JSON.
fn value_text(value: AnyValue<'_>) -> String {
    if let AnyValue::String(bytes) = value {
        return text(bytes);
    }
    let mut json = Vec::new();
    crate::columns::write_json(&mut json, value);
    text(&json)
}

#[cfg(test)]
mod tests;
