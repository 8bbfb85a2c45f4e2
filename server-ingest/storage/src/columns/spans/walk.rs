//! From the bytes of a request to rows.

use arrow::datatypes::Int64Type;

use super::SpanColumns;
use super::derived::EventDerivation;
use super::envelope::Head;
use crate::columns::buffer::{Numbers, Words};
use crate::columns::json;
use crate::otlp::{Field, Fields, Wire, key_value};

impl SpanColumns {
    /// Adds the spans of one `ResourceSpans`; `is_rejected` is asked once for each, in order.
    pub(in crate::columns) fn append(&mut self, resource_spans: &[u8], is_rejected: &mut impl FnMut() -> bool) {
        let resource_head = Head::read(resource_spans);
        for scope_spans in occurrences(resource_spans, 2) {
            let mut scope_head = Head::new(scope_spans);
            // Keys of the resource are made at the first span that is stored, and again after a batch was sealed.
            let mut resource = None;
            let mut run_start = self.rows;
            for field in Fields::new(scope_spans).readable() {
                let (2, Wire::Bytes(span)) = (field.number, field.wire) else {
                    scope_head.see(field);
                    continue;
                };
                if is_rejected() {
                    continue;
                }
                if self.is_full() {
                    if let Some(resource) = resource.take() {
                        let scope = self.scope(&Head::read(scope_spans));
                        self.end_run(run_start, &resource, &scope);
                    }
                    self.seal();
                    run_start = 0;
                }
                let keys = resource.get_or_insert_with(|| self.resource(&resource_head));
                self.walked += span.len();
                self.span(span, &keys.promoted);
            }
            if let Some(resource) = resource {
                let scope = self.scope(&scope_head);
                self.end_run(run_start, &resource, &scope);
            }
        }
    }

    fn span(&mut self, span: &[u8], resource_words: &[Option<(usize, i32)>]) {
        let row = self.rows;
        let (mut trace_id, mut span_id, mut parent_span_id): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let (mut name, mut trace_state): (&[u8], &[u8]) = (&[], &[]);
        let (mut kind, mut start, mut end, mut flags) = (0, 0, 0, 0);
        let (mut dropped_attributes, mut dropped_events, mut dropped_links) = (0, 0, 0);
        let (mut status_code, mut status_message): (i32, &[u8]) = (0, &[]);
        let mut has_attributes = false;
        self.keys.begin_span();
        for Field { number, wire } in Fields::new(span).readable() {
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
                    let derivation = self.keys.write(self.attributes.open(), !has_attributes, key);
                    json::write(self.attributes.open(), value, 1);
                    has_attributes = true;
                    self.derive_from_span(row, derivation, key, value);
                }
                (10, Wire::Varint(value)) => dropped_attributes = value as u32,
                (11, Wire::Bytes(event)) => self.event(row, event),
                (12, Wire::Varint(value)) => dropped_events = value as u32,
                (13, Wire::Bytes(link)) => self.links.push(link),
                (14, Wire::Varint(value)) => dropped_links = value as u32,
                (15, Wire::Bytes(status)) => {
                    for Field { number, wire } in Fields::new(status).readable() {
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
        self.name.put(row, name);
        match usize::try_from(kind).ok().and_then(|kind| *self.kinds.get(kind)?) {
            Some(key) => self.kind.put_key(row, key),
            None => self.put_kind(row, kind),
        }
        if status_code != 0 {
            self.status_code.put(row, status_code);
        }
        put_word(&mut self.status_message, row, status_message);
        put_word(&mut self.trace_state, row, trace_state);
        put_number(&mut self.flags, row, flags);
        put_number(&mut self.dropped_attributes, row, dropped_attributes);
        put_number(&mut self.dropped_events, row, dropped_events);
        put_number(&mut self.dropped_links, row, dropped_links);
        json::end_object(self.attributes.open(), !has_attributes);
        self.attributes.seal(row);
        for &(index, key) in resource_words.iter().flatten() {
            self.put_promoted_key(row, index, key);
        }
        self.events.end_row(row);
        self.links.end_row(row);
        self.end_said(row);
        self.end_derived(row);
        self.rows += 1;
    }

    /// The first of its kind in the batch, or one without a name.
    #[cold]
    fn put_kind(&mut self, row: usize, kind: i32) {
        let key = match kind_name(kind) {
            Some(name) => self.kind.key(name.as_bytes()),
            None => self.kind.key(itoa::Buffer::new().format(kind).as_bytes()),
        };
        if let Some(known) = usize::try_from(kind).ok().and_then(|kind| self.kinds.get_mut(kind)) {
            *known = Some(key);
        }
        self.kind.put_key(row, key);
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

#[inline]
fn put_word(column: &mut Words, row: usize, word: &[u8]) {
    if !word.is_empty() {
        column.put(row, word);
    }
}

#[inline]
fn put_number(column: &mut Numbers<Int64Type>, row: usize, value: u32) {
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
    Fields::new(message).readable().filter_map(move |field| match field.wire {
        Wire::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}
