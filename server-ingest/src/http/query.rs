//! `/api/v1`: questions about traces, GenAI and records (`docs/http-api.md`).

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use scouter_answers::{self as answers, AnswerError, Detail};

use super::{
    HttpDoors,
    answers::{Pairs, parameters, respond},
};

pub(super) fn routes() -> Router<HttpDoors> {
    Router::new()
        .route("/api/v1/services", get(services))
        .route("/api/v1/operations", get(operations))
        .route("/api/v1/attributes", get(attributes))
        .route("/api/v1/attributes/{key}/values", get(attribute_values))
        .route("/api/v1/traces", get(search))
        .route("/api/v1/traces/{trace_id}", get(trace))
        .route("/api/v1/traces/{trace_id}/genai", get(genai_of_trace))
        .route("/api/v1/traces/{trace_id}/spans/{span_id}", get(span))
        .route("/api/v1/series", get(series))
        .route("/api/v1/service-graph", get(service_graph))
        .route("/api/v1/genai/summary", get(genai_summary))
        .route("/api/v1/genai/models", get(genai_models))
        .route("/api/v1/genai/tools", get(genai_tools))
        .route("/api/v1/genai/agents", get(genai_agents))
        .route("/api/v1/genai/errors", get(genai_errors))
        .route("/api/v1/genai/conversations", get(conversations))
        .route("/api/v1/genai/conversations/{id}", get(conversation))
        .route("/api/v1/records", get(records))
        .route("/api/v1/records/{kind}", get(record_series))
}

/// A route whose question is all in its parameters.
macro_rules! asks {
    ($($route:ident => $question:path),+ $(,)?) => {$(
        async fn $route(State(doors): State<HttpDoors>, pairs: Pairs) -> Response {
            respond(match parameters(pairs) {
                Ok(parameters) => $question(&doors.engine, parameters).await,
                Err(error) => Err(error),
            })
        }
    )+};
}

asks! {
    services => answers::services,
    operations => answers::operations,
    attributes => answers::attribute_keys,
    search => answers::search,
    series => answers::series,
    service_graph => answers::service_graph,
    genai_summary => answers::genai_summary,
    genai_models => answers::genai_models,
    genai_tools => answers::genai_tools,
    genai_agents => answers::genai_agents,
    genai_errors => answers::genai_errors,
    conversations => answers::conversations,
    records => answers::record_kinds,
}

/// A route that names one thing and has parameters.
macro_rules! asks_of {
    ($($route:ident => $question:path),+ $(,)?) => {$(
        async fn $route(State(doors): State<HttpDoors>, Path(name): Path<String>, pairs: Pairs) -> Response {
            respond(match parameters(pairs) {
                Ok(parameters) => $question(&doors.engine, &name, parameters).await,
                Err(error) => Err(error),
            })
        }
    )+};
}

asks_of! {
    attribute_values => answers::attribute_values,
    record_series => answers::record_series,
}

async fn trace(State(doors): State<HttpDoors>, Path(trace_id): Path<String>, pairs: Pairs) -> Response {
    let detail = parameters(pairs).and_then(detail);
    respond(match detail {
        Ok(detail) => answers::trace(&doors.engine, &trace_id, detail).await,
        Err(error) => Err(error),
    })
}

fn detail(parameters: answers::Parameters) -> Result<Detail, AnswerError> {
    let name = parameters.only("detail")?;
    name.map_or(Ok(Detail::Auto), |name| {
        Detail::from_name(&name).ok_or_else(|| AnswerError::Parameter {
            message: format!("detail is not one: {name:?}"),
            action: "write auto, lean or full".to_owned(),
        })
    })
}

async fn span(State(doors): State<HttpDoors>, Path((trace_id, span_id)): Path<(String, String)>) -> Response {
    respond(answers::span(&doors.engine, &trace_id, &span_id).await)
}

async fn genai_of_trace(State(doors): State<HttpDoors>, Path(trace_id): Path<String>) -> Response {
    respond(answers::genai_of_trace(&doors.engine, &trace_id).await)
}

async fn conversation(State(doors): State<HttpDoors>, Path(id): Path<String>) -> Response {
    respond(answers::conversation(&doors.engine, &id).await)
}
