//! SQL.

use std::time::Instant;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use scouter_answers::{AnswerError, Format, Int64, sql_answer};
use serde::Deserialize;

use super::{HttpDoors, answers::error_of};

/// The body of `POST /api/v1/sql`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlQuestion {
    query: String,
    format: Option<String>,
    int64: Option<String>,
}

/// `POST /api/v1/sql`.
pub(super) async fn sql(
    State(doors): State<HttpDoors>,
    headers: HeaderMap,
    question: Result<Json<SqlQuestion>, JsonRejection>,
) -> Response {
    match answer(&doors, &headers, question).await {
        Ok((format, body)) => ([(header::CONTENT_TYPE, format.media_type())], body).into_response(),
        Err(error) => error_of(&error),
    }
}

async fn answer(
    doors: &HttpDoors,
    headers: &HeaderMap,
    question: Result<Json<SqlQuestion>, JsonRejection>,
) -> Result<(Format, Vec<u8>), AnswerError> {
    let Json(question) = question.map_err(|rejection| AnswerError::Parameter {
        message: format!("the body cannot be read: {}", rejection.body_text()),
        action: "send JSON such as {\"query\": \"SELECT count(*) FROM spans\"}, with its content type".to_owned(),
    })?;
    let format = match &question.format {
        Some(name) => Format::from_name(name).ok_or_else(|| bad("format", name, "json, csv, arrow or parquet"))?,
        None => headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).map_or(Format::Json, Format::from_accept),
    };
    let int64 = match question.int64.as_deref() {
        None | Some("number") => Int64::Number,
        Some("string") => Int64::Text,
        Some(other) => return Err(bad("int64", other, "number or string")),
    };
    let started = Instant::now();
    let rows = doors.engine.sql_batches(&question.query).await?;
    let elapsed = started.elapsed();
    // A million rows are not written in the time of the requests beside them.
    let body = tokio::task::block_in_place(|| sql_answer(&rows, format, int64, elapsed))?;
    Ok((format, body))
}

fn bad(name: &str, given: &str, expected: &str) -> AnswerError {
    AnswerError::Parameter { message: format!("{name} is not one: {given:?}"), action: format!("write {expected}") }
}
