//! From the bytes of a request to rows.

use super::SpanColumns;
use super::derived::EventDerivation;
use crate::columns::json;
use crate::columns::promoted;
use crate::otlp::{AnyValue, Field, Fields, Wire, key_value};

/// `service_name` of a resource without a string attribute `service.name`.
const UNKNOWN_SERVICE: &[u8] = b"unknown_service";

/// What every span of one resource shares, as keys of the dictionary columns of the open batch.
#[derive(Debug, Clone, Copy)]
struct ResourceKeys {
    service_name: i32,
    attributes: i32,
    entity_refs: Option<i32>,
    dropped_attributes: i64,
    /// `k8s.pod.name`, `k8s.namespace.name`: indexes of promoted columns with their keys.
    promoted: [Option<(usize, i32)>; 2],
}

/// What every span of one scope shares.
#[derive(Debug, Clone, Copy)]
struct ScopeKeys {
    name: i32,
    version: i32,
    attributes: i32,
    dropped_attributes: i64,
}

/// The last resource and scope rendered into the open batch, by their bytes: clients send the same ones again and again.
#[derive(Debug, Default)]
pub(super) struct EnvelopeCache {
    resource: Vec<u8>,
    resource_keys: Option<ResourceKeys>,
    scope: Vec<u8>,
    scope_keys: Option<ScopeKeys>,
    scratch: Vec<u8>,
}

impl EnvelopeCache {
    /// Forgets the keys, which die with the batch.
    pub(super) fn clear(&mut self) {
        self.resource_keys = None;
        self.scope_keys = None;
    }
}

/// The keys of one `ScopeSpans` and of the resource above it.
#[derive(Clone, Copy)]
struct Keys {
    resource: ResourceKeys,
    resource_schema_url: i32,
    scope: ScopeKeys,
    scope_schema_url: i32,
}

impl SpanColumns {
    /// Adds the spans of one `ResourceSpans`; `is_rejected` is asked once for each, in order.
    pub(in crate::columns) fn append(&mut self, resource_spans: &[u8], is_rejected: &mut impl FnMut() -> bool) {
        for scope_spans in occurrences(resource_spans, 2) {
            // Keys are made at the first span that is stored, and again after a batch was sealed.
            let mut keys = None;
            for span in occurrences(scope_spans, 2) {
                if is_rejected() {
                    continue;
                }
                if self.is_full() {
                    self.seal();
                    keys = None;
                }
                let keys = *keys.get_or_insert_with(|| self.keys(resource_spans, scope_spans));
                self.walked += span.len();
                self.span(span, &keys);
            }
        }
    }

    fn keys(&mut self, resource_spans: &[u8], scope_spans: &[u8]) -> Keys {
        let resource_schema_url = self.resource_schema_url.key(last_bytes(resource_spans, 3));
        let scope_schema_url = self.scope_schema_url.key(last_bytes(scope_spans, 3));
        Keys { resource: self.resource(resource_spans), resource_schema_url, scope: self.scope(scope_spans), scope_schema_url }
    }

    fn resource(&mut self, resource_spans: &[u8]) -> ResourceKeys {
        let only = only_occurrence(resource_spans, 1);
        if let (Some(bytes), Some(keys)) = (only, self.envelope.resource_keys) {
            if bytes == self.envelope.resource {
                return keys;
            }
        }
        let mut text = std::mem::take(&mut self.envelope.scratch);
        text.clear();
        let mut service_name = None;
        let mut found = [None; 2];
        let (mut is_empty, mut dropped_attributes, mut has_entity_refs) = (true, 0, false);
        for field in occurrences(resource_spans, 1).flat_map(|resource| Fields::new(resource).map_while(Result::ok)) {
            match (field.number, field.wire) {
                (1, Wire::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute);
                    json::member(&mut text, is_empty, key, value);
                    is_empty = false;
                    let AnyValue::String(value) = value else { continue };
                    if key == b"service.name" && service_name.is_none() {
                        service_name = Some(value);
                    } else if let Some(index) = promoted::find_in_resource(key) {
                        if let Some(slot) = found.iter_mut().find(|slot| slot.is_none_or(|(taken, _)| taken == index)) {
                            slot.get_or_insert((index, value));
                        }
                    }
                }
                (2, Wire::Varint(count)) => dropped_attributes = i64::from(count as u32),
                (3, Wire::Bytes(_)) => has_entity_refs = true,
                _ => {}
            }
        }
        json::end_object(&mut text, is_empty);
        let attributes = self.resource_attributes.key(&text);
        let entity_refs = has_entity_refs.then(|| {
            text.clear();
            write_entity_refs(&mut text, resource_spans);
            self.resource_entity_refs.key(&text)
        });
        self.walked += text.len();
        self.envelope.scratch = text;
        let keys = ResourceKeys {
            service_name: self.service_name.key(service_name.unwrap_or(UNKNOWN_SERVICE)),
            attributes,
            entity_refs,
            dropped_attributes,
            promoted: found.map(|found| found.and_then(|(index, value)| Some((index, self.promoted_key(index, value)?)))),
        };
        if let Some(bytes) = only {
            self.envelope.resource.clear();
            self.envelope.resource.extend_from_slice(bytes);
            self.envelope.resource_keys = Some(keys);
        }
        keys
    }

    fn scope(&mut self, scope_spans: &[u8]) -> ScopeKeys {
        let only = only_occurrence(scope_spans, 1);
        if let (Some(bytes), Some(keys)) = (only, self.envelope.scope_keys) {
            if bytes == self.envelope.scope {
                return keys;
            }
        }
        let mut text = std::mem::take(&mut self.envelope.scratch);
        text.clear();
        let (mut name, mut version): (&[u8], &[u8]) = (&[], &[]);
        let (mut is_empty, mut dropped_attributes) = (true, 0);
        for field in occurrences(scope_spans, 1).flat_map(|scope| Fields::new(scope).map_while(Result::ok)) {
            match (field.number, field.wire) {
                (1, Wire::Bytes(bytes)) => name = bytes,
                (2, Wire::Bytes(bytes)) => version = bytes,
                (3, Wire::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute);
                    json::member(&mut text, is_empty, key, value);
                    is_empty = false;
                }
                (4, Wire::Varint(count)) => dropped_attributes = i64::from(count as u32),
                _ => {}
            }
        }
        json::end_object(&mut text, is_empty);
        let keys = ScopeKeys {
            name: self.scope_name.key(name),
            version: self.scope_version.key(version),
            attributes: self.scope_attributes.key(&text),
            dropped_attributes,
        };
        self.walked += text.len();
        self.envelope.scratch = text;
        if let Some(bytes) = only {
            self.envelope.scope.clear();
            self.envelope.scope.extend_from_slice(bytes);
            self.envelope.scope_keys = Some(keys);
        }
        keys
    }

    fn span(&mut self, span: &[u8], keys: &Keys) {
        let row = self.rows;
        let (mut trace_id, mut span_id, mut parent_span_id): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let (mut name, mut trace_state): (&[u8], &[u8]) = (&[], &[]);
        let (mut kind, mut start, mut end, mut flags) = (0, 0, 0, 0);
        let (mut dropped_attributes, mut dropped_events, mut dropped_links) = (0, 0, 0);
        let (mut status_code, mut status_message): (i32, &[u8]) = (0, &[]);
        let mut has_attributes = false;
        for Field { number, wire } in Fields::new(span).map_while(Result::ok) {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => trace_id = bytes,
                (2, Wire::Bytes(bytes)) => span_id = bytes,
                (3, Wire::Bytes(bytes)) => trace_state = bytes,
                (4, Wire::Bytes(bytes)) => parent_span_id = bytes,
                (5, Wire::Bytes(bytes)) => name = bytes,
                (6, Wire::Varint(value)) => kind = value as i32,
                (7, Wire::Fixed64(value)) => start = value as i64,
                (8, Wire::Fixed64(value)) => end = value as i64,
                (9, Wire::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute);
                    json::member(self.attributes.open(), !has_attributes, key, value);
                    has_attributes = true;
                    self.derive_from_span(row, key, value);
                }
                (10, Wire::Varint(value)) => dropped_attributes = value as u32,
                (11, Wire::Bytes(event)) => self.event(row, event),
                (12, Wire::Varint(value)) => dropped_events = value as u32,
                (13, Wire::Bytes(link)) => self.links.push(link),
                (14, Wire::Varint(value)) => dropped_links = value as u32,
                (15, Wire::Bytes(status)) => {
                    for Field { number, wire } in Fields::new(status).map_while(Result::ok) {
                        match (number, wire) {
                            (2, Wire::Bytes(bytes)) => status_message = bytes,
                            (3, Wire::Varint(value)) => status_code = value as i32,
                            _ => {}
                        }
                    }
                }
                (16, Wire::Fixed32(value)) => flags = value,
                _ => {}
            }
        }

        self.trace_id.push(&fixed::<16>(trace_id));
        self.span_id.push(&fixed::<8>(span_id));
        // Eight zeros are the invalid id, which names no parent.
        if parent_span_id.iter().any(|byte| *byte != 0) {
            self.parent_span_id.put(row, &fixed::<8>(parent_span_id));
        }
        self.start_unix_nano.push(start);
        self.duration_nano.push(end.wrapping_sub(start));
        self.service_name.put_key(row, keys.resource.service_name);
        self.name.put(row, name);
        match kind_name(kind) {
            Some(kind) => self.kind.put(row, kind.as_bytes()),
            None => self.kind.put(row, itoa::Buffer::new().format(kind).as_bytes()),
        }
        if status_code != 0 {
            self.status_code.put(row, status_code);
        }
        put_word(&mut self.status_message, row, status_message);
        put_word(&mut self.trace_state, row, trace_state);
        put_key(&mut self.scope_name, row, keys.scope.name);
        put_key(&mut self.scope_version, row, keys.scope.version);
        put_key(&mut self.scope_schema_url, row, keys.scope_schema_url);
        put_key(&mut self.resource_schema_url, row, keys.resource_schema_url);
        put_number(&mut self.flags, row, flags);
        put_number(&mut self.dropped_attributes, row, dropped_attributes);
        put_number(&mut self.dropped_events, row, dropped_events);
        put_number(&mut self.dropped_links, row, dropped_links);
        if keys.resource.dropped_attributes != 0 {
            self.resource_dropped_attributes.put(row, keys.resource.dropped_attributes);
        }
        if keys.scope.dropped_attributes != 0 {
            self.scope_dropped_attributes.put(row, keys.scope.dropped_attributes);
        }
        json::end_object(self.attributes.open(), !has_attributes);
        self.attributes.seal(row);
        self.resource_attributes.put_key(row, keys.resource.attributes);
        self.scope_attributes.put_key(row, keys.scope.attributes);
        if let Some(key) = keys.resource.entity_refs {
            self.resource_entity_refs.put_key(row, key);
        }
        for (index, key) in keys.resource.promoted.into_iter().flatten() {
            self.put_promoted_key(row, index, key);
        }
        self.events.end_row(row);
        self.links.end_row(row);
        self.end_derived(row);
        self.rows += 1;
    }

    fn event(&mut self, row: usize, event: &[u8]) {
        let mut derivation = EventDerivation::default();
        let name = self.events.push(event, |key, value| derivation.see(key, value));
        self.derive_from_event(row, name, &derivation, event);
    }
}

/// The name of an OTLP span kind, which is what the column holds; unknown numbers are held as their decimal digits.
pub(in crate::columns) const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];

fn kind_name(kind: i32) -> Option<&'static str> {
    KINDS.get(usize::try_from(kind).ok()?).copied()
}

fn write_entity_refs(out: &mut Vec<u8>, resource_spans: &[u8]) {
    let refs = occurrences(resource_spans, 1).flat_map(|resource| occurrences(resource, 3));
    for (index, entity_ref) in refs.enumerate() {
        out.extend_from_slice(if index == 0 { b"[{" } else { b",{" });
        for (name, number) in [("schema_url", 1), ("type", 2)] {
            json::string(out, name.as_bytes());
            out.push(b':');
            json::string(out, last_bytes(entity_ref, number));
            out.push(b',');
        }
        for (name, number) in [("id_keys", 3), ("description_keys", 4)] {
            json::string(out, name.as_bytes());
            out.extend_from_slice(b":[");
            for (index, key) in occurrences(entity_ref, number).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json::string(out, key);
            }
            out.extend_from_slice(if number == 3 { b"]," } else { b"]}" });
        }
    }
    out.push(b']');
}

#[inline]
fn put_key(column: &mut crate::columns::buffer::Words, row: usize, key: i32) {
    if key != 0 {
        column.put_key(row, key);
    }
}

#[inline]
fn put_word(column: &mut crate::columns::buffer::Words, row: usize, word: &[u8]) {
    if !word.is_empty() {
        column.put(row, word);
    }
}

#[inline]
fn put_number(column: &mut crate::columns::buffer::Numbers<arrow::datatypes::Int64Type>, row: usize, value: u32) {
    if value != 0 {
        column.put(row, i64::from(value));
    }
}

/// An id of the length its column has; judged ids have it already.
#[inline]
pub(super) fn fixed<const N: usize>(id: &[u8]) -> [u8; N] {
    id.try_into().unwrap_or([0; N])
}

/// The length-delimited fields `number` of a message.
#[inline]
pub(in crate::columns) fn occurrences(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).map_while(Result::ok).filter_map(move |field| match field.wire {
        Wire::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

fn last_bytes(message: &[u8], number: u32) -> &[u8] {
    occurrences(message, number).last().unwrap_or_default()
}

/// The field `number` of a message when it is there exactly once.
fn only_occurrence(message: &[u8], number: u32) -> Option<&[u8]> {
    let mut all = occurrences(message, number);
    let first = all.next()?;
    all.next().is_none().then_some(first)
}
