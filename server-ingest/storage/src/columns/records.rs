//! The builders of the record tables, one table a kind of monitoring record.
//!
//! A record, or a row of a group of records, becomes one [`Cell`] a column, in the order of its table's schema.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use scouter_tonic::group::{Row, Seen};
use scouter_tonic::message::monitoring_record::Record;

use super::buffer::{Blank, Numbers, StringLists, Text, Words};
use super::spans::{day, micros};
use super::table::{Table, string_element};

/// A batch is sealed when its records came from about this many bytes.
const SEAL_BYTES: usize = 512 * 1024 * 1024;

/// The numbers of a row of a group, at most.
const ROW_BYTES: usize = 32;

/// The rows of one record table that are not yet handed over.
#[derive(Debug)]
pub(super) struct RecordColumns {
    table: Table,
    rows: usize,
    taken: usize,
    columns: Vec<Column>,
    sealed: Vec<RecordBatch>,
}

#[derive(Debug)]
enum Column {
    Micros(Numbers<TimestampMicrosecondType>),
    Day(Numbers<Date32Type>),
    Long(Numbers<Int64Type>),
    Int(Numbers<Int32Type>),
    Double(Numbers<Float64Type>),
    Bool(BooleanBufferBuilder),
    Word(Words),
    Text(Text),
    OptionalId(Text),
    Strings(StringLists),
}

/// One value of a record.
enum Cell<'a> {
    /// A time; the column says whether its day, its microsecond or all of it is kept.
    Time(u64),
    Long(i64),
    Int(i32),
    Double(f64),
    Bool(bool),
    Text(&'a str),
    /// Null when empty.
    Id(&'a [u8]),
    Strings(&'a [String]),
}

/// The table of a record that is no group: its rows have theirs by [`table_of_row`].
pub(super) fn table_of(record: &Record) -> Table {
    match record {
        Record::Psi(_) => Table::Psi,
        Record::Spc(_) => Table::Spc,
        Record::Custom(_) => Table::Custom,
        Record::Eval(_) => Table::Eval,
        Record::Tag(_) => Table::Tag,
        Record::Observability(_) => Table::Observability,
        Record::AgentTask(_) => Table::AgentTask,
        Record::AgentWorkflow(_) => Table::AgentWorkflow,
        Record::Group(_) => unreachable!("each row of a group has a table of its own"),
    }
}

pub(super) fn table_of_row(row: &Row<'_>) -> Table {
    match row.seen {
        Seen::Psi { .. } => Table::Psi,
        Seen::Spc(_) => Table::Spc,
        Seen::Custom(_) => Table::Custom,
    }
}

impl RecordColumns {
    pub(super) fn new(table: Table) -> Self {
        let columns = table.schema().fields().iter().map(|field| Column::new(field.data_type())).collect();
        Self { table, rows: 0, taken: 0, columns, sealed: Vec::new() }
    }

    pub(super) fn table(&self) -> Table {
        self.table
    }

    pub(super) fn rows(&self) -> usize {
        self.rows + self.sealed.iter().map(RecordBatch::num_rows).sum::<usize>()
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum::<usize>() + self.sealed.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
    }

    pub(super) fn append(&mut self, record: &Record) {
        use Cell::{Bool, Double, Id, Int, Long, Strings, Text, Time};
        if self.taken >= SEAL_BYTES {
            self.seal();
        }
        self.taken += record.encoded_len();
        match record {
            Record::Psi(r) => self.put_row(Row {
                created_at_unix_nano: r.created_at_unix_nano,
                entity_uid: &r.entity_uid,
                name: &r.feature,
                seen: Seen::Psi { bin_id: r.bin_id, bin_count: r.bin_count },
            }),
            Record::Spc(r) => self.put_row(Row {
                created_at_unix_nano: r.created_at_unix_nano,
                entity_uid: &r.entity_uid,
                name: &r.feature,
                seen: Seen::Spc(r.value),
            }),
            Record::Custom(r) => self.put_row(Row {
                created_at_unix_nano: r.created_at_unix_nano,
                entity_uid: &r.entity_uid,
                name: &r.metric,
                seen: Seen::Custom(r.value),
            }),
            Record::Eval(r) => self.put([
                Time(r.created_at_unix_nano),
                Time(r.created_at_unix_nano),
                Text(&r.entity_uid),
                Text(&r.uid),
                Text(&r.record_id),
                Text(&r.session_id),
                Text(&r.context_json),
                Id(&r.trace_id),
                Strings(&r.tags),
                Text(&r.record_source),
                Text(&r.status),
                Time(r.created_at_unix_nano),
            ]),
            Record::Tag(r) => self.put([
                Time(r.created_at_unix_nano),
                Time(r.created_at_unix_nano),
                Text(&r.entity_type),
                Text(&r.entity_id),
                Text(&r.key),
                Text(&r.value),
                Time(r.created_at_unix_nano),
            ]),
            Record::Observability(r) => self.put([
                Time(r.created_at_unix_nano),
                Time(r.created_at_unix_nano),
                Text(&r.entity_uid),
                Long(r.request_count),
                Long(r.error_count),
                Text(&r.route_metrics_json),
                Time(r.created_at_unix_nano),
            ]),
            Record::AgentTask(r) => self.put([
                Time(r.created_at_unix_nano),
                Time(r.created_at_unix_nano),
                Text(&r.entity_uid),
                Text(&r.record_uid),
                Text(&r.task_id),
                Text(&r.task_type),
                Time(r.start_time_unix_nano),
                Time(r.start_time_unix_nano),
                Time(r.end_time_unix_nano),
                Time(r.end_time_unix_nano),
                Bool(r.passed),
                Double(r.value),
                Text(&r.assertion_json),
                Text(&r.operator),
                Text(&r.expected_json),
                Text(&r.actual_json),
                Text(&r.message),
                Bool(r.condition),
                Int(r.stage),
                Time(r.created_at_unix_nano),
            ]),
            Record::AgentWorkflow(r) => self.put([
                Time(r.created_at_unix_nano),
                Time(r.created_at_unix_nano),
                Text(&r.entity_uid),
                Text(&r.record_uid),
                Long(r.total_tasks),
                Long(r.passed_tasks),
                Long(r.failed_tasks),
                Double(r.pass_rate),
                Long(r.duration_ms),
                Text(&r.execution_plan_json),
                Time(r.created_at_unix_nano),
            ]),
            Record::Group(_) => unreachable!("the rows of a group are appended one by one"),
        }
    }

    /// Adds a row of a group, as the record it stands for.
    pub(super) fn append_row(&mut self, row: Row<'_>) {
        if self.taken >= SEAL_BYTES {
            self.seal();
        }
        self.taken += row.entity_uid.len() + row.name.len() + ROW_BYTES;
        self.put_row(row);
    }

    fn put_row(&mut self, row: Row<'_>) {
        use Cell::{Double, Long, Text, Time};
        let Row { created_at_unix_nano: time, entity_uid, name, seen } = row;
        match seen {
            Seen::Psi { bin_id, bin_count } => {
                self.put([Time(time), Time(time), Text(entity_uid), Text(name), Long(bin_id), Long(bin_count), Time(time)]);
            }
            Seen::Spc(value) | Seen::Custom(value) => {
                self.put([Time(time), Time(time), Text(entity_uid), Text(name), Double(value), Time(time)]);
            }
        }
    }

    /// The rows so far as batches; none are left.
    pub(super) fn finish(&mut self) -> Vec<RecordBatch> {
        if self.rows > 0 {
            self.seal();
        }
        std::mem::take(&mut self.sealed)
    }

    fn put<const N: usize>(&mut self, cells: [Cell<'_>; N]) {
        debug_assert_eq!(N, self.columns.len(), "one cell a column");
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.put(self.rows, cell);
        }
        self.rows += 1;
    }

    fn seal(&mut self) {
        let blank = Blank::new(std::mem::take(&mut self.rows));
        let columns = self.columns.iter_mut().map(|column| column.finish(&blank)).collect();
        let batch = RecordBatch::try_new(self.table.schema(), columns).expect("the columns are made from the schema");
        self.sealed.push(batch);
        self.taken = 0;
    }
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Timestamp(..) => Self::Micros(Numbers::required()),
            DataType::Date32 => Self::Day(Numbers::required()),
            DataType::Int64 => Self::Long(Numbers::required()),
            DataType::Int32 => Self::Int(Numbers::required()),
            DataType::Float64 => Self::Double(Numbers::required()),
            DataType::Boolean => Self::Bool(BooleanBufferBuilder::new(0)),
            DataType::Dictionary(..) => Self::Word(Words::required()),
            DataType::Binary => Self::OptionalId(Text::nullable()),
            DataType::List(_) => Self::Strings(StringLists::new()),
            _ => Self::Text(Text::required()),
        }
    }

    fn put(&mut self, row: usize, cell: Cell<'_>) {
        match (self, cell) {
            // Judged times fit.
            (Self::Micros(column), Cell::Time(nanos)) => column.put(row, micros(nanos as i64)),
            (Self::Day(column), Cell::Time(nanos)) => column.put(row, day(nanos as i64)),
            (Self::Long(column), Cell::Time(nanos)) => column.put(row, nanos as i64),
            (Self::Long(column), Cell::Long(value)) => column.put(row, value),
            (Self::Int(column), Cell::Int(value)) => column.put(row, value),
            (Self::Double(column), Cell::Double(value)) => column.put(row, value),
            (Self::Bool(column), Cell::Bool(value)) => column.append(value),
            (Self::Word(column), Cell::Text(text)) => column.put(row, text.as_bytes()),
            (Self::Text(column), Cell::Text(text)) => column.put(row, text.as_bytes()),
            (Self::OptionalId(column), Cell::Id(id)) => {
                if !id.is_empty() {
                    column.put(row, id);
                }
            }
            (Self::Strings(column), Cell::Strings(values)) => {
                for value in values {
                    column.push(row, value.as_bytes());
                }
            }
            _ => unreachable!("a record gives every column a cell of its type"),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Micros(column) => column.bytes(),
            Self::Day(column) => column.bytes(),
            Self::Long(column) => column.bytes(),
            Self::Int(column) => column.bytes(),
            Self::Double(column) => column.bytes(),
            Self::Bool(column) => column.len() / 8,
            Self::Word(column) => column.bytes(),
            Self::Text(column) | Self::OptionalId(column) => column.bytes(),
            Self::Strings(column) => column.bytes(),
        }
    }

    fn finish(&mut self, blank: &Blank) -> ArrayRef {
        match self {
            Self::Micros(column) => Arc::new(column.finish(blank).with_timezone("UTC")),
            Self::Day(column) => Arc::new(column.finish(blank)),
            Self::Long(column) => Arc::new(column.finish(blank)),
            Self::Int(column) => Arc::new(column.finish(blank)),
            Self::Double(column) => Arc::new(column.finish(blank)),
            Self::Bool(column) => Arc::new(BooleanArray::new(column.finish(), None)),
            Self::Word(column) => Arc::new(column.finish(blank)),
            Self::Text(column) => Arc::new(column.finish_strings(blank)),
            Self::OptionalId(column) => Arc::new(column.finish_binaries(blank)),
            Self::Strings(column) => column.finish(blank, string_element()),
        }
    }
}
