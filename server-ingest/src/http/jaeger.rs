//! Jaeger's query API under `/jaeger/api`, for Jaeger UI and Grafana's Jaeger data source (`docs/jaeger.md`).

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use scouter_answers::{AnswerError, jaeger};
use serde::Serialize;
use serde_json::json;

use super::{
    HttpDoors,
    answers::{Pairs, json_response, parameters, status_of},
    error_body,
};

pub(super) fn routes() -> Router<HttpDoors> {
    Router::new()
        .route("/jaeger/api/services", get(services))
        .route("/jaeger/api/services/{service}/operations", get(operation_names))
        .route("/jaeger/api/operations", get(operations))
        .route("/jaeger/api/traces", get(search))
        .route("/jaeger/api/traces/{trace_id}", get(trace))
        .route("/jaeger/api/dependencies", get(dependencies))
}

/// JSON, or the error in Jaeger's shape.
fn respond<T: Serialize>(answer: Result<T, AnswerError>) -> Response {
    match answer {
        Ok(body) => json_response(&body),
        Err(error) => {
            let (status, _) = status_of(&error);
            let fault = jaeger::Answer::<Vec<()>>::fault(status.as_u16(), error.to_string());
            error_body(status, &json!(fault))
        }
    }
}

async fn services(State(doors): State<HttpDoors>) -> Response {
    respond(jaeger::services(&doors.engine).await)
}

async fn operation_names(State(doors): State<HttpDoors>, Path(service): Path<String>) -> Response {
    respond(jaeger::operation_names(&doors.engine, &service).await)
}

async fn operations(State(doors): State<HttpDoors>, pairs: Pairs) -> Response {
    respond(match parameters(pairs) {
        Ok(parameters) => jaeger::operations(&doors.engine, parameters).await,
        Err(error) => Err(error),
    })
}

async fn search(State(doors): State<HttpDoors>, pairs: Pairs) -> Response {
    respond(match parameters(pairs) {
        Ok(parameters) => jaeger::search(&doors.engine, parameters).await,
        Err(error) => Err(error),
    })
}

async fn trace(State(doors): State<HttpDoors>, Path(trace_id): Path<String>) -> Response {
    respond(jaeger::trace(&doors.engine, &trace_id).await)
}

async fn dependencies(State(doors): State<HttpDoors>, pairs: Pairs) -> Response {
    respond(match parameters(pairs) {
        Ok(parameters) => jaeger::dependencies(&doors.engine, parameters).await,
        Err(error) => Err(error),
    })
}
