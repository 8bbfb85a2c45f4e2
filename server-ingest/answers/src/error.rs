//! Why there is no answer, and what the person may do.

use scouter_query::QueryError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A parameter cannot be read, or is not known.
    #[error("{message}")]
    Parameter {
        /// What is wrong with which.
        message: String,
        /// What to write instead.
        action: String,
    },
    /// The one thing that was asked for does not exist.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// The question failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer could not be written in its format.
    #[error("the answer cannot be written as {format}: {message}")]
    Format {
        /// The format.
        format: &'static str,
        /// Why.
        message: String,
    },
}

impl AnswerError {
    pub(crate) fn parameter(message: impl Into<String>, action: impl Into<String>) -> Self {
        Self::Parameter { message: message.into(), action: action.into() }
    }

    /// What the person may do about it.
    pub fn suggested_action(&self) -> &str {
        match self {
            Self::Parameter { action, .. } => action,
            Self::NotFound { what: "trace", .. } => "check the id; spans of a trace may still be on their way, or past their retention",
            Self::NotFound { .. } => "check the name against the list of what there is",
            Self::Format { .. } => "ask for another format, or cast the column to text",
            Self::Query(error) => match error {
                QueryError::Syntax { .. } | QueryError::Invalid { .. } => {
                    "correct the statement; SHOW TABLES and DESCRIBE spans tell what there is"
                }
                QueryError::NotReadOnly { .. } => "ask with SELECT; nothing can be changed here",
                QueryError::UnknownTable { .. } => "use one of the tables; SHOW TABLES lists them",
                QueryError::UnknownColumn { .. } => {
                    "use one of the table's columns; DESCRIBE lists them, and attr(attributes, 'key') reads any attribute"
                }
                QueryError::TooComplex { .. } => "ask a simpler question, or several",
                QueryError::Failed { .. } => "guard the expression that failed, for instance with nullif or try_cast",
                QueryError::TooManyRows { .. } => "narrow the time or the filter, or add LIMIT",
                QueryError::Timeout { .. } => "narrow the time or the filter",
                QueryError::Memory { .. } => "narrow the time or the filter, or try again when fewer questions run",
                QueryError::Storage(_) => "try again; if it stays, look at the server's log",
                QueryError::Internal(_) => "try again; the server's log says more",
            },
        }
    }
}

/// Where in a statement the parser stopped, as line and column from 1, if its message says so.
pub fn sql_position(message: &str) -> Option<(u64, u64)> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}
