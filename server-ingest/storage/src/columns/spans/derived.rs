//! Columns that repeat what an attribute says: the promoted ones and Scouter's. Nothing is taken from the attributes.

use super::{PromotedColumn, SpanColumns};
use crate::columns::json;
use crate::columns::keys::Derivation;
use crate::columns::promoted::{EXCEPTION_MESSAGE, EXCEPTION_TYPE};
use crate::otlp::{AnyValue, key_value};

use super::walk::occurrences;

const INPUT: &[u8] = b"scouter.tracing.input";
const OUTPUT: &[u8] = b"scouter.tracing.output";
const TAG_PREFIXES: [&[u8]; 2] = [b"scouter.tracing.tag.", b"baggage.scouter.tracing.tag."];
const ENTITY: &[u8] = b"scouter.entity";
const ENTITY_PREFIX: &[u8] = b"scouter.entity.";
const QUEUE_RECORD: &[u8] = b"scouter.queue.record";

/// What an event's attributes say before its name is known.
#[derive(Default)]
pub(super) struct EventDerivation<'a> {
    exception_type: Option<&'a [u8]>,
    exception_message: Option<&'a [u8]>,
    is_of_scouter: bool,
}

impl<'a> EventDerivation<'a> {
    #[inline]
    pub(super) fn see(&mut self, key: &[u8], value: AnyValue<'a>) {
        match (key.first(), value) {
            (Some(b'e'), AnyValue::String(text)) if key == b"exception.type" => _ = self.exception_type.get_or_insert(text),
            (Some(b'e'), AnyValue::String(text)) if key == b"exception.message" => _ = self.exception_message.get_or_insert(text),
            (Some(b's'), _) => self.is_of_scouter |= key.starts_with(b"scouter."),
            _ => {}
        }
    }
}

impl SpanColumns {
    #[inline]
    pub(super) fn derive_from_span(&mut self, row: usize, derivation: Derivation, key: &[u8], value: AnyValue<'_>) {
        match derivation {
            Derivation::Nothing => {}
            Derivation::Promoted(index) => self.promote(row, index, value),
            Derivation::OfScouter => self.derive_scouter(row, key, value),
            Derivation::OfOpenInference(member) => self.hear(member, value),
        }
    }

    #[inline]
    pub(super) fn derive_from_event(&mut self, row: usize, name: &[u8], derivation: &EventDerivation<'_>, event: &[u8]) {
        if name == b"exception" {
            let found = [(EXCEPTION_TYPE, derivation.exception_type), (EXCEPTION_MESSAGE, derivation.exception_message)];
            for (index, text) in found.into_iter().filter_map(|(index, text)| Some((index, text?))) {
                self.promote(row, index, AnyValue::String(text));
            }
        }
        if derivation.is_of_scouter {
            for (key, value) in occurrences(event, 3).map(key_value) {
                self.derive_link(row, key, value);
            }
        }
    }

    /// Ends the object in `tags` if one was begun.
    #[inline]
    pub(super) fn end_derived(&mut self, row: usize) {
        if self.tags.is_open() {
            json::end_object(self.tags.open(), false);
            self.tags.seal(row);
        }
    }

    /// The dictionary key of a promoted word.
    pub(super) fn promoted_key(&mut self, index: usize, word: &[u8]) -> Option<i32> {
        match &mut self.promoted[index] {
            PromotedColumn::Word(words) => Some(words.key(word)),
            PromotedColumn::Text(_) | PromotedColumn::Integer(_) => None,
        }
    }

    /// Puts a word that [`Self::promoted_key`] knows, unless the span itself had one.
    pub(super) fn put_promoted_key(&mut self, row: usize, index: usize, key: i32) {
        if let PromotedColumn::Word(words) = &mut self.promoted[index]
            && !words.has(row)
        {
            words.put_key(row, key);
        }
    }

    #[inline]
    fn promote(&mut self, row: usize, index: usize, value: AnyValue<'_>) {
        match (&mut self.promoted[index], value) {
            (PromotedColumn::Word(words), AnyValue::String(text)) if !words.has(row) => words.put(row, text),
            (PromotedColumn::Text(texts), AnyValue::String(text)) if !texts.has(row) => texts.put(row, text),
            (PromotedColumn::Integer(numbers), AnyValue::Int(value)) if !numbers.has(row) => numbers.put(row, value),
            _ => {}
        }
    }

    fn derive_scouter(&mut self, row: usize, key: &[u8], value: AnyValue<'_>) {
        if let Some(tag) = TAG_PREFIXES.iter().find_map(|prefix| key.strip_prefix(*prefix)) {
            let is_first = !self.tags.is_open();
            json::member(self.tags.open(), is_first, tag, value);
        } else if key == INPUT || key == OUTPUT {
            let column = if key == INPUT { &mut self.input } else { &mut self.output };
            if column.has(row) {
                return;
            }
            match value {
                AnyValue::String(text) => column.put(row, text),
                other => {
                    json::write(column.open(), other, 1);
                    column.seal(row);
                }
            }
        } else {
            self.derive_link(row, key, value);
        }
    }

    /// What binds a span to an evaluation profile or record.
    fn derive_link(&mut self, row: usize, key: &[u8], value: AnyValue<'_>) {
        let text = match value {
            AnyValue::String(text) => text,
            _ => &[],
        };
        if key == QUEUE_RECORD && !text.is_empty() {
            self.queue_ids.push_distinct(row, text);
        } else if key == ENTITY && !text.is_empty() {
            self.entity_ids.push_distinct(row, text);
        } else if let Some(uid) = key.strip_prefix(ENTITY_PREFIX) {
            let uid = if text.is_empty() { uid } else { text };
            if !uid.is_empty() {
                self.entity_ids.push_distinct(row, uid);
            }
        }
    }
}
