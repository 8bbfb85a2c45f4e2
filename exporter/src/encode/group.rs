//! Records of one kind and one entity that are still being gathered, as the columns of a `RecordGroup`.
//!
//! A column is kept as it is sent, so that a group costs its rows' bytes and is written, or added to another one, by copying. The first
//! step is always 0, one byte: that is what makes the rows of one group follow those of another.

use std::sync::Arc;

use scouter_tonic::message::record_group::Kind;

use super::{
    records::RecordSubject,
    wire::{delimited, fixed64_field, put_bytes, put_fixed64, put_varint, varint_field, varint_len},
};

/// Of a `MonitoringRecord`.
pub(super) const GROUP: u8 = delimited(9);
const KIND: u8 = varint_field(1);
const ENTITY_UID: u8 = delimited(2);
const NAMES: u8 = delimited(3);
const NAME_INDEXES: u8 = delimited(4);
const BASE: u8 = fixed64_field(5);
const STEPS: u8 = delimited(6);
const BIN_IDS: u8 = delimited(7);
const BIN_COUNTS: u8 = delimited(8);
const VALUES: u8 = delimited(9);

/// A group beyond one of these is written and a new one begun. Servers take groups of up to 1 MiB.
const FULL_BYTES: usize = 128 * 1024;
const FULL_NAMES: usize = 1024;
/// So many of the latest names are looked through for one that does not come in its turn.
const NAMES_SEARCHED: usize = 16;

/// What heads of fields, kind and time take at most, the entity and names not counted.
pub(super) const MAX_HEAD_BYTES: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct OpenGroup {
    kind: Kind,
    entity_uid: Arc<str>,
    names: Vec<Arc<str>>,
    /// The names as fields.
    name_bytes: usize,
    /// The place of the name of the last row.
    last_name: usize,
    base_unix_nano: u64,
    last_unix_nano: u64,
    rows: usize,
    name_indexes: Vec<u8>,
    steps: Vec<u8>,
    /// Bin ids and bin counts, or values and nothing.
    first: Vec<u8>,
    second: Vec<u8>,
}

impl OpenGroup {
    pub(super) fn new(kind: Kind, entity_uid: &Arc<str>) -> Self {
        Self {
            kind,
            entity_uid: Arc::clone(entity_uid),
            names: Vec::new(),
            name_bytes: 0,
            last_name: 0,
            base_unix_nano: 0,
            last_unix_nano: 0,
            rows: 0,
            name_indexes: Vec::new(),
            steps: Vec::new(),
            first: Vec::new(),
            second: Vec::new(),
        }
    }

    pub(super) fn is_of(&self, kind: Kind, entity_uid: &Arc<str>) -> bool {
        self.kind == kind && is_same(&self.entity_uid, entity_uid)
    }

    /// True when the rows of `other` can be added: it is of the same entity, and the names of one begin with those of the other.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        self.is_of(other.kind, &other.entity_uid) && self.names.iter().zip(&other.names).all(|(own, others)| is_same(own, others))
    }

    pub(super) fn push_bin(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, bin_id: i64, bin_count: u64) {
        self.push(subject, created_at_unix_nano);
        put_varint(&mut self.first, bin_id.cast_unsigned());
        put_varint(&mut self.second, bin_count);
    }

    pub(super) fn push_value(&mut self, subject: &RecordSubject, created_at_unix_nano: u64, value: f64) {
        self.push(subject, created_at_unix_nano);
        self.first.extend_from_slice(&value.to_le_bytes());
    }

    fn push(&mut self, subject: &RecordSubject, created_at_unix_nano: u64) {
        let index = self.index_of(subject.name());
        put_varint(&mut self.name_indexes, index as u64);
        self.step_to(created_at_unix_nano);
        self.last_unix_nano = created_at_unix_nano;
        self.rows += 1;
    }

    fn step_to(&mut self, unix_nano: u64) {
        if self.rows == 0 {
            self.base_unix_nano = unix_nano;
            self.last_unix_nano = unix_nano;
        }
        let step = unix_nano.wrapping_sub(self.last_unix_nano).cast_signed();
        put_varint(&mut self.steps, ((step << 1) ^ (step >> 63)).cast_unsigned());
    }

    /// Names come again and again in one order.
    fn index_of(&mut self, name: &Arc<str>) -> usize {
        let next = self.last_name + 1;
        let guesses = [self.last_name, next, 0];
        let guess = guesses.into_iter().find(|index| self.names.get(*index).is_some_and(|own| is_same(own, name)));
        let index = guess.unwrap_or_else(|| {
            let searched = self.names.len().saturating_sub(NAMES_SEARCHED);
            self.names[searched..].iter().position(|own| is_same(own, name)).map_or_else(
                || {
                    self.add_name(name);
                    self.names.len() - 1
                },
                |place| searched + place,
            )
        });
        self.last_name = index;
        index
    }

    fn add_name(&mut self, name: &Arc<str>) {
        self.name_bytes += field_len(name.len());
        self.names.push(Arc::clone(name));
    }

    /// Adds the rows of a group that goes with this one.
    pub(super) fn append(&mut self, other: &Self) {
        let Some((_, steps)) = other.steps.split_first() else { return };
        for name in other.names.iter().skip(self.names.len()) {
            self.name_bytes += field_len(name.len());
            self.names.push(Arc::clone(name));
        }
        self.step_to(other.base_unix_nano);
        self.steps.extend_from_slice(steps);
        self.name_indexes.extend_from_slice(&other.name_indexes);
        self.first.extend_from_slice(&other.first);
        self.second.extend_from_slice(&other.second);
        self.last_unix_nano = other.last_unix_nano;
        self.last_name = other.last_name;
        self.rows += other.rows;
    }

    /// Forgets the rows and keeps their memory.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        (self.name_bytes, self.last_name, self.rows) = (0, 0, 0);
        for column in [&mut self.name_indexes, &mut self.steps, &mut self.first, &mut self.second] {
            column.clear();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.bound() > FULL_BYTES || self.names.len() > FULL_NAMES
    }

    /// Its bytes in a request, at most.
    pub(super) fn bound(&self) -> usize {
        if self.rows == 0 { 0 } else { MAX_HEAD_BYTES + self.entity_uid.len() + self.name_bytes + self.column_bytes() }
    }

    fn column_bytes(&self) -> usize {
        self.name_indexes.len() + self.steps.len() + self.first.len() + self.second.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.name_indexes.capacity() + self.steps.capacity() + self.first.capacity() + self.second.capacity()
    }

    /// Writes the group as a field of a request, of this tag.
    pub(super) fn write(&self, out: &mut Vec<u8>, tag: u8) {
        if self.rows == 0 {
            return;
        }
        let (first, second) = if self.kind == Kind::Psi { (BIN_IDS, BIN_COUNTS) } else { (VALUES, VALUES) };
        let columns = [(NAME_INDEXES, &self.name_indexes), (STEPS, &self.steps), (first, &self.first), (second, &self.second)];
        let column_len: usize = columns.iter().filter(|(_, column)| !column.is_empty()).map(|(_, column)| field_len(column.len())).sum();
        let entity_len = if self.entity_uid.is_empty() { 0 } else { field_len(self.entity_uid.len()) };
        let base_len = if self.base_unix_nano == 0 { 0 } else { 9 };
        let len = 2 + entity_len + self.name_bytes + base_len + column_len;
        out.reserve(len + MAX_HEAD_BYTES);
        out.push(tag);
        put_varint(out, field_len(len) as u64);
        out.push(GROUP);
        put_varint(out, len as u64);
        out.extend_from_slice(&[KIND, self.kind as u8]);
        put_bytes(out, ENTITY_UID, self.entity_uid.as_bytes());
        for name in &self.names {
            out.push(NAMES);
            put_varint(out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
        }
        put_fixed64(out, BASE, self.base_unix_nano);
        for (tag, column) in columns {
            put_bytes(out, tag, column);
        }
    }
}

/// A length-delimited field of so many bytes.
fn field_len(bytes: usize) -> usize {
    1 + varint_len(bytes as u64) + bytes
}

fn is_same(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
