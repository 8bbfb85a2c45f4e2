//! The list columns `events` and `links`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StructArray};
use arrow::datatypes::Int64Type;

use super::walk::fixed;
use crate::columns::buffer::{Blank, Ends, Ids, Numbers, Text, renew};
use crate::columns::json;
use crate::columns::table::{event_fields, link_fields, struct_element};
use crate::otlp::{AnyValue, Field, Fields, Wire, key_value};

#[derive(Debug)]
pub(super) struct Events {
    ends: Ends,
    count: usize,
    row_start: usize,
    time_unix_nano: Vec<i64>,
    name: Text,
    attributes: Text,
    dropped_attributes: Numbers<Int64Type>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            ends: Ends::new(),
            count: 0,
            row_start: 0,
            time_unix_nano: Vec::new(),
            name: Text::required(),
            attributes: Text::required(),
            dropped_attributes: Numbers::required(),
        }
    }

    /// Adds one `Event` to the open row and shows its attributes to `see`; answers its name.
    #[inline]
    pub(super) fn push<'a>(&mut self, event: &'a [u8], mut see: impl FnMut(&'a [u8], AnyValue<'a>)) -> &'a [u8] {
        let (mut time, mut name, mut dropped): (i64, &[u8], u32) = (0, &[], 0);
        let mut has_attributes = false;
        for Field { number, wire } in Fields::new(event).readable() {
            match (number, wire) {
                (1, Wire::Fixed64(value)) => time = value as i64,
                (2, Wire::Bytes(bytes)) => name = bytes,
                (3, Wire::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute);
                    json::member(self.attributes.open(), !has_attributes, key, value);
                    has_attributes = true;
                    see(key, value);
                }
                (4, Wire::Varint(value)) => dropped = value as u32,
                _ => {}
            }
        }
        json::end_object(self.attributes.open(), !has_attributes);
        self.attributes.seal(self.count);
        self.time_unix_nano.push(time);
        self.name.put(self.count, name);
        if dropped != 0 {
            self.dropped_attributes.put(self.count, i64::from(dropped));
        }
        self.count += 1;
        name
    }

    #[inline]
    pub(super) fn end_row(&mut self, row: usize) {
        if self.count > self.row_start {
            self.ends.put(row, self.count);
            self.row_start = self.count;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.ends.bytes() + self.count * 8 + self.name.bytes() + self.attributes.bytes() + self.dropped_attributes.bytes()
    }

    pub(super) fn finish(&mut self, blank: &Blank) -> ArrayRef {
        let inner = Blank::new(self.count);
        let time = Int64Array::from(renew(&mut self.time_unix_nano));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(time),
            Arc::new(self.name.finish_strings(&inner)),
            Arc::new(self.attributes.finish_strings(&inner)),
            Arc::new(self.dropped_attributes.finish(&inner)),
        ];
        (self.count, self.row_start) = (0, 0);
        let events = StructArray::new(event_fields(), columns, None);
        self.ends.finish_lists(blank, struct_element(event_fields()), Arc::new(events))
    }
}

#[derive(Debug)]
pub(super) struct Links {
    ends: Ends,
    count: usize,
    row_start: usize,
    trace_id: Ids,
    span_id: Ids,
    trace_state: Text,
    flags: Numbers<Int64Type>,
    attributes: Text,
    dropped_attributes: Numbers<Int64Type>,
}

impl Links {
    pub(super) fn new() -> Self {
        Self {
            ends: Ends::new(),
            count: 0,
            row_start: 0,
            trace_id: Ids::default(),
            span_id: Ids::default(),
            trace_state: Text::required(),
            flags: Numbers::required(),
            attributes: Text::required(),
            dropped_attributes: Numbers::required(),
        }
    }

    /// Adds one `Link` to the open row.
    pub(super) fn push(&mut self, link: &[u8]) {
        let (mut trace_id, mut span_id, mut trace_state): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let (mut dropped, mut flags) = (0, 0);
        let mut has_attributes = false;
        for Field { number, wire } in Fields::new(link).readable() {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => trace_id = bytes,
                (2, Wire::Bytes(bytes)) => span_id = bytes,
                (3, Wire::Bytes(bytes)) => trace_state = bytes,
                (4, Wire::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute);
                    json::member(self.attributes.open(), !has_attributes, key, value);
                    has_attributes = true;
                }
                (5, Wire::Varint(value)) => dropped = value as u32,
                (6, Wire::Fixed32(value)) => flags = value,
                _ => {}
            }
        }
        self.trace_id.push(&fixed::<16>(trace_id));
        self.span_id.push(&fixed::<8>(span_id));
        if !trace_state.is_empty() {
            self.trace_state.put(self.count, trace_state);
        }
        if flags != 0 {
            self.flags.put(self.count, i64::from(flags));
        }
        json::end_object(self.attributes.open(), !has_attributes);
        self.attributes.seal(self.count);
        if dropped != 0 {
            self.dropped_attributes.put(self.count, i64::from(dropped));
        }
        self.count += 1;
    }

    #[inline]
    pub(super) fn end_row(&mut self, row: usize) {
        if self.count > self.row_start {
            self.ends.put(row, self.count);
            self.row_start = self.count;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.ends.bytes() + self.trace_id.bytes() + self.span_id.bytes() + self.trace_state.bytes() + self.attributes.bytes()
    }

    pub(super) fn finish(&mut self, blank: &Blank) -> ArrayRef {
        let inner = Blank::new(self.count);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish(self.count, 16)),
            Arc::new(self.span_id.finish(self.count, 8)),
            Arc::new(self.trace_state.finish_strings(&inner)),
            Arc::new(self.flags.finish(&inner)),
            Arc::new(self.attributes.finish_strings(&inner)),
            Arc::new(self.dropped_attributes.finish(&inner)),
        ];
        (self.count, self.row_start) = (0, 0);
        let links = StructArray::new(link_fields(), columns, None);
        self.ends.finish_lists(blank, struct_element(link_fields()), Arc::new(links))
    }
}
