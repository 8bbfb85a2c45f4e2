//! What spans of one resource and one scope share, and the columns that hold it.
//!
//! These columns are filled by runs: once for all rows of a `ScopeSpans`, after they were walked. So nothing of them is done
//! for each span, and a scope that follows its spans on the wire needs no walk of its own.

use super::SpanColumns;
use super::walk::occurrences;
use crate::columns::buffer::Words;
use crate::columns::json;
use crate::columns::promoted;
use crate::otlp::{AnyValue, Field, Fields, Wire, key_value};

/// `service_name` of a resource without a string attribute `service.name`.
const UNKNOWN_SERVICE: &[u8] = b"unknown_service";

/// What every span of one resource shares, as keys of the dictionary columns of the open batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResourceKeys {
    service_name: i32,
    attributes: i32,
    entity_refs: Option<i32>,
    dropped_attributes: i64,
    schema_url: i32,
    /// `k8s.pod.name`, `k8s.namespace.name`: indexes of promoted columns with their keys.
    pub(super) promoted: [Option<(usize, i32)>; 2],
}

/// What every span of one scope shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeKeys {
    name: i32,
    version: i32,
    attributes: i32,
    dropped_attributes: i64,
    schema_url: i32,
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

/// What stands once in a `ResourceSpans` or a `ScopeSpans`: their resource or scope is field 1, their schema URL field 3.
/// Both may come after the spans.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    message: &'a [u8],
    /// The resource or scope, empty when absent; nothing when it is in pieces.
    only: Option<&'a [u8]>,
    pieces: usize,
    schema_url: &'a [u8],
}

impl<'a> Head<'a> {
    /// A head of which nothing was seen yet.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { message, only: Some(&[]), pieces: 0, schema_url: &[] }
    }

    pub(super) fn read(message: &'a [u8]) -> Self {
        let mut head = Self::new(message);
        Fields::new(message).readable().for_each(|field| head.see(field));
        head
    }

    /// The bytes of the resource or scope, in one piece or several.
    fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let rest = if self.only.is_none() { self.message } else { &[] };
        self.only.into_iter().chain(occurrences(rest, 1))
    }

    /// Takes up a field of the message if it belongs to the head.
    #[inline]
    pub(super) fn see(&mut self, field: Field<'a>) {
        match (field.number, field.wire) {
            (1, Wire::Bytes(bytes)) => {
                self.pieces += 1;
                self.only = (self.pieces == 1).then_some(bytes);
            }
            (3, Wire::Bytes(bytes)) => self.schema_url = bytes,
            _ => {}
        }
    }
}

impl SpanColumns {
    pub(super) fn resource(&mut self, head: &Head<'_>) -> ResourceKeys {
        let schema_url = self.resource_schema_url.key(head.schema_url);
        if let (Some(bytes), Some(keys)) = (head.only, self.envelope.resource_keys)
            && bytes == self.envelope.resource
        {
            return ResourceKeys { schema_url, ..keys };
        }
        let mut text = std::mem::take(&mut self.envelope.scratch);
        text.clear();
        let mut service_name = None;
        let mut found = [None; 2];
        let (mut is_empty, mut dropped_attributes, mut has_entity_refs) = (true, 0, false);
        for field in head.pieces().flat_map(|resource| Fields::new(resource).readable()) {
            match (field.number, field.wire) {
                (1, Wire::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute);
                    json::member(&mut text, is_empty, key, value);
                    is_empty = false;
                    let AnyValue::String(value) = value else { continue };
                    if key == b"service.name" && service_name.is_none() {
                        service_name = Some(value);
                    } else if let Some(index) = promoted::find_in_resource(key)
                        && let Some(slot) = found.iter_mut().find(|slot| slot.is_none_or(|(taken, _)| taken == index))
                    {
                        slot.get_or_insert((index, value));
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
            write_entity_refs(&mut text, head);
            self.resource_entity_refs.key(&text)
        });
        self.walked += text.len();
        self.envelope.scratch = text;
        let keys = ResourceKeys {
            service_name: self.service_name.key(service_name.unwrap_or(UNKNOWN_SERVICE)),
            attributes,
            entity_refs,
            dropped_attributes,
            schema_url,
            promoted: found.map(|found| found.and_then(|(index, value)| Some((index, self.promoted_key(index, value)?)))),
        };
        if let Some(bytes) = head.only {
            self.envelope.resource.clear();
            self.envelope.resource.extend_from_slice(bytes);
            self.envelope.resource_keys = Some(keys);
        }
        keys
    }

    pub(super) fn scope(&mut self, head: &Head<'_>) -> ScopeKeys {
        let schema_url = self.scope_schema_url.key(head.schema_url);
        if let (Some(bytes), Some(keys)) = (head.only, self.envelope.scope_keys)
            && bytes == self.envelope.scope
        {
            return ScopeKeys { schema_url, ..keys };
        }
        let mut text = std::mem::take(&mut self.envelope.scratch);
        text.clear();
        let (mut name, mut version): (&[u8], &[u8]) = (&[], &[]);
        let (mut is_empty, mut dropped_attributes) = (true, 0);
        for field in head.pieces().flat_map(|scope| Fields::new(scope).readable()) {
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
            schema_url,
        };
        self.walked += text.len();
        self.envelope.scratch = text;
        if let Some(bytes) = head.only {
            self.envelope.scope.clear();
            self.envelope.scope.extend_from_slice(bytes);
            self.envelope.scope_keys = Some(keys);
        }
        keys
    }

    /// Fills the columns of what is shared for the rows from `start`, which all came from one `ScopeSpans`.
    pub(super) fn end_run(&mut self, start: usize, resource: &ResourceKeys, scope: &ScopeKeys) {
        let rows = start..self.rows;
        self.service_name.put_run(rows.clone(), resource.service_name);
        self.resource_attributes.put_run(rows.clone(), resource.attributes);
        self.scope_attributes.put_run(rows.clone(), scope.attributes);
        let words = [
            (&mut self.resource_schema_url, resource.schema_url),
            (&mut self.scope_name, scope.name),
            (&mut self.scope_version, scope.version),
            (&mut self.scope_schema_url, scope.schema_url),
        ];
        for (column, key) in words {
            if key != Words::EMPTY {
                column.put_run(rows.clone(), key);
            }
        }
        if let Some(key) = resource.entity_refs {
            self.resource_entity_refs.put_run(rows.clone(), key);
        }
        if resource.dropped_attributes != 0 {
            self.resource_dropped_attributes.put_run(rows.clone(), resource.dropped_attributes);
        }
        if scope.dropped_attributes != 0 {
            self.scope_dropped_attributes.put_run(rows, scope.dropped_attributes);
        }
    }
}

fn write_entity_refs(out: &mut Vec<u8>, head: &Head<'_>) {
    let refs = head.pieces().flat_map(|resource| occurrences(resource, 3));
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

fn last_bytes(message: &[u8], number: u32) -> &[u8] {
    occurrences(message, number).last().unwrap_or_default()
}
