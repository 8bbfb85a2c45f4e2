//! The attribute keys of spans, each with what the walk would otherwise work out at every attribute.
//!
//! Spans of a kind have the same keys in the same order, so the key that followed one the last time is compared first. What
//! is remembered is bounded; a key that is not is treated as every key would be without this.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::json;
use super::promoted::{self, PROMOTED, Source};
use super::spans::Member;

/// Keys that are remembered.
const MAX_KEYS: usize = 1024;

/// Longer keys are not.
const LONGEST_KEY: usize = 128;

/// Stands before the first key of a span.
const START: u16 = 0;

/// What has to be done with an attribute beside writing it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derivation {
    Nothing,
    /// It may have a column of its own, by its index in [`PROMOTED`].
    Promoted(usize),
    /// It may say something about the columns that Scouter derives.
    OfScouter,
    /// It is one of OpenInference's.
    OfOpenInference(Member),
}

impl Derivation {
    pub(super) fn of(key: &[u8]) -> Self {
        match promoted::find(key) {
            Some(index) if PROMOTED[index].source == Source::ExceptionEvent => Self::Nothing,
            Some(index) => Self::Promoted(index),
            None if key.starts_with(b"scouter.") || key.starts_with(b"baggage.") => Self::OfScouter,
            None => Member::of(key).map_or(Self::Nothing, Self::OfOpenInference),
        }
    }
}

#[derive(Debug)]
struct Key {
    key: Vec<u8>,
    /// `,"key":`
    json: Vec<u8>,
    derivation: Derivation,
    /// The key that came after it the last time.
    next: u16,
}

/// The keys that were seen.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<Key>,
    places: HashTable<u16>,
    hasher: DefaultHashBuilder,
    last: u16,
}

impl Keys {
    pub(super) fn new() -> Self {
        let start = Key { key: Vec::new(), json: Vec::new(), derivation: Derivation::Nothing, next: START };
        Self { known: vec![start], places: HashTable::new(), hasher: DefaultHashBuilder::default(), last: START }
    }

    /// The next key is the first of a span.
    #[inline]
    pub(super) fn begin_span(&mut self) {
        self.last = START;
    }

    /// Writes `key` as a member of an object of attributes, up to the value, and says what else is to be done.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Vec<u8>, is_first: bool, key: &[u8]) -> Derivation {
        let guess = self.known[usize::from(self.last)].next;
        let place = if guess != START && self.known[usize::from(guess)].key == key { Some(guess) } else { self.find_or_add(key) };
        let Some(place) = place else {
            json::key(out, is_first, key);
            return Derivation::of(key);
        };
        self.last = place;
        let known = &self.known[usize::from(place)];
        if is_first {
            out.push(b'{');
            out.extend_from_slice(&known.json[1..]);
        } else {
            out.extend_from_slice(&known.json);
        }
        known.derivation
    }

    #[inline(never)]
    fn find_or_add(&mut self, key: &[u8]) -> Option<u16> {
        if key.len() > LONGEST_KEY {
            return None;
        }
        let Self { known, places, hasher, last } = self;
        let hash = hasher.hash_one(key);
        let place = match places.find(hash, |place| known[usize::from(*place)].key == key) {
            Some(place) => *place,
            None if known.len() > MAX_KEYS => return None,
            None => {
                let place = known.len() as u16;
                let mut text = Vec::new();
                json::key(&mut text, false, key);
                known.push(Key { key: key.to_owned(), json: text, derivation: Derivation::of(key), next: START });
                places.insert_unique(hash, place, |place| hasher.hash_one(known[usize::from(*place)].key.as_slice()));
                place
            }
        };
        known[usize::from(*last)].next = place;
        Some(place)
    }
}

#[cfg(test)]
mod tests;
