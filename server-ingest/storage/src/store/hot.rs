//! The rows that are applied and not yet committed, and the snapshots they come after. Pure state; the lock is the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::Cut;
use super::partition::{bound_dates, day_of};
use crate::columns::{Columns, Table};
use crate::lake::{Mark, Snapshot, TraceIndex};
use crate::log::{Frame, Position};

/// The builders are sealed at this many rows or bytes, so that finishing them never takes long.
const SEAL_ROWS: usize = 32_768;
const SEAL_BYTES: usize = 16 * 1024 * 1024;

/// The builders' bytes are added up again after so many bytes of payload.
const COUNTED_BYTES: usize = 64 * 1024;

/// Where a frame is in a log that servers share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) source: &'a Arc<str>,
    pub(super) offset: u64,
}

/// By source: the first offset that rows are of, and the one after the last.
type Reach = BTreeMap<Arc<str>, (u64, u64)>;

/// Tables, a bit each.
type TableSet = u16;

/// The sealed rows of one table that one commit covers.
#[derive(Debug)]
pub(super) struct Unit {
    /// None of its rows is of this frame or an earlier one.
    after: Position,
    /// Its rows are of this frame or earlier ones.
    pub(super) position: Position,
    /// Of frames that came from a shared log.
    pub(super) marks: Vec<Mark>,
    pub(super) batches: Vec<RecordBatch>,
}

#[derive(Debug)]
struct TableRows {
    snapshot: Arc<Snapshot>,
    /// Being committed, or waiting for another attempt.
    unit: Option<Arc<Unit>>,
    /// Sealed after the unit.
    sealed: Vec<RecordBatch>,
    /// None of the sealed rows is of this frame or an earlier one.
    sealed_after: Position,
    /// Where the sealed rows are in shared logs.
    reach: Reach,
}

/// All hot rows.
#[derive(Debug)]
pub(super) struct Hot {
    columns: Columns,
    /// Bytes of `columns` when they were last added up: there are some seventy of them.
    open_bytes: usize,
    /// Bytes of payload that were applied after that, which stand for what they have become.
    uncounted_bytes: usize,
    /// The last frame whose rows are in `columns` or sealed.
    applied: Position,
    /// The day on which all frames whose rows are in `columns` came in.
    received_day: i32,
    /// The tables that have the rows of these frames already: only so while frames are read again.
    skipped: TableSet,
    /// Where they are in shared logs.
    reach: Reach,
    /// The last frame whose rows are sealed.
    sealed_to: Position,
    /// Counts how often rows were dropped.
    epoch: u64,
    /// One a table, in the order of [`Table::ALL`].
    tables: Vec<TableRows>,
    /// Rows and bytes of the units and the sealed batches.
    finished_rows: usize,
    finished_bytes: usize,
}

/// Figures of one table.
#[derive(Debug)]
pub(super) struct TableFigures {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) sealed_rows: usize,
}

impl Hot {
    /// No hot rows. `snapshots` are in the order of [`Table::ALL`]; frames up to `applied` are in them.
    pub(super) fn new(snapshots: Vec<Arc<Snapshot>>, applied: Position) -> Self {
        let tables = snapshots
            .into_iter()
            .map(|snapshot| TableRows { snapshot, unit: None, sealed: Vec::new(), sealed_after: applied, reach: Reach::new() })
            .collect();
        Self {
            columns: Columns::new(),
            open_bytes: 0,
            uncounted_bytes: 0,
            applied,
            received_day: 0,
            skipped: 0,
            reach: Reach::new(),
            sealed_to: applied,
            epoch: 0,
            tables,
            finished_rows: 0,
            finished_bytes: 0,
        }
    }

    pub(super) fn applied(&self) -> Position {
        self.applied
    }

    /// Rows that are not in any snapshot.
    pub(super) fn rows(&self) -> usize {
        self.finished_rows + self.columns.rows()
    }

    /// About what they take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.finished_bytes + self.open_bytes + self.uncounted_bytes
    }

    /// Changes when rows are dropped.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds the rows of the next frame.
    pub(super) fn apply(&mut self, position: Position, frame: &Frame, origin: Option<Origin<'_>>) {
        debug_assert!(position > self.applied);
        // Tables may have committed up to different positions before a crash. Sealing where that changes while frames are read again
        // makes every batch lie wholly before or wholly after a table's position.
        let skipped = self.tables_with(position, origin);
        // One batch, one window of dates: replay makes the same of the same frames.
        let day = day_of(frame.received_unix_nano);
        if skipped != self.skipped || day != self.received_day {
            self.seal();
            (self.skipped, self.received_day) = (skipped, day);
        }
        if let Some(Origin { source, offset }) = origin {
            match self.reach.get_mut(&**source) {
                Some((_, end)) => *end = offset + 1,
                None => drop(self.reach.insert(Arc::clone(source), (offset, offset + 1))),
            }
        }
        self.columns.append(&frame.payload, frame.envelope, &frame.rejected_spans, &frame.rejected_records);
        self.applied = position;
        self.uncounted_bytes += frame.payload.len();
        if self.uncounted_bytes >= COUNTED_BYTES {
            (self.open_bytes, self.uncounted_bytes) = (self.columns.bytes(), 0);
        }
        if self.columns.rows() >= SEAL_ROWS || self.open_bytes + self.uncounted_bytes >= SEAL_BYTES {
            self.seal();
        }
    }

    /// Ends a replay. Frames up to `last` that were not applied are trimmed: they have no rows that are not in the tables.
    pub(super) fn end_replay(&mut self, last: Position) {
        self.seal();
        self.applied = self.applied.max(last);
        self.sealed_to = self.applied;
    }

    /// The tables that have the rows of a frame.
    fn tables_with(&self, position: Position, origin: Option<Origin<'_>>) -> TableSet {
        let has = |rows: &TableRows| match origin {
            None => rows.snapshot.position >= position,
            Some(Origin { source, offset }) => rows.snapshot.sources.get(&**source).is_some_and(|end| *end > offset),
        };
        self.tables.iter().enumerate().fold(0, |set, (index, rows)| set | TableSet::from(has(rows)) << index)
    }

    /// Forgets all rows that are not in the tables. They come again, from where their frames are.
    pub(super) fn drop_rows(&mut self) {
        self.columns = Columns::new();
        self.reach.clear();
        self.sealed_to = self.applied;
        for rows in &mut self.tables {
            (rows.unit, rows.sealed, rows.reach, rows.sealed_after) = (None, Vec::new(), Reach::new(), self.applied);
        }
        (self.open_bytes, self.uncounted_bytes, self.finished_rows, self.finished_bytes) = (0, 0, 0, 0);
        self.epoch += 1;
    }

    /// Finishes the builders. Rows of frames that their table has committed are dropped: this happens only in replay.
    fn seal(&mut self) {
        let after = std::mem::replace(&mut self.sealed_to, self.applied);
        let reach = std::mem::take(&mut self.reach);
        if self.columns.rows() == 0 {
            return;
        }
        (self.open_bytes, self.uncounted_bytes) = (0, 0);
        for (table, batch) in self.columns.finish() {
            let rows = &mut self.tables[table as usize];
            if self.skipped & (1 << table as usize) != 0 {
                continue;
            }
            let batch = bound_dates(batch, self.received_day);
            debug_assert!(rows.snapshot.position <= after, "a batch lies on both sides of its table's position");
            if rows.sealed.is_empty() {
                rows.sealed_after = after;
            }
            for (source, (begins, end)) in &reach {
                rows.reach.entry(Arc::clone(source)).or_insert((*begins, *end)).1 = *end;
            }
            self.finished_rows += batch.num_rows();
            self.finished_bytes += batch.get_array_memory_size();
            rows.sealed.push(batch);
        }
    }

    /// All rows of a table.
    pub(super) fn cut(&mut self, table: Table, trace_index: &Arc<TraceIndex>) -> Cut {
        self.seal();
        let rows = &self.tables[table as usize];
        let unit = rows.unit.iter().flat_map(|unit| &unit.batches);
        Cut {
            snapshot: Arc::clone(&rows.snapshot),
            hot: unit.chain(&rows.sealed).cloned().collect(),
            position: self.applied,
            objects: trace_index.objects().cloned(),
            trace_index: Arc::clone(trace_index),
        }
    }

    /// The unit of every table that has rows: the one that is waiting for another attempt, else all that is applied now.
    pub(super) fn units(&mut self) -> Vec<(Table, Arc<Unit>)> {
        self.seal();
        let mut units = Vec::new();
        for (table, rows) in Table::ALL.into_iter().zip(&mut self.tables) {
            if rows.unit.is_none() && !rows.sealed.is_empty() {
                let batches = std::mem::take(&mut rows.sealed);
                let reach = std::mem::take(&mut rows.reach).into_iter();
                let marks = reach.map(|(source, (begins, position))| Mark { source, begins, position }).collect();
                rows.unit = Some(Arc::new(Unit { after: rows.sealed_after, position: self.sealed_to, marks, batches }));
            }
            units.extend(rows.unit.iter().map(|unit| (table, Arc::clone(unit))));
        }
        units
    }

    /// The unit of `table` is in `snapshot`. It may have been dropped meanwhile.
    pub(super) fn committed(&mut self, table: Table, unit: &Arc<Unit>, snapshot: Arc<Snapshot>) {
        debug_assert!(snapshot.position >= unit.position);
        let rows = &mut self.tables[table as usize];
        rows.snapshot = snapshot;
        if rows.unit.take_if(|waiting| Arc::ptr_eq(waiting, unit)).is_none() {
            return;
        }
        self.finished_rows -= unit.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        self.finished_bytes -= unit.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
    }

    /// Other files hold the rows of `table`. When the new snapshot also has rows that are still hot here, because the outcome of their
    /// commit was not known, readers keep the old one until the flusher has found out.
    pub(super) fn replaced(&mut self, table: Table, snapshot: &Arc<Snapshot>) {
        let rows = &mut self.tables[table as usize];
        let of_unit = rows.unit.iter().flat_map(|unit| unit.marks.iter().map(|mark| &mark.source));
        let mut hot_sources = of_unit.chain(rows.reach.keys()).chain(self.reach.keys());
        let is_same = |source: &Arc<str>| snapshot.sources.get(&**source) == rows.snapshot.sources.get(&**source);
        if snapshot.position == rows.snapshot.position && hot_sources.all(is_same) {
            rows.snapshot = Arc::clone(snapshot);
        }
    }

    /// The last position at which every table has committed all its rows: how far the log may be trimmed. A table without hot
    /// rows has committed all there are, whatever position its last commit had.
    pub(super) fn all_committed(&self) -> Position {
        let of_table = |rows: &TableRows| match &rows.unit {
            Some(unit) => unit.after,
            None if rows.sealed.is_empty() => self.sealed_to,
            None => rows.sealed_after,
        };
        // Rows that are not sealed are of frames after `sealed_to`.
        self.tables.iter().map(of_table).min().unwrap_or(self.sealed_to).min(self.sealed_to)
    }

    pub(super) fn figures(&self) -> Vec<TableFigures> {
        let figures = |rows: &TableRows| {
            let batches = rows.unit.iter().flat_map(|unit| &unit.batches).chain(&rows.sealed);
            TableFigures { snapshot: Arc::clone(&rows.snapshot), sealed_rows: batches.map(RecordBatch::num_rows).sum() }
        };
        self.tables.iter().map(figures).collect()
    }
}
