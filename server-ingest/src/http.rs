//! The HTTP doors: OTLP/HTTP, login, queries, health, metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use scouter_query::Engine;
use scouter_storage::store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Auth, Caller, TokenError},
    ingest::Ingest,
    telemetry::Metrics,
};

mod ask;
pub(crate) use ask::parse_trace_id;
mod login;
mod otlp;

/// What the HTTP doors need.
#[derive(Clone)]
pub struct HttpDoors {
    /// Where submissions go.
    pub ingest: Arc<Ingest>,
    /// Who may come in.
    pub auth: Arc<Auth>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Answers questions.
    pub engine: Arc<Engine>,
    /// For its state only.
    pub store: Arc<Store>,
    /// Whether every door is open.
    pub is_ready: Arc<AtomicBool>,
}

impl HttpDoors {
    /// Who is calling; a stranger is counted.
    fn admit_caller(&self, headers: &HeaderMap) -> Result<Caller, TokenError> {
        self.auth.caller(authorization(headers)).inspect_err(|_| self.metrics.count_unauthenticated())
    }
}

/// OTLP, Scouter's routes, queries, health and metrics.
pub fn all_routes(doors: HttpDoors) -> Router {
    let guarded = Router::new()
        .route("/api/v1/sql", post(ask::sql))
        .route("/scouter/trace/spans", get(ask::trace_spans))
        .route_layer(middleware::from_fn_with_state(doors.clone(), require_caller));
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/scouter/auth/login", get(login::login))
        .route("/scouter/auth/refresh", get(login::refresh))
        .route("/scouter/auth/validate", get(login::validate));
    finish(open.merge(guarded).merge(otlp_router(&doors)), doors)
}

/// OTLP and health.
pub fn otlp_routes(doors: HttpDoors) -> Router {
    finish(otlp_router(&doors).route("/healthz", get(healthz)), doors)
}

/// Serves `router` on `listener` until `stop`, then lets what is under way finish.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    use axum::serve::ListenerExt;

    let listener = listener.tap_io(|stream| {
        // Answers are small and waited for. A socket that cannot be set has already gone.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn otlp_router(doors: &HttpDoors) -> Router<HttpDoors> {
    Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/traces/", post(otlp::traces))
        .route_layer(middleware::from_fn_with_state(doors.clone(), otlp::require_caller))
}

fn finish(router: Router<HttpDoors>, doors: HttpDoors) -> Router {
    router.fallback(not_found).with_state(doors)
}

/// Lets a request pass only with a valid bearer token.
async fn require_caller(State(doors): State<HttpDoors>, request: Request, next: Next) -> Response {
    match doors.admit_caller(request.headers()) {
        Ok(_) => next.run(request).await,
        Err(error) => {
            let mut response = error_response(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", &error.to_string());
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            response
        }
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// Scouter's error body.
fn error_response(status: StatusCode, code: &str, text: &str) -> Response {
    (status, Json(serde_json::json!({ "error": text, "code": code }))).into_response()
}

async fn not_found(request: Request) -> Response {
    error_response(StatusCode::NOT_FOUND, "NOT_FOUND", &format!("there is nothing at {} {}", request.method(), request.uri().path()))
}

async fn healthz(State(doors): State<HttpDoors>) -> Response {
    if let Some(reason) = doors.store.failed() {
        return error_response(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &reason);
    }
    if doors.is_ready.load(Ordering::Acquire) {
        Json(serde_json::json!({ "alive": true, "version": env!("CARGO_PKG_VERSION") })).into_response()
    } else {
        error_response(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the server is starting or stopping")
    }
}

async fn metrics(State(doors): State<HttpDoors>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], doors.metrics.render()).into_response()
}
