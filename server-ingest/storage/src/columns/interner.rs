//! The distinct strings of one dictionary column, numbered in order of first use.

use std::hash::BuildHasher;

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::buffer::string_array;

/// Hands out one key per distinct string. The empty string is always the key [`Interner::EMPTY`].
#[derive(Debug)]
pub(super) struct Interner {
    data: Vec<u8>,
    ends: Vec<i32>,
    keys: HashTable<i32>,
    hasher: DefaultHashBuilder,
    last: i32,
}

impl Interner {
    pub(super) const EMPTY: i32 = 0;

    /// Tables grown above this many strings are given back when a batch ends.
    const KEPT_CAPACITY: usize = 4096;

    pub(super) fn new() -> Self {
        Self { data: Vec::new(), ends: vec![0, 0], keys: HashTable::new(), hasher: DefaultHashBuilder::default(), last: Self::EMPTY }
    }

    /// The key of `word`, a new one if it was not seen in this batch.
    #[inline]
    pub(super) fn intern(&mut self, word: &[u8]) -> i32 {
        if word_at(&self.data, &self.ends, self.last) == word {
            return self.last;
        }
        if word.is_empty() {
            return Self::EMPTY;
        }
        self.find_or_add(word)
    }

    fn find_or_add(&mut self, word: &[u8]) -> i32 {
        let Self { data, ends, keys, hasher, .. } = self;
        let hash = hasher.hash_one(word);
        let key = match keys.find(hash, |key| word_at(data, ends, *key) == word) {
            Some(key) => *key,
            None => {
                let key = (ends.len() - 1) as i32;
                data.extend_from_slice(word);
                ends.push(i32::try_from(data.len()).expect("a batch is sealed long before 2 GiB"));
                keys.insert_unique(hash, key, |key| hasher.hash_one(word_at(data, ends, *key)));
                key
            }
        };
        self.last = key;
        key
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + size_of_val(self.ends.as_slice()) * 2
    }

    /// The strings in key order. The interner is as new.
    pub(super) fn finish(&mut self) -> StringArray {
        let ends = std::mem::replace(&mut self.ends, vec![0, 0]);
        let data = std::mem::take(&mut self.data);
        self.keys.clear();
        if self.keys.capacity() > Self::KEPT_CAPACITY {
            self.keys = HashTable::new();
        }
        self.last = Self::EMPTY;
        string_array(OffsetBuffer::new(ends.into()), Buffer::from_vec(data), None)
    }
}

#[inline]
fn word_at<'a>(data: &'a [u8], ends: &[i32], key: i32) -> &'a [u8] {
    &data[ends[key as usize] as usize..ends[key as usize + 1] as usize]
}
