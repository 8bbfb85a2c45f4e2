//! The HTTP doors: OTLP/HTTP, login, questions in this server's, Jaeger's and Scouter's shapes, users and keys, health, metrics, the page.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post},
};
use scouter_query::Engine;
use scouter_storage::store::Store;

use crate::{
    admission::Share,
    auth::{Auth, Caller, Denied, Permission},
    error::{IngestError, RETRY_AFTER, text_of},
    ingest::Ingest,
    listener::Peer,
    profiles::Profiles,
    receive::{Intake, Received},
    telemetry::Metrics,
};

mod accounts;
mod answers;
mod ask;
mod front;
pub use front::Front;
mod jaeger;
mod login;
mod otlp;
mod page;
mod query;
mod records;
mod scouter;

/// Of what axum says of a request.
const LONGEST_FAULT_BYTES: usize = 4096;
/// Questions and changes are far shorter.
const MAX_QUESTION_BYTES: usize = 1024 * 1024;

/// What the HTTP doors need.
#[derive(Clone)]
pub struct HttpDoors {
    /// Where submissions go.
    pub ingest: Arc<Ingest>,
    /// Who may come in.
    pub auth: Arc<Auth>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What clients registered.
    pub profiles: Arc<Profiles>,
    /// Answers questions.
    pub engine: Arc<Engine>,
    /// For its state only.
    pub store: Arc<Store>,
    /// Whether requests should come.
    pub life: Arc<Life>,
    /// How bodies are taken in.
    pub intake: Intake,
    /// A path before OTLP's own, such as `/otlp`; empty for none.
    pub otlp_base_path: String,
    /// Where gRPC listens, for those who ask how to send.
    pub grpc_address: SocketAddr,
}

/// Where in its life the server is.
#[derive(Debug, Default)]
pub struct Life(AtomicU8);

/// The parts of a server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The store is being opened, its log read.
    Starting = 0,
    /// Every door is open.
    Ready = 1,
    /// Asked to end.
    Stopping = 2,
}

impl Life {
    /// Goes on to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }

    /// Where it is now.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Stopping,
        }
    }
}

impl HttpDoors {
    /// Who is calling, if he may in every space; a stranger is counted.
    async fn admit(&self, headers: &HeaderMap, from: IpAddr, needs: Permission) -> Result<Caller, IngestError> {
        let admitted = self.caller(headers, from).await.and_then(|caller| caller.require(needs));
        Ok(admitted.inspect_err(|denied| self.metrics.count_denied(denied))?)
    }

    /// Who is calling, if he may in some space.
    async fn admit_to_a_space(&self, headers: &HeaderMap, from: IpAddr, needs: Permission) -> Result<Caller, IngestError> {
        let admitted = self.caller(headers, from).await.and_then(|caller| caller.require_somewhere(needs));
        Ok(admitted.inspect_err(|denied| self.metrics.count_denied(denied))?)
    }

    async fn caller(&self, headers: &HeaderMap, from: IpAddr) -> Result<Caller, Denied> {
        self.check_host(headers)?;
        self.auth.caller(authorization(headers), from).await
    }

    /// Whoever knows guest's password may be a page of another site, in a browser on this machine, whose name was made to lead here.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let host = page::host(headers);
        if self.auth.is_guest_welcome() && !page::is_no_sites_name(host) {
            return Err(Denied::Elsewhere { host: host.to_owned() });
        }
        Ok(())
    }
}

/// OTLP, Scouter's routes, queries, users and keys, health, metrics and the page.
pub fn all_routes(doors: HttpDoors) -> Router {
    let questions = Router::new()
        .route("/api/v1/sql", post(ask::sql))
        .merge(query::routes())
        .merge(jaeger::routes())
        .merge(scouter::routes())
        .route_layer(middleware::from_fn_with_state(doors.clone(), require_reader));
    let administration = Router::new()
        .route("/api/v1/users", get(accounts::users).post(accounts::add_user))
        .route("/api/v1/users/{name}", patch(accounts::change_user))
        .route("/api/v1/keys", get(accounts::keys).post(accounts::create_key))
        .route("/api/v1/keys/{id}", delete(accounts::revoke_key))
        .route_layer(middleware::from_fn_with_state(doors.clone(), require_administrator));
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/scouter/auth/login", get(login::login))
        .route("/scouter/auth/refresh", get(login::refresh))
        .route("/scouter/auth/validate", get(login::validate))
        .route("/scouter/auth/logout", post(login::logout));
    finish(
        open.merge(page::routes()).merge(questions).merge(administration).merge(records::routes(&doors)).merge(otlp_router(&doors)),
        doors,
    )
}

/// OTLP and health.
pub fn otlp_routes(doors: HttpDoors) -> Router {
    finish(otlp_router(&doors).route("/healthz", get(healthz)).route("/readyz", get(readyz)).fallback(not_found), doors)
}

fn otlp_router(doors: &HttpDoors) -> Router<HttpDoors> {
    let signals = Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/traces/", post(otlp::traces))
        .route("/v1/logs", post(async |request: Request| otlp::not_served(&request, "logs")))
        .route("/v1/metrics", post(async |request: Request| otlp::not_served(&request, "metrics")))
        .route("/v1development/profiles", post(async |request: Request| otlp::not_served(&request, "profiles")))
        .route_layer(middleware::from_fn_with_state(doors.clone(), otlp::require_writer));
    if doors.otlp_base_path.is_empty() {
        return signals;
    }
    Router::new().nest(&doors.otlp_base_path, signals.clone()).merge(signals)
}

fn finish(router: Router<HttpDoors>, doors: HttpDoors) -> Router {
    router.layer(middleware::map_response(in_one_shape)).with_state(doors)
}

/// Faults that axum finds before a handler is called, such as a method that a route has not or a path that is no UTF-8, come as plain text
/// or nothing. They get the body of all other errors.
async fn in_one_shape(response: Response) -> Response {
    let status = response.status();
    let is_plain = response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = match axum::body::to_bytes(body, LONGEST_FAULT_BYTES).await {
        Ok(text) if !text.is_empty() => String::from_utf8_lossy(&text).into_owned(),
        // Which ones axum writes into the header when this is done.
        _ if status == StatusCode::METHOD_NOT_ALLOWED => "this address is asked by other methods; the header `allow` names them".to_owned(),
        _ => status.canonical_reason().unwrap_or("the request cannot be answered").to_owned(),
    };
    let (told, body) = error_response(status, code_of(status), &text).into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(told.headers);
    Response::from_parts(parts, body)
}

async fn require_reader(doors: State<HttpDoors>, request: Request, next: Next) -> Response {
    require(doors, request, next, Permission::Read).await
}

async fn require_administrator(doors: State<HttpDoors>, request: Request, next: Next) -> Response {
    require(doors, request, next, Permission::Admin).await
}

/// Lets a request pass with a caller who may, and its body taken in whole.
async fn require(State(doors): State<HttpDoors>, request: Request, next: Next, needs: Permission) -> Response {
    let from = Peer::address(request.extensions());
    match doors.admit(request.headers(), from, needs).await {
        Ok(_) => with_small_body(&doors, request, next).await,
        Err(error) => refusal(&error),
    }
}

/// Takes the body in as a whole, of a request that is no larger than a question.
async fn with_small_body(doors: &HttpDoors, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let intake = Intake { max_request_bytes: MAX_QUESTION_BYTES, ..doors.intake.clone() };
    match intake.whole(&Share::of(&parts.extensions), body, content_length(&parts.headers), None).await {
        Ok(Received { payload, room }) => {
            // The longest of these is small beside what answering takes.
            drop(room);
            next.run(Request::from_parts(parts, payload.into())).await
        }
        Err(error) => refusal(&error),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// Any error in Scouter's body.
fn refusal(error: &IngestError) -> Response {
    let answer = error.answer();
    let status = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = error_response(status, code_of(status), &error.text());
    add_hints(response.headers_mut(), &answer);
    response
}

/// The word for a status.
fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::FORBIDDEN => "PERMISSION_DENIED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => "RESOURCE_EXHAUSTED",
        StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "DEADLINE_EXCEEDED",
        status if status.is_server_error() => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// What a refused client should do: authenticate, wait.
fn add_hints(headers: &mut HeaderMap, answer: &crate::error::Answer) {
    if answer.http_status == StatusCode::UNAUTHORIZED.as_u16() {
        headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer, Basic realm=\"scouter\""));
    }
    if let Some(delay) = answer.retry_after {
        // Whole seconds, and never fewer than asked for.
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from(delay.as_millis().div_ceil(1000).max(1) as u64));
    }
}

/// Scouter's error body.
fn error_response(status: StatusCode, code: &str, text: &str) -> Response {
    let action = match code {
        "UNAUTHENTICATED" => "log in again, or send a valid key",
        "PERMISSION_DENIED" => "do what the error says, or ask an administrator for the permission",
        "RESOURCE_EXHAUSTED" => "send less at once, or send it again later",
        "UNAVAILABLE" | "DEADLINE_EXCEEDED" => "send it again later",
        "NOT_FOUND" => "check the address",
        "ALREADY_EXISTS" => "choose another name",
        "INTERNAL" => "look at the server's log",
        _ => "correct the request",
    };
    error_body(status, &serde_json::json!({ "error": text, "code": code, "suggested_action": action }))
}

/// An error's body with its status. Who is to come again is told when.
fn error_body(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER.as_secs().into());
    }
    response
}

async fn not_found(request: Request) -> Response {
    error_response(StatusCode::NOT_FOUND, "NOT_FOUND", &format!("there is nothing at {} {}", request.method(), request.uri().path()))
}

/// Whether the process should live on.
async fn healthz(State(doors): State<HttpDoors>) -> Response {
    match doors.store.failed() {
        Some(reason) => error_response(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &reason),
        None => front::alive(),
    }
}

/// Whether requests should be sent here.
async fn readyz(State(doors): State<HttpDoors>) -> Response {
    let reason = doors.store.failed().or_else(|| doors.store.obstacle().map(|error| text_of(&error)));
    match (doors.life.stage(), reason) {
        (Stage::Ready, Some(reason)) => error_response(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &reason),
        (stage, _) => front::readiness(stage),
    }
}

async fn metrics(State(doors): State<HttpDoors>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], doors.metrics.render()).into_response()
}
