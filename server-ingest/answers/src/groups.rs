//! What rows are folded into, by key: within a number of groups, and within the memory that questions have together.
//!
//! What is kept of a group differs a thousandfold: a count takes some bytes, the durations of a busy operation 15 KB. So each fold says by how
//! much it grew, and that is taken from the memory of queries as the rows are read, not when they are through.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use scouter_query::{QueryError, Reader};

/// Groups that are counted at all; names that hold ids would be without end.
pub(crate) const MOST_GROUPS: usize = 200_000;

/// What an entry of a map or set takes beside its key and value: some entries are always empty.
pub(crate) const ENTRY_BYTES: usize = 32;

/// Bytes for which memory is taken at once.
const HELD_BYTES: usize = 256 << 10;

/// What a key takes beside itself.
pub(crate) trait Key: Hash + Eq {
    fn heap_bytes(&self) -> usize;
}

impl Key for String {
    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

impl Key for &'static str {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Key for i64 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<K: Key> Key for Option<K> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, Key::heap_bytes)
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes()
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes() + self.2.heap_bytes()
    }
}

/// Values by key.
#[derive(Debug)]
pub(crate) struct Groups<K, V> {
    groups: HashMap<K, V>,
    /// Since it was last asked.
    grown: usize,
}

impl<K, V> Default for Groups<K, V> {
    fn default() -> Self {
        Self { groups: HashMap::new(), grown: 0 }
    }
}

impl<K: Key, V: Default> Groups<K, V> {
    /// The value of `key`, made if there is room for one more.
    pub(crate) fn of(&mut self, key: K) -> Result<&mut V, QueryError> {
        if !self.groups.contains_key(&key) {
            if self.groups.len() >= MOST_GROUPS {
                return Err(QueryError::TooManyRows { limit: MOST_GROUPS });
            }
            self.grown += size_of::<(K, V)>() + ENTRY_BYTES + key.heap_bytes();
        }
        Ok(self.groups.entry(key).or_default())
    }

    /// The value of a key that is there.
    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.groups.get_mut(key)
    }

    /// By how many bytes the keys and the values themselves have grown since this was asked the last time.
    pub(crate) fn grown(&mut self) -> usize {
        std::mem::take(&mut self.grown)
    }
}

impl<K, V> Groups<K, V> {
    pub(crate) fn into_map(self) -> HashMap<K, V> {
        self.groups
    }
}

impl<K, V> IntoIterator for Groups<K, V> {
    type Item = (K, V);
    type IntoIter = std::collections::hash_map::IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.groups.into_iter()
    }
}

/// Takes memory for what a fold keeps, some at a time.
#[derive(Debug, Default)]
pub(crate) struct Growth(usize);

impl Growth {
    /// It grew by so much.
    pub(crate) fn add(&mut self, reader: &Reader, bytes: usize) -> Result<(), QueryError> {
        self.0 += bytes;
        if self.0 >= HELD_BYTES { self.settle(reader) } else { Ok(()) }
    }

    /// Takes what is not taken yet.
    pub(crate) fn settle(&mut self, reader: &Reader) -> Result<(), QueryError> {
        reader.hold(std::mem::take(&mut self.0))
    }
}
