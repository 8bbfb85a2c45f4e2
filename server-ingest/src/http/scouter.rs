//! Scouter's query routes, with its shapes.

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    response::Response,
    routing::{get, post},
};
use scouter_answers::{
    AnswerError, parse_trace_id,
    scouter::{self, DashboardQuestion, GenAiMetrics, GenAiSpanFilters, GenAiTable, TagsQuestion, TraceFilters, TraceMetricsQuestion},
};
use serde::Deserialize;

use super::{HttpDoors, answers::respond};

pub(super) fn routes() -> Router<HttpDoors> {
    Router::new()
        .route("/scouter/trace/spans", get(spans))
        .route("/scouter/v1/traces/{trace_id}/spans", get(spans_of))
        .route("/scouter/trace/paginated", post(paginated))
        .route("/scouter/trace/spans/filters", post(spans_by_filters))
        .route("/scouter/trace/spans/tags", post(spans_by_tags))
        .route("/scouter/trace/metrics", post(metrics))
        .route("/scouter/trace/baggage", get(baggage))
        .route("/scouter/genai/metrics/{table}", post(genai_metrics))
        .route("/scouter/genai/spans", post(genai_spans))
        .route("/scouter/genai/conversation/{id}", get(genai_conversation))
        .route("/scouter/genai/agent/metrics", post(agent_metrics))
        .route("/scouter/genai/tool/metrics", post(tool_metrics))
}

/// The query of `GET /scouter/trace/spans`. Its time range is not looked at: the id says enough, and a trace is not hidden for its age.
#[derive(Debug, Deserialize)]
struct TraceQuestion {
    trace_id: Option<String>,
    service_name: Option<String>,
}

/// The query of `GET /scouter/genai/conversation/{id}`.
#[derive(Debug, Deserialize)]
struct ConversationQuestion {
    start_time: Option<String>,
    end_time: Option<String>,
}

const A_DAY: &str = "{\"start_time\": \"2026-01-02T00:00:00Z\", \"end_time\": \"2026-01-03T00:00:00Z\"}";

type Body<T> = Result<Json<T>, JsonRejection>;

fn body<T>(body: Body<T>, example: &str) -> Result<T, AnswerError> {
    body.map(|Json(body)| body).map_err(|rejection| AnswerError::Parameter {
        message: format!("the body cannot be read: {}", rejection.body_text()),
        action: format!("send JSON such as {example}, with its content type"),
    })
}

async fn spans(State(doors): State<HttpDoors>, Query(question): Query<TraceQuestion>) -> Response {
    respond(trace(&doors, question.trace_id.as_deref().unwrap_or_default(), question.service_name.as_deref()).await)
}

async fn spans_of(State(doors): State<HttpDoors>, Path(trace_id): Path<String>) -> Response {
    respond(trace(&doors, &trace_id, None).await)
}

async fn trace(doors: &HttpDoors, trace_id: &str, service: Option<&str>) -> Result<scouter_query::Trace, AnswerError> {
    let id = parse_trace_id(trace_id).ok_or_else(|| AnswerError::Parameter {
        message: format!("trace_id is 32 hexadecimal digits, not {trace_id:?}"),
        action: "write 32 hexadecimal digits".to_owned(),
    })?;
    let mut trace = doors.engine.trace(id).await?;
    if let Some(service) = service {
        trace.spans.retain(|span| span.service_name == service);
    }
    Ok(trace)
}

async fn paginated(State(doors): State<HttpDoors>, filters: Body<TraceFilters>) -> Response {
    respond(match body(filters, "{\"service_name\": \"gateway\", \"limit\": 50}") {
        Ok(filters) => scouter::paginated(&doors.engine, filters).await,
        Err(error) => Err(error),
    })
}

async fn spans_by_filters(State(doors): State<HttpDoors>, filters: Body<TraceFilters>) -> Response {
    respond(match body(filters, "{\"service_name\": \"gateway\"}") {
        Ok(filters) => scouter::spans_of_newest(&doors.engine, filters).await,
        Err(error) => Err(error),
    })
}

async fn spans_by_tags(State(doors): State<HttpDoors>, question: Body<TagsQuestion>) -> Response {
    let example = "{\"entity_type\": \"trace\", \"tag_filters\": [{\"key\": \"env\", \"value\": \"prod\"}], \"match_all\": true}";
    respond(match body(question, example) {
        Ok(question) => scouter::spans_by_tags(&doors.engine, question).await,
        Err(error) => Err(error),
    })
}

async fn metrics(State(doors): State<HttpDoors>, question: Body<TraceMetricsQuestion>) -> Response {
    let example = "{\"start_time\": \"2026-01-02T00:00:00Z\", \"end_time\": \"2026-01-03T00:00:00Z\", \"bucket_interval\": \"5 minutes\"}";
    respond(match body(question, example) {
        Ok(question) => scouter::trace_metrics(&doors.engine, question).await,
        Err(error) => Err(error),
    })
}

async fn baggage(State(doors): State<HttpDoors>, Query(question): Query<TraceQuestion>) -> Response {
    respond(scouter::baggage(&doors.engine, question.trace_id.as_deref().unwrap_or_default()).await)
}

async fn genai_metrics(State(doors): State<HttpDoors>, Path(table): Path<String>, question: Body<GenAiMetrics>) -> Response {
    let Some(table) = GenAiTable::from_name(&table) else {
        return respond::<()>(Err(AnswerError::NotFound { what: "GenAI metric", name: table }));
    };
    respond(match body(question, A_DAY) {
        Ok(question) => scouter::genai_metrics(&doors.engine, table, question).await,
        Err(error) => Err(error),
    })
}

async fn genai_spans(State(doors): State<HttpDoors>, filters: Body<GenAiSpanFilters>) -> Response {
    respond(match body(filters, "{\"operation_name\": \"chat\", \"limit\": 100}") {
        Ok(filters) => scouter::genai_spans(&doors.engine, filters).await,
        Err(error) => Err(error),
    })
}

async fn genai_conversation(State(doors): State<HttpDoors>, Path(id): Path<String>, Query(range): Query<ConversationQuestion>) -> Response {
    respond(scouter::genai_conversation(&doors.engine, &id, range.start_time.as_ref(), range.end_time.as_ref()).await)
}

async fn agent_metrics(State(doors): State<HttpDoors>, question: Body<DashboardQuestion>) -> Response {
    respond(match body(question, A_DAY) {
        Ok(question) => scouter::agent_metrics(&doors.engine, question).await,
        Err(error) => Err(error),
    })
}

async fn tool_metrics(State(doors): State<HttpDoors>, question: Body<DashboardQuestion>) -> Response {
    respond(match body(question, A_DAY) {
        Ok(question) => scouter::tool_metrics(&doors.engine, question).await,
        Err(error) => Err(error),
    })
}
