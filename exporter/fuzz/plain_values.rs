//! Plain values out of arbitrary bytes, written by the encoder, read by prost, and compared with what they were.
//!
//! Shared by the fuzz target and by the test that runs the kept corpus.

use std::fmt::Debug;

use bumpalo::Bump;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value},
    trace::v1::{Span, Status, span},
};
use prost::Message;
use scouter_exporter::{
    encode::{LinkRef, SpanHead, SpanWriter, StatusRef, ValueRef},
    opentelemetry::trace::SpanKind,
};

/// Values nest up to here; the encoder's own limit is far above.
const MAX_DEPTH: usize = 4;

/// Reads values from bytes; past their end everything is zero.
struct Source<'d>(&'d [u8]);

impl<'d> Source<'d> {
    fn bytes(&mut self, len: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const LEN: usize>(&mut self) -> [u8; LEN] {
        let mut array = [0; LEN];
        let taken = self.bytes(LEN);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn word(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    fn count(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// Up to 255 bytes, or up to 65535 of one letter.
    fn text<'b>(&mut self, bump: &'b Bump) -> &'b str {
        let text = match self.byte() {
            255 => "x".repeat(usize::from(u16::from_be_bytes(self.array()))),
            len => String::from_utf8_lossy(self.bytes(usize::from(len))).into_owned(),
        };
        bump.alloc_str(&text)
    }

    fn value<'b>(&mut self, bump: &'b Bump, depth: usize) -> ValueRef<'b> {
        match self.byte() % 12 {
            0 => ValueRef::None,
            1 => ValueRef::Bool(self.byte() & 1 == 1),
            2 => ValueRef::I64(self.word() as i64),
            3 => ValueRef::I64(i64::from(self.byte() as i8)),
            4 => ValueRef::F64(f64::from_bits(self.word())),
            5 => {
                let len = usize::from(self.byte());
                ValueRef::Bytes(bump.alloc_slice_copy(self.bytes(len)))
            }
            6 if depth < MAX_DEPTH => {
                let len = self.byte() % 8;
                let values: Vec<ValueRef<'b>> = (0..len).map(|_| self.value(bump, depth + 1)).collect();
                ValueRef::Array(bump.alloc_slice_copy(&values))
            }
            7 if depth < MAX_DEPTH => ValueRef::Map(self.attributes(bump, depth + 1)),
            8 => {
                let len = usize::from(self.byte());
                let values: Vec<bool> = self.bytes(len).iter().map(|byte| byte & 1 == 1).collect();
                ValueRef::Bools(bump.alloc_slice_copy(&values))
            }
            9 => {
                let len = self.byte() % 32;
                let values: Vec<i64> = (0..len).map(|_| self.word() as i64).collect();
                ValueRef::I64s(bump.alloc_slice_copy(&values))
            }
            10 => {
                let len = self.byte() % 32;
                let values: Vec<f64> = (0..len).map(|_| f64::from_bits(self.word())).collect();
                ValueRef::F64s(bump.alloc_slice_copy(&values))
            }
            _ => ValueRef::Str(self.text(bump)),
        }
    }

    fn attributes<'b>(&mut self, bump: &'b Bump, depth: usize) -> &'b [(&'b str, ValueRef<'b>)] {
        let len = self.byte() % 48;
        let mut attributes = Vec::new();
        for _ in 0..len {
            if self.0.is_empty() {
                break;
            }
            attributes.push((self.text(bump), self.value(bump, depth)));
        }
        bump.alloc_slice_copy(&attributes)
    }
}

/// Of repeated keys the last one counts, at its own place.
fn key_values(attributes: &[(&str, ValueRef<'_>)]) -> Vec<KeyValue> {
    let is_last = |index: usize| attributes[index + 1..].iter().all(|(key, _)| *key != attributes[index].0);
    let kept = attributes.iter().enumerate().filter(|(index, _)| is_last(*index));
    kept.map(|(_, (key, value))| KeyValue { key: (*key).to_owned(), value: Some(any_value(value)), ..KeyValue::default() }).collect()
}

fn any_value(value: &ValueRef<'_>) -> AnyValue {
    use any_value::Value;
    let array = |values: Vec<AnyValue>| Some(Value::ArrayValue(ArrayValue { values }));
    let any = |value| AnyValue { value: Some(value) };
    let value = match *value {
        ValueRef::None => None,
        ValueRef::Str(text) => Some(Value::StringValue(text.to_owned())),
        ValueRef::Bool(truth) => Some(Value::BoolValue(truth)),
        ValueRef::I64(number) => Some(Value::IntValue(number)),
        ValueRef::F64(number) => Some(Value::DoubleValue(number)),
        ValueRef::Bytes(bytes) => Some(Value::BytesValue(bytes.to_vec())),
        ValueRef::Array(values) => array(values.iter().map(any_value).collect()),
        ValueRef::Map(entries) => Some(Value::KvlistValue(KeyValueList { values: key_values(entries) })),
        ValueRef::Bools(values) => array(values.iter().map(|value| any(Value::BoolValue(*value))).collect()),
        ValueRef::I64s(values) => array(values.iter().map(|value| any(Value::IntValue(*value))).collect()),
        ValueRef::F64s(values) => array(values.iter().map(|value| any(Value::DoubleValue(*value))).collect()),
        ValueRef::Strings(values) => array(values.iter().map(|value| any(Value::StringValue(value.to_string()))).collect()),
    };
    AnyValue { value }
}

/// NaN equals nothing, itself included; its text does.
fn assert_same<T: PartialEq + Debug>(written: &T, expected: &T) {
    if written != expected {
        assert_eq!(format!("{written:?}"), format!("{expected:?}"));
    }
}

/// The whole check.
pub(crate) fn check(data: &[u8]) {
    let bump = Bump::new();
    let mut source = Source(data);
    let choices = source.byte();
    let kinds = [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
    let kind = usize::from(source.byte()) % kinds.len();
    let head = SpanHead {
        trace_id: source.array(),
        span_id: source.array(),
        parent_span_id: (choices & 1 == 1).then(|| source.array()),
        parent_is_remote: choices & 2 == 2,
        trace_flags: source.byte(),
        trace_state: source.text(&bump),
        name: source.text(&bump),
        kind: kinds[kind].clone(),
        start_unix_nano: source.word(),
        end_unix_nano: source.word(),
    };
    let flags = |flags: u8, is_remote: bool| u32::from(flags) | 0x100 | if is_remote { 0x200 } else { 0 };
    let mut expected = Span {
        trace_id: head.trace_id.to_vec(),
        span_id: head.span_id.to_vec(),
        trace_state: head.trace_state.to_owned(),
        parent_span_id: head.parent_span_id.map(Vec::from).unwrap_or_default(),
        flags: flags(head.trace_flags, head.parent_is_remote),
        name: head.name.to_owned(),
        kind: kind as i32 + 1,
        start_time_unix_nano: head.start_unix_nano,
        end_time_unix_nano: head.end_unix_nano,
        ..Span::default()
    };
    let mut buffer = Vec::new();
    let mut writer = SpanWriter::begin(&mut buffer, &head);
    let attributes = source.attributes(&bump, 0);
    writer.attributes(attributes);
    expected.attributes = key_values(attributes);
    for _ in 0..choices >> 2 & 3 {
        let (name, time_unix_nano, dropped_attributes_count) = (source.text(&bump), source.word(), source.count());
        let attributes = source.attributes(&bump, 0);
        writer.event(name, time_unix_nano, attributes, dropped_attributes_count);
        let (name, attributes) = (name.to_owned(), key_values(attributes));
        expected.events.push(span::Event { time_unix_nano, name, attributes, dropped_attributes_count });
    }
    for _ in 0..choices >> 4 & 3 {
        let link = LinkRef {
            trace_id: source.array(),
            span_id: source.array(),
            trace_state: source.text(&bump),
            trace_flags: source.byte(),
            is_remote: source.byte() & 1 == 1,
            attributes: source.attributes(&bump, 0),
            dropped_attributes: source.count(),
        };
        writer.link(&link);
        expected.links.push(span::Link {
            trace_id: link.trace_id.to_vec(),
            span_id: link.span_id.to_vec(),
            trace_state: link.trace_state.to_owned(),
            attributes: key_values(link.attributes),
            dropped_attributes_count: link.dropped_attributes,
            flags: flags(link.trace_flags, link.is_remote),
        });
    }
    let description = source.text(&bump);
    let (status, code, message) = match choices >> 6 {
        0 => (StatusRef::Unset, 0, ""),
        1 => (StatusRef::Ok, 1, ""),
        _ => (StatusRef::Error(description), 2, description),
    };
    writer.status(status);
    expected.status = Some(Status { code, message: message.to_owned() });
    let (attributes, events, links) = (source.count(), source.count(), source.count());
    writer.dropped(attributes, events, links);
    expected.dropped_attributes_count = attributes;
    expected.dropped_events_count = events;
    expected.dropped_links_count = links;
    match Span::decode(buffer.as_slice()) {
        Ok(written) => assert_same(&written, &expected),
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}
