//! The rows of a [`RecordGroup`]: many records of one kind and one entity, as columns.
//!
//! A row is a record of its own. What is wrong with the whole group is wrong with each of its rows; a row whose name or time is wrong is
//! wrong alone. Times are added modulo 2^64, so that a row does not depend on whether those before it could be read.

use std::ops::Range;

use crate::message::{CustomMetricRecord, PsiRecord, RecordGroup, SpcRecord, monitoring_record::Record, record_group::Kind};

/// One row, as it lies in its group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// When it was made.
    pub created_at_unix_nano: u64,
    /// The profile it belongs to.
    pub entity_uid: &'a str,
    /// The feature, or the metric.
    pub name: &'a str,
    /// What was seen.
    pub seen: Seen,
}

/// What a row says of its feature or metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// How many values fell into one bin.
    Psi {
        /// The bin.
        bin_id: i64,
        /// The values.
        bin_count: i64,
    },
    /// A sample mean.
    Spc(f64),
    /// A value of a metric.
    Custom(f64),
}

/// Why a row is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// Of all rows: the kind is none that has rows.
    #[error("the kind of the group is unknown, expected psi, spc or custom")]
    KindUnknown,
    /// Of all rows: a column has more elements than another one.
    #[error("the columns of the group differ in length, expected one element a row in each column of its kind")]
    ColumnsDiffer,
    /// Of this row: it names no name.
    #[error("name_indexes names no element of names")]
    NameMissing,
}

impl RecordGroup {
    /// Rows in it: the elements of its longest column.
    pub fn row_count(&self) -> usize {
        [self.name_indexes.len(), self.step_nanos.len(), self.bin_ids.len(), self.bin_counts.len(), self.values.len()]
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    /// Its rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row<'_>, RowFault>> {
        let mut cursor = Cursor::new(self);
        (0..self.row_count()).map(move |row| cursor.next(self, row))
    }

    /// Its rows as records of their own; `None` for one that is none.
    pub fn into_records(self) -> impl Iterator<Item = Option<Record>> {
        let mut cursor = Cursor::new(&self);
        (0..self.row_count()).map(move |row| cursor.next(&self, row).ok().map(Record::from))
    }

    /// Some of its rows, with the names that they need. `None` when one of them is none.
    pub fn slice(&self, rows: Range<usize>) -> Option<Self> {
        let mut part = Self { kind: self.kind, entity_uid: self.entity_uid.clone(), ..Self::default() };
        let mut places = vec![None; self.names.len()];
        let mut unix_nano = None;
        for (number, row) in self.rows().enumerate().take(rows.end).skip(rows.start) {
            let row = row.ok()?;
            let place = places.get_mut(*self.name_indexes.get(number)? as usize)?;
            let index = match *place {
                Some(index) => index,
                None => {
                    part.names.push(row.name.to_owned());
                    *place.insert(u32::try_from(part.names.len() - 1).ok()?)
                }
            };
            part.name_indexes.push(index);
            let before = *unix_nano.get_or_insert(row.created_at_unix_nano);
            part.step_nanos.push(row.created_at_unix_nano.wrapping_sub(before).cast_signed());
            unix_nano = Some(row.created_at_unix_nano);
            if number == rows.start {
                part.base_unix_nano = row.created_at_unix_nano;
            }
            match row.seen {
                Seen::Psi { bin_id, bin_count } => {
                    part.bin_ids.push(bin_id);
                    part.bin_counts.push(bin_count);
                }
                Seen::Spc(value) | Seen::Custom(value) => part.values.push(value),
            }
        }
        Some(part)
    }
}

/// What of a group is known before its first row, and the time of the row before.
struct Cursor {
    kind: Result<Kind, RowFault>,
    unix_nano: u64,
}

impl Cursor {
    fn new(group: &RecordGroup) -> Self {
        let rows = group.row_count();
        let bins = [group.bin_ids.len(), group.bin_counts.len()];
        let expected = match group.kind() {
            Kind::Unspecified => None,
            Kind::Psi => Some((rows, 0)),
            Kind::Spc | Kind::Custom => Some((0, rows)),
        };
        let kind = match expected {
            None => Err(RowFault::KindUnknown),
            Some((in_bins, in_values))
                if bins == [in_bins; 2]
                    && group.values.len() == in_values
                    && group.name_indexes.len() == rows
                    && group.step_nanos.len() == rows =>
            {
                Ok(group.kind())
            }
            Some(_) => Err(RowFault::ColumnsDiffer),
        };
        Self { kind, unix_nano: group.base_unix_nano }
    }

    fn next<'a>(&mut self, group: &'a RecordGroup, row: usize) -> Result<Row<'a>, RowFault> {
        let kind = self.kind?;
        let missing = RowFault::ColumnsDiffer;
        self.unix_nano = self.unix_nano.wrapping_add_signed(*group.step_nanos.get(row).ok_or(missing)?);
        let value = || group.values.get(row).copied().ok_or(missing);
        let seen = match kind {
            Kind::Psi => {
                Seen::Psi { bin_id: *group.bin_ids.get(row).ok_or(missing)?, bin_count: *group.bin_counts.get(row).ok_or(missing)? }
            }
            Kind::Spc => Seen::Spc(value()?),
            Kind::Custom => Seen::Custom(value()?),
            Kind::Unspecified => return Err(RowFault::KindUnknown),
        };
        let index = *group.name_indexes.get(row).ok_or(missing)? as usize;
        let name = group.names.get(index).ok_or(RowFault::NameMissing)?;
        Ok(Row { created_at_unix_nano: self.unix_nano, entity_uid: &group.entity_uid, name, seen })
    }
}

impl From<Row<'_>> for Record {
    fn from(row: Row<'_>) -> Self {
        let Row { created_at_unix_nano, seen, .. } = row;
        let (entity_uid, name) = (row.entity_uid.to_owned(), row.name.to_owned());
        match seen {
            Seen::Psi { bin_id, bin_count } => Self::Psi(PsiRecord { created_at_unix_nano, entity_uid, feature: name, bin_id, bin_count }),
            Seen::Spc(value) => Self::Spc(SpcRecord { created_at_unix_nano, entity_uid, feature: name, value }),
            Seen::Custom(value) => Self::Custom(CustomMetricRecord { created_at_unix_nano, entity_uid, metric: name, value }),
        }
    }
}

/// The records that a record is: the rows of a group that can be read, or itself.
pub fn records_of(record: Record) -> Vec<Record> {
    match record {
        Record::Group(group) => group.into_records().flatten().collect(),
        record => vec![record],
    }
}

#[cfg(test)]
mod tests;
