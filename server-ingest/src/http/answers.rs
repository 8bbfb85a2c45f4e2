//! How an answer, or why there is none, is told: the one place where its errors get a status.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    extract::{Query, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use scouter_answers::{AnswerError, Parameters, sql_position};
use scouter_query::QueryError;
use serde::Serialize;
use serde_json::{Value, json};

use super::error_body;

/// The parameters of a URL, in their order.
pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// Reads the parameters of a URL.
pub(super) fn parameters(pairs: Pairs) -> Result<Parameters, AnswerError> {
    match pairs {
        Ok(Query(pairs)) => Ok(Parameters::new(pairs, now_unix_nano())),
        Err(rejection) => Err(AnswerError::Parameter {
            message: format!("the parameters cannot be read: {}", rejection.body_text()),
            action: "percent-encode names and values".to_owned(),
        }),
    }
}

pub(super) fn now_unix_nano() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// JSON, or the error in this API's shape.
pub(super) fn respond<T: Serialize>(answer: Result<T, AnswerError>) -> Response {
    answer.map_or_else(|error| error_of(&error), |body| json_response(&body))
}

/// An answer may be a million rows: it is written without a copy as a tree, and not in the time of the requests beside it.
pub(super) fn json_response(body: &impl Serialize) -> Response {
    match tokio::task::block_in_place(|| serde_json::to_vec(body)) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => error_of(&AnswerError::Format { format: "JSON", message: error.to_string() }),
    }
}

/// The status of an error and its code.
pub(super) fn status_of(error: &AnswerError) -> (StatusCode, &'static str) {
    let status = match error {
        AnswerError::Parameter { .. } => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        AnswerError::NotFound { .. } => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        AnswerError::Format { .. } => (StatusCode::NOT_ACCEPTABLE, "INVALID_ARGUMENT"),
        AnswerError::Query(error) => match error {
            QueryError::Storage(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            QueryError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
            QueryError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
            QueryError::TooManyRows { .. } | QueryError::Memory { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "RESOURCE_EXHAUSTED"),
            _ => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        },
    };
    if status.0 == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%error, "a query failed");
    }
    status
}

/// The error in this API's shape.
pub(super) fn error_of(error: &AnswerError) -> Response {
    let (status, code) = status_of(error);
    let text = error.to_string();
    let mut body = json!({ "error": text, "code": code, "suggested_action": error.suggested_action() });
    if let AnswerError::Query(QueryError::Syntax { message } | QueryError::Invalid { message }) = error
        && let Some((line, column)) = sql_position(message)
    {
        body["line"] = Value::from(line);
        body["column"] = Value::from(column);
    }
    error_body(status, &body)
}
