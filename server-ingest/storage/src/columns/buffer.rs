//! Column buffers that become Arrow arrays without a copy.
//!
//! They are *sparse in time*: a row that has no value costs nothing when it passes; the gap is filled when a later row has
//! one, or at the end. A span touches some twenty of seventy columns, so this is most of what makes appending cheap. A
//! column without any value takes its buffers from [`Blank`], which all such columns of a batch share.
//!
//! Invariant: values are put in ascending row order, at most one a row (see `has`).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, BinaryArray, DictionaryArray, ListArray, PrimitiveArray, StringArray, StringBuilder};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{FieldRef, Int32Type};

use super::interner::Interner;

/// What the columns without a value in a batch are made of.
pub(super) struct Blank {
    rows: usize,
    zeros: Buffer,
    nulls: NullBuffer,
}

impl Blank {
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, zeros: Buffer::from_vec(vec![0u64; rows + 1]), nulls: NullBuffer::new_null(rows) }
    }
}

/// Which rows have a value, in columns where not all have.
#[derive(Debug, Default)]
struct Presence {
    bits: Vec<u64>,
    rows: usize,
}

impl Presence {
    fn set(&mut self, row: usize) {
        let word = row / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (row % 64);
        self.rows += 1;
    }

    fn finish(&mut self, rows: usize) -> Option<NullBuffer> {
        let Self { mut bits, rows: present } = std::mem::take(self);
        (present < rows).then(|| {
            bits.resize(rows.div_ceil(64), 0);
            NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
        })
    }
}

/// Numbers. A row without one is zero, or null in a nullable column.
#[derive(Debug)]
pub(super) struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    presence: Option<Presence>,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    pub(super) fn required() -> Self {
        Self { values: Vec::new(), presence: None }
    }

    pub(super) fn nullable() -> Self {
        Self { values: Vec::new(), presence: Some(Presence::default()) }
    }

    /// True when `row` has its value.
    #[inline]
    pub(super) fn has(&self, row: usize) -> bool {
        self.values.len() > row
    }

    #[inline]
    pub(super) fn put(&mut self, row: usize, value: T::Native) {
        debug_assert!(!self.has(row), "one value a row");
        if self.values.len() < row {
            self.values.resize(row, T::Native::default());
        }
        self.values.push(value);
        if let Some(presence) = &mut self.presence {
            presence.set(row);
        }
    }

    /// The same value for all `rows`.
    pub(super) fn put_run(&mut self, rows: Range<usize>, value: T::Native) {
        self.values.resize(rows.start, T::Native::default());
        self.values.resize(rows.end, value);
        if let Some(presence) = &mut self.presence {
            rows.for_each(|row| presence.set(row));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }

    pub(super) fn finish(&mut self, blank: &Blank) -> PrimitiveArray<T> {
        let nulls = self.presence.as_mut().map(|presence| presence.finish(blank.rows));
        if self.values.is_empty() {
            let nulls = nulls.map(|_| blank.nulls.clone());
            return PrimitiveArray::new(ScalarBuffer::new(blank.zeros.clone(), 0, blank.rows), nulls);
        }
        let mut values = renew(&mut self.values);
        values.resize(blank.rows, T::Native::default());
        PrimitiveArray::new(values.into(), nulls.flatten())
    }
}

/// The ends of values or lists of varying length.
#[derive(Debug)]
pub(super) struct Ends {
    ends: Vec<i32>,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { ends: vec![0] }
    }

    #[inline]
    pub(super) fn has(&self, row: usize) -> bool {
        self.ends.len() > row + 1
    }

    /// The value or list of `row` ends at `end`; rows between it and the row before it are empty.
    #[inline]
    pub(super) fn put(&mut self, row: usize, end: usize) {
        debug_assert!(!self.has(row), "one value a row");
        self.fill(row);
        self.ends.push(i32::try_from(end).expect("a batch is sealed long before 2 GiB"));
    }

    #[inline]
    fn fill(&mut self, rows: usize) {
        if self.ends.len() <= rows {
            let last = self.ends.last().copied().unwrap_or(0);
            self.ends.resize(rows + 1, last);
        }
    }

    /// Where the last value or list ends.
    #[inline]
    fn last(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.ends.as_slice())
    }

    pub(super) fn finish(&mut self, blank: &Blank) -> OffsetBuffer<i32> {
        if self.ends.len() == 1 {
            return OffsetBuffer::new(ScalarBuffer::new(blank.zeros.clone(), 0, blank.rows + 1));
        }
        self.fill(blank.rows);
        let ends = renew(&mut self.ends);
        self.ends.push(0);
        OffsetBuffer::new(ends.into())
    }

    /// Lists of `values`, one a row.
    pub(super) fn finish_lists(&mut self, blank: &Blank, element: FieldRef, values: ArrayRef) -> ArrayRef {
        Arc::new(ListArray::new(element, self.finish(blank), values, None))
    }
}

/// Strings or binaries. A row without one is empty, or null in a nullable column.
#[derive(Debug)]
pub(super) struct Text {
    data: Vec<u8>,
    ends: Ends,
    presence: Option<Presence>,
}

impl Text {
    pub(super) fn required() -> Self {
        Self { data: Vec::new(), ends: Ends::new(), presence: None }
    }

    pub(super) fn nullable() -> Self {
        Self { data: Vec::new(), ends: Ends::new(), presence: Some(Presence::default()) }
    }

    #[inline]
    pub(super) fn has(&self, row: usize) -> bool {
        self.ends.has(row)
    }

    /// The value of `row`, which has one.
    fn get(&self, row: usize) -> &[u8] {
        &self.data[self.ends.ends[row] as usize..self.ends.ends[row + 1] as usize]
    }

    #[inline]
    pub(super) fn put(&mut self, row: usize, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.seal(row);
    }

    /// Where the value of the next row is written; [`Self::seal`] ends it.
    #[inline]
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// True when something was written since the last value ended.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.ends.last() != self.data.len()
    }

    /// Ends the value of `row`.
    #[inline]
    pub(super) fn seal(&mut self, row: usize) {
        self.ends.put(row, self.data.len());
        if let Some(presence) = &mut self.presence {
            presence.set(row);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.ends.bytes()
    }

    pub(super) fn finish_strings(&mut self, blank: &Blank) -> StringArray {
        let (offsets, data, nulls) = self.finish_parts(blank);
        string_array(offsets, data, nulls)
    }

    pub(super) fn finish_binaries(&mut self, blank: &Blank) -> BinaryArray {
        let (offsets, data, nulls) = self.finish_parts(blank);
        BinaryArray::new(offsets, data, nulls)
    }

    fn finish_parts(&mut self, blank: &Blank) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let is_blank = self.ends.ends.len() == 1;
        let nulls = match &mut self.presence {
            Some(_) if is_blank => Some(blank.nulls.clone()),
            Some(presence) => presence.finish(blank.rows),
            None => None,
        };
        (self.ends.finish(blank), Buffer::from_vec(renew(&mut self.data)), nulls)
    }
}

/// Binaries of one length, one in every row.
#[derive(Debug, Default)]
pub(super) struct Ids {
    data: Vec<u8>,
}

impl Ids {
    #[inline]
    pub(super) fn push(&mut self, id: &[u8]) {
        self.data.extend_from_slice(id);
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn finish(&mut self, rows: usize, width: usize) -> BinaryArray {
        let offsets: Vec<i32> = (0..=rows).map(|row| (row * width) as i32).collect();
        BinaryArray::new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(renew(&mut self.data)), None)
    }
}

/// Strings that repeat, dictionary-encoded. A row without one is empty, or null in a nullable column.
#[derive(Debug)]
pub(super) struct Words {
    keys: Vec<i32>,
    presence: Option<Presence>,
    interner: Interner,
}

impl Words {
    /// The key of the empty string.
    pub(super) const EMPTY: i32 = Interner::EMPTY;

    pub(super) fn required() -> Self {
        Self { keys: Vec::new(), presence: None, interner: Interner::new() }
    }

    pub(super) fn nullable() -> Self {
        Self { keys: Vec::new(), presence: Some(Presence::default()), interner: Interner::new() }
    }

    #[inline]
    pub(super) fn has(&self, row: usize) -> bool {
        self.keys.len() > row
    }

    /// The key of a word, for [`Self::put_key`] until the next `finish`.
    #[inline]
    pub(super) fn key(&mut self, word: &[u8]) -> i32 {
        self.interner.intern(word)
    }

    #[inline]
    pub(super) fn put(&mut self, row: usize, word: &[u8]) {
        let key = self.interner.intern(word);
        self.put_key(row, key);
    }

    #[inline]
    pub(super) fn put_key(&mut self, row: usize, key: i32) {
        debug_assert!(!self.has(row), "one value a row");
        if self.keys.len() < row {
            self.keys.resize(row, 0);
        }
        self.keys.push(key);
        if let Some(presence) = &mut self.presence {
            presence.set(row);
        }
    }

    /// The same key for all `rows`.
    pub(super) fn put_run(&mut self, rows: Range<usize>, key: i32) {
        self.keys.resize(rows.start, Self::EMPTY);
        self.keys.resize(rows.end, key);
        if let Some(presence) = &mut self.presence {
            rows.for_each(|row| presence.set(row));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.keys.as_slice()) + self.interner.bytes()
    }

    pub(super) fn finish(&mut self, blank: &Blank) -> DictionaryArray<Int32Type> {
        let nulls = self.presence.as_mut().map(|presence| presence.finish(blank.rows));
        let keys = if self.keys.is_empty() {
            let nulls = nulls.map(|_| blank.nulls.clone());
            PrimitiveArray::new(ScalarBuffer::new(blank.zeros.clone(), 0, blank.rows), nulls)
        } else {
            let mut keys = renew(&mut self.keys);
            keys.resize(blank.rows, Interner::EMPTY);
            PrimitiveArray::new(keys.into(), nulls.flatten())
        };
        DictionaryArray::new(keys, Arc::new(self.interner.finish()))
    }
}

/// Lists of strings, empty where nothing was pushed.
#[derive(Debug)]
pub(super) struct StringLists {
    ends: Ends,
    strings: Text,
    count: usize,
    open: Option<usize>,
}

impl StringLists {
    /// How many of a row's last strings [`Self::push_distinct`] compares with; a bound on what one span can cost.
    const COMPARED: usize = 16;

    pub(super) fn new() -> Self {
        Self { ends: Ends::new(), strings: Text::required(), count: 0, open: None }
    }

    pub(super) fn push(&mut self, row: usize, value: &[u8]) {
        if self.open != Some(row) {
            self.close();
            self.open = Some(row);
        }
        self.strings.put(self.count, value);
        self.count += 1;
    }

    /// Pushes `value` unless it is among the row's last strings.
    pub(super) fn push_distinct(&mut self, row: usize, value: &[u8]) {
        if self.open == Some(row) {
            let start = self.ends.last().max(self.count.saturating_sub(Self::COMPARED));
            if (start..self.count).any(|index| self.strings.get(index) == value) {
                return;
            }
        }
        self.push(row, value);
    }

    pub(super) fn bytes(&self) -> usize {
        self.ends.bytes() + self.strings.bytes()
    }

    pub(super) fn finish(&mut self, blank: &Blank, element: FieldRef) -> ArrayRef {
        self.close();
        let strings = self.strings.finish_strings(&Blank::new(self.count));
        self.count = 0;
        self.ends.finish_lists(blank, element, Arc::new(strings))
    }

    fn close(&mut self) {
        if let Some(row) = self.open.take() {
            self.ends.put(row, self.count);
        }
    }
}

/// Takes a full buffer and leaves an empty one of about its size, as the next batch is likely to be like the last: cheaper
/// than growing anew, and less spare memory in the batch than growing by doubling leaves. A store seals its batches at 16 MiB, so that no
/// buffer of a usual batch is above the limit; one that is grows by a copy of all of it, into memory that nobody has touched yet.
pub(super) fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    const MAX_RESERVED_BYTES: usize = 16 * 1024 * 1024;
    let next = (values.len() + values.len() / 8).min(MAX_RESERVED_BYTES / size_of::<T>());
    std::mem::replace(values, Vec::with_capacity(next))
}

/// An array of strings. The bytes were judged to be UTF-8; should some not be, replacement characters stand for them.
pub(super) fn string_array(offsets: OffsetBuffer<i32>, data: Buffer, nulls: Option<NullBuffer>) -> StringArray {
    let has_all_bytes = offsets.last().is_some_and(|end| usize::try_from(*end).is_ok_and(|end| end <= data.len()));
    let has_all_nulls = nulls.as_ref().is_none_or(|nulls| nulls.len() + 1 == offsets.len());
    if has_all_bytes && has_all_nulls && data.is_ascii() {
        // SAFETY: offsets rise from 0, which their type guarantees, and end within the bytes; ASCII is UTF-8 wherever it is cut. Arrow's own
        // check takes three times as long (UTF-8, and each offset).
        return unsafe { StringArray::new_unchecked(offsets, data, nulls) };
    }
    StringArray::try_new(offsets.clone(), data.clone(), nulls.clone()).unwrap_or_else(|_| {
        let mut strings = StringBuilder::new();
        for (row, ends) in offsets.windows(2).enumerate() {
            let text = String::from_utf8_lossy(&data[ends[0] as usize..ends[1] as usize]);
            strings.append_option(nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then_some(text));
        }
        strings.finish()
    })
}
