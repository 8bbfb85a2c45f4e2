//! Records and what belongs to them: Scouter's routes for messages, profiles, tags and drift, in its shapes, and which evaluation belongs to
//! which trace.
//!
//! Records and profiles belong to spaces. Whoever may do something in one space is let in, and each handler looks at the space of what is
//! asked for.

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use scouter_answers::AnswerError;
use scouter_query::QueryError;
use serde_json::json;

use super::{
    HttpDoors,
    answers::{error_of, json_response},
    otlp, refusal, with_small_body,
};
use crate::{
    auth::{Caller, Denied, Permission},
    error::IngestError,
    listener::Peer,
};

mod alerts;
mod drift;
mod evaluations;
mod messages;
mod profiles;
mod tags;

pub(super) fn routes(doors: &HttpDoors) -> Router<HttpDoors> {
    let data = Router::new()
        .route("/scouter/message", post(messages::message))
        .route("/scouter/drift", post(messages::message))
        .route_layer(middleware::from_fn_with_state(doors.clone(), require_writer));
    let changes = Router::new()
        .route("/scouter/profile", post(profiles::register).put(profiles::update))
        .route("/scouter/profile/status", put(profiles::set_status))
        .route("/scouter/tags", post(tags::insert))
        .route_layer(middleware::from_fn_with_state(doors.clone(), require_to_change));
    let questions = Router::new()
        .route("/scouter/profile", get(profiles::get))
        .route("/scouter/profiles", post(profiles::list))
        .route("/scouter/alerts", post(alerts::of_entity))
        .route("/scouter/tags", get(tags::of_entity))
        .route("/scouter/tags/entity", post(tags::entities_with))
        .route("/api/v1/traces/{trace_id}/evaluations", get(evaluations::of_trace))
        .route("/api/v1/evaluations/{uid}/traces", get(evaluations::traces_of))
        .route("/scouter/drift/spc", get(drift::spc))
        .route("/scouter/drift/psi", get(drift::psi))
        .route("/scouter/drift/custom", get(drift::custom))
        .route("/scouter/drift/agent/task", get(drift::tasks))
        .route("/scouter/drift/agent/workflow", get(drift::workflows))
        .route("/scouter/drift/genai/task", get(drift::tasks))
        .route("/scouter/drift/genai/workflow", get(drift::workflows))
        .route_layer(middleware::from_fn_with_state(doors.clone(), require_to_read));
    let open = Router::new().route("/scouter/healthcheck", get(healthcheck));
    data.merge(changes).merge(questions).merge(open)
}

async fn healthcheck() -> Response {
    Json(json!({ "alive": true, "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn require_writer(State(doors): State<HttpDoors>, mut request: Request, next: Next) -> Response {
    match admit(&doors, &mut request, Permission::Write).await {
        Ok(caller) => with_fresh_token(&doors, &caller, next.run(request).await),
        Err(error) => {
            otlp::linger(request).await;
            refusal(&error)
        }
    }
}

async fn require_to_change(State(doors): State<HttpDoors>, mut request: Request, next: Next) -> Response {
    match admit(&doors, &mut request, Permission::Write).await {
        Ok(caller) => with_fresh_token(&doors, &caller, with_small_body(&doors, request, next).await),
        Err(error) => refusal(&error),
    }
}

async fn require_to_read(State(doors): State<HttpDoors>, mut request: Request, next: Next) -> Response {
    match admit(&doors, &mut request, Permission::Read).await {
        Ok(caller) => with_fresh_token(&doors, &caller, with_small_body(&doors, request, next).await),
        Err(error) => refusal(&error),
    }
}

/// Who is calling, for the handler too.
async fn admit(doors: &HttpDoors, request: &mut Request, needs: Permission) -> Result<Caller, IngestError> {
    let from = Peer::address(request.extensions());
    let caller = doors.admit_to_a_space(request.headers(), from, needs).await?;
    request.extensions_mut().insert(caller.clone());
    Ok(caller)
}

/// Scouter's clients take a new token from the `authorization` header of an answer. Who came with Basic or a key has no use for one.
fn with_fresh_token(doors: &HttpDoors, caller: &Caller, mut response: Response) -> Response {
    let token = doors.auth.rotated(caller).map(|issued| format!("Bearer {}", issued.token));
    if let Some(Ok(token)) = token.map(header::HeaderValue::from_maybe_shared) {
        response.headers_mut().insert(header::AUTHORIZATION, token);
    }
    response
}

/// The refusal, if a caller may not ask about, or change, what belongs to `space`; `None` is for what belongs to none that is known, which takes the
/// permission for all.
fn refused_space(doors: &HttpDoors, caller: &Caller, needs: Permission, space: Option<&str>) -> Option<Response> {
    let checked = match space {
        Some(space) => caller.check_space(needs, space),
        None => caller.clone().require(needs).map(|_| ()),
    };
    let denied: Denied = checked.err()?;
    doors.metrics.count_denied(&denied);
    Some(refusal(&denied.into()))
}

/// The space of the profile with that uid.
fn space_of(doors: &HttpDoors, uid: &str) -> Option<String> {
    doors.profiles.by_uid(uid).map(|profile| profile.key.space.clone())
}

/// Scouter's answer to what went well.
fn success(message: &str) -> Response {
    (StatusCode::OK, Json(json!({ "status": "success", "message": message }))).into_response()
}

/// Whoever asked wrote no SQL: what is wrong with it is this program's fault.
fn query_error(error: QueryError) -> Response {
    use QueryError::{Internal, Memory, Storage, Timeout, TooManyRows};
    let error = match error {
        Storage(_) | Timeout { .. } | TooManyRows { .. } | Memory { .. } | Internal(_) => error,
        of_the_statement => Internal(of_the_statement.to_string()),
    };
    error_of(&AnswerError::Query(error))
}

/// A text as a literal of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

type Who = Extension<Caller>;
