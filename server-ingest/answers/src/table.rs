//! Answers to SQL in the formats that tools read.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use scouter_query::{SqlBatches, json_values};
use serde_json::Value;

use crate::error::AnswerError;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `{"columns", "types", "rows", "elapsed_ms"}`.
    #[default]
    Json,
    /// RFC 4180, with a line of names.
    Csv,
    /// A stream of Arrow IPC.
    Arrow,
    /// A file of Parquet.
    Parquet,
}

/// How JSON writes 64-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Int64 {
    /// As numbers, which readers with 64-bit integers take exactly.
    #[default]
    Number,
    /// As text, for JavaScript.
    Text,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Arrow, Self::Parquet];

    /// Its name in a question.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The first of the media types in an `Accept` header that is one of these; JSON if none is.
    pub fn from_accept(accept: &str) -> Self {
        let types = accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
        let known = |media_type: &str| Self::ALL.into_iter().find(|format| format.media_type().split(';').next() == Some(media_type));
        types.filter_map(known).next().unwrap_or_default()
    }
}

/// Writes an answer. What is written counts against the memory of queries as it grows.
///
/// # Errors
/// The memory does not suffice, or a column cannot be written in the format.
pub fn sql_answer(answer: &SqlBatches, format: Format, int64: Int64, elapsed: Duration) -> Result<Vec<u8>, AnswerError> {
    let mut out = Vec::new();
    let failed = |message: String| AnswerError::Format { format: format.name(), message };
    match format {
        Format::Json => json(&mut out, answer, int64, elapsed)?,
        Format::Csv => csv(&mut out, answer)?,
        Format::Arrow => {
            let mut writer = StreamWriter::try_new(&mut out, &answer.schema).map_err(|error| failed(error.to_string()))?;
            for batch in &answer.batches {
                answer.hold(batch.get_array_memory_size())?;
                writer.write(batch).map_err(|error| failed(error.to_string()))?;
            }
            writer.finish().map_err(|error| failed(error.to_string()))?;
        }
        Format::Parquet => {
            let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
            let schema = answer.schema.clone();
            let mut writer = ArrowWriter::try_new(&mut out, schema, Some(properties)).map_err(|error| failed(error.to_string()))?;
            for batch in &answer.batches {
                answer.hold(batch.get_array_memory_size())?;
                writer.write(batch).map_err(|error| failed(error.to_string()))?;
            }
            writer.close().map_err(|error| failed(error.to_string()))?;
        }
    }
    Ok(out)
}

/// Rows that become JSON values at once.
const PIECE_ROWS: usize = 1024;

/// Calls `each` with the JSON values of every row.
fn for_each_row(
    answer: &SqlBatches,
    format: Format,
    values: impl Fn(&RecordBatch, usize) -> Result<Vec<Value>, arrow::error::ArrowError>,
    mut each: impl FnMut(&mut dyn Iterator<Item = Value>) -> usize,
) -> Result<(), AnswerError> {
    for batch in &answer.batches {
        for start in (0..batch.num_rows()).step_by(PIECE_ROWS) {
            let piece = batch.slice(start, PIECE_ROWS.min(batch.num_rows() - start));
            let mut columns = (0..piece.num_columns())
                .map(|index| values(&piece, index).map(Vec::into_iter))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| AnswerError::Format { format: format.name(), message: error.to_string() })?;
            let mut written = 0;
            for _ in 0..piece.num_rows() {
                written += each(&mut columns.iter_mut().filter_map(Iterator::next));
            }
            answer.hold(written)?;
        }
    }
    Ok(())
}

fn json(out: &mut Vec<u8>, answer: &SqlBatches, int64: Int64, elapsed: Duration) -> Result<(), AnswerError> {
    let fields = answer.schema.fields();
    let columns: Vec<&String> = fields.iter().map(|field| field.name()).collect();
    let types: Vec<String> = fields.iter().map(|field| field.data_type().to_string()).collect();
    let head = serde_json::json!({ "columns": columns, "types": types, "elapsed_ms": elapsed.as_millis() as u64 }).to_string();
    out.extend_from_slice(head.trim_end_matches('}').as_bytes());
    out.extend_from_slice(b",\"rows\":[");
    let first = out.len();
    let values = |batch: &RecordBatch, index: usize| match int64 {
        Int64::Number => json_values(batch.column(index)),
        Int64::Text => texts_of_integers(batch, index).map_or_else(|| json_values(batch.column(index)), Ok),
    };
    for_each_row(answer, Format::Json, values, |row| {
        let before = out.len();
        out.extend_from_slice(if before == first { b"[" } else { b",[" });
        for (index, value) in row.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, &value).expect("values are written to memory");
        }
        out.push(b']');
        out.len() - before
    })?;
    out.extend_from_slice(b"]}");
    Ok(())
}

/// A column of 64-bit integers as texts; none if it is of another type.
fn texts_of_integers(batch: &RecordBatch, index: usize) -> Option<Vec<Value>> {
    let column = batch.column(index);
    let text = |number: Option<String>| number.map_or(Value::Null, Value::from);
    match column.data_type() {
        DataType::Int64 => {
            Some(column.as_primitive::<Int64Type>().iter().map(|number| text(number.map(|number| number.to_string()))).collect())
        }
        DataType::UInt64 => {
            Some(column.as_primitive::<UInt64Type>().iter().map(|number| text(number.map(|number| number.to_string()))).collect())
        }
        _ => None,
    }
}

fn csv(out: &mut Vec<u8>, answer: &SqlBatches) -> Result<(), AnswerError> {
    for (index, field) in answer.schema.fields().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        csv_text(out, field.name());
    }
    out.extend_from_slice(b"\r\n");
    for_each_row(
        answer,
        Format::Csv,
        |batch, index| json_values(batch.column(index)),
        |row| {
            let before = out.len();
            for (index, value) in row.enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                match value {
                    Value::Null => {}
                    // What is empty and quoted is a text, what is empty is nothing.
                    Value::String(text) if text.is_empty() => out.extend_from_slice(b"\"\""),
                    Value::String(text) => csv_text(out, &text),
                    other => csv_text(out, &other.to_string()),
                }
            }
            out.extend_from_slice(b"\r\n");
            out.len() - before
        },
    )
}

fn csv_text(out: &mut Vec<u8>, text: &str) {
    if text.contains(['"', ',', '\r', '\n']) {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}
