//! Questions: SQL, and the spans of a trace in Scouter's shape.

use axum::{
    Json,
    extract::{Query, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use scouter_query::QueryError;
use serde::{Deserialize, Serialize};

use super::{HttpDoors, error_response};

/// The body of `POST /api/v1/sql`.
#[derive(Debug, Deserialize)]
pub(super) struct SqlQuestion {
    query: String,
}

/// The query of `GET /scouter/trace/spans`.
#[derive(Debug, Deserialize)]
pub(super) struct TraceQuestion {
    trace_id: Option<String>,
    service_name: Option<String>,
}

/// The answer of `POST /api/v1/sql`.
#[derive(Serialize)]
struct SqlBody<'a> {
    columns: &'a [String],
    rows: &'a [Vec<serde_json::Value>],
}

/// An answer may be a million rows: it is written without a copy as a tree, and not in the time of the requests beside it.
fn json_response(body: &impl Serialize) -> Response {
    match tokio::task::block_in_place(|| serde_json::to_vec(body)) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => error_response(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", &error.to_string()),
    }
}

/// `POST /api/v1/sql`.
pub(super) async fn sql(State(doors): State<HttpDoors>, question: Result<Json<SqlQuestion>, JsonRejection>) -> Response {
    let Json(question) = match question {
        Ok(question) => question,
        Err(rejection) => {
            let text = format!("send JSON such as {{\"query\": \"SELECT count(*) FROM spans\"}}: {}", rejection.body_text());
            return error_response(rejection.status(), "INVALID_ARGUMENT", &text);
        }
    };
    match doors.engine.sql(&question.query).await {
        Ok(answer) => json_response(&SqlBody { columns: &answer.columns, rows: &answer.rows }),
        Err(error) => query_error(&error),
    }
}

/// `GET /scouter/trace/spans?trace_id=...&service_name=...`.
pub(super) async fn trace_spans(State(doors): State<HttpDoors>, Query(question): Query<TraceQuestion>) -> Response {
    let Some(trace_id) = question.trace_id.as_deref().and_then(parse_trace_id) else {
        return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "trace_id is 32 hexadecimal digits");
    };
    match doors.engine.trace(trace_id).await {
        Ok(mut trace) => {
            if let Some(service_name) = &question.service_name {
                trace.spans.retain(|span| span.service_name == *service_name);
            }
            json_response(&trace)
        }
        Err(error) => query_error(&error),
    }
}

/// The 16 bytes of a trace id written in hexadecimal.
pub(crate) fn parse_trace_id(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)).flatten()
}

fn query_error(error: &QueryError) -> Response {
    let (status, code) = match error {
        QueryError::Storage(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        QueryError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        QueryError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        QueryError::TooManyRows { .. } | QueryError::Memory { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "RESOURCE_EXHAUSTED"),
        _ => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
    };
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%error, "a query failed");
    }
    error_response(status, code, &error.to_string())
}
