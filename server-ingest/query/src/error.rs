//! Why a question was not answered, in words for the person who asked.

use std::time::Duration;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use scouter_storage::store::StoreError;

/// Why a question was not answered. The texts are meant for users and hold no row data.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is not one SQL statement.
    #[error("the query is not one SQL statement: {message}")]
    Syntax {
        /// What the parser found.
        message: String,
    },
    /// The statement would do something other than read.
    #[error("queries only read: {statement} is not allowed; SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS and DESCRIBE are")]
    NotReadOnly {
        /// The first words of the statement.
        statement: String,
    },
    /// The query names a table that does not exist.
    #[error("there is no table {name}; there are {known}")]
    UnknownTable {
        /// The name as written.
        name: String,
        /// The names of all tables.
        known: String,
    },
    /// The query names a column that does not exist.
    #[error("there is no column {name}{}", Similar(.similar))]
    UnknownColumn {
        /// The name as written.
        name: String,
        /// Columns that may have been meant.
        similar: Vec<String>,
    },
    /// The query is longer, deeper or larger than is planned here.
    #[error("the query has more than {limit} {what}")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// The statement can be parsed but means nothing: wrong types, a function that does not exist, an ambiguous name.
    #[error("the query cannot be planned: {message}")]
    Invalid {
        /// What the planner found.
        message: String,
    },
    /// A value made the query fail while it ran, such as a division by zero.
    #[error("the query failed: {message}")]
    Failed {
        /// What happened.
        message: String,
    },
    /// The answer has more rows than are given out. Nothing is cut off silently.
    #[error("the answer has more than {limit} rows; ask for fewer with WHERE, GROUP BY or LIMIT")]
    TooManyRows {
        /// How many are given out.
        limit: usize,
    },
    /// The query took too long and was stopped.
    #[error("the query took longer than {limit:?} and was stopped; ask for a shorter time range or fewer columns")]
    Timeout {
        /// How long it may take.
        limit: Duration,
    },
    /// The queries that run now, or this answer, need more memory than there is for them.
    #[error("the query needs more than the {} MiB that queries have together; ask for fewer rows or columns", .limit_bytes >> 20)]
    Memory {
        /// What all running queries may hold.
        limit_bytes: usize,
    },
    /// The rows could not be read.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// A fault of this program, not of the query.
    #[error("an internal error: {0}")]
    Internal(String),
}

/// When a fault arose: the same DataFusion error means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Plan,
    Run,
}

impl QueryError {
    /// The table name `name` is not one of ours.
    pub(crate) fn unknown_table(name: String) -> Self {
        let known = scouter_storage::columns::Table::ALL.map(|table| table.name()).join(", ");
        Self::UnknownTable { name, known }
    }

    /// What a DataFusion error means to the one who asked.
    pub(crate) fn from_datafusion(error: &DataFusionError, phase: Phase, memory_bytes: usize) -> Self {
        let root = match error.find_root() {
            DataFusionError::Collection(errors) => errors.first().map_or(error, DataFusionError::find_root),
            root => root,
        };
        match root {
            DataFusionError::ResourcesExhausted(_) => Self::Memory { limit_bytes: memory_bytes },
            DataFusionError::SQL(parser_error, _) => Self::Syntax { message: from_parser_error(parser_error) },
            DataFusionError::SchemaError(schema_error, _) => from_schema_error(schema_error, root),
            DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) | DataFusionError::Ffi(_) => Self::Internal(plain(root)),
            DataFusionError::IoError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::External(_) => Self::Internal(plain(root)),
            _ if phase == Phase::Plan => Self::Invalid { message: plain(root) },
            _ => Self::Failed { message: plain(root) },
        }
    }
}

fn from_parser_error(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => shortened(message),
        ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    }
}

fn from_schema_error(error: &SchemaError, root: &DataFusionError) -> QueryError {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return QueryError::Invalid { message: plain(root) };
    };
    let wanted = field.name().to_lowercase();
    let mut similar: Vec<(usize, String)> = valid_fields
        .iter()
        .map(|valid| (distance(&wanted, &valid.name().to_lowercase()), valid.name().to_owned()))
        .filter(|(distance, name)| *distance <= 1 + wanted.chars().count() / 3 || name.contains(wanted.as_str()))
        .collect();
    similar.sort();
    similar.dedup();
    similar.truncate(3);
    QueryError::UnknownColumn { name: field.quoted_flat_name(), similar: similar.into_iter().map(|(_, name)| name).collect() }
}

/// The text of an error: its first line of meaning, without the kind in front and without a backtrace.
fn plain(error: &DataFusionError) -> String {
    shortened(error.message().split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().trim())
}

fn shortened(text: &str) -> String {
    /// Longer messages repeat the query or list a schema.
    const MAX_CHARS: usize = 600;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

struct Similar<'a>(&'a [String]);

impl std::fmt::Display for Similar<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(out, "; did you mean {}?", names.join(" or ")),
        }
    }
}

/// Edits between two names (Levenshtein), over at most the first 64 characters.
fn distance(left: &str, right: &str) -> usize {
    const MAX_CHARS: usize = 64;
    let right: Vec<char> = right.chars().take(MAX_CHARS).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left) in left.chars().take(MAX_CHARS).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in right.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = (diagonal + usize::from(left != *right)).min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}
