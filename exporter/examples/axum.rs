//! A web service: a span for each request, joined to its caller's trace, delivered when the service is told to end.
//!
//! `cargo run -p scouter-exporter --example axum`, then `curl localhost:8080/score/ranker` and Ctrl-C. Spans go to the server on
//! localhost:50051 or `SCOUTER_GRPC_URI`. `ADDRESS` changes where it listens.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, Request},
    http::HeaderMap,
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use scouter_exporter::{
    GrpcConfig, init_tracing,
    opentelemetry::{global, propagation::Extractor},
    tracing_opentelemetry::OpenTelemetrySpanExt,
};
use tracing::{Instrument, field::Empty, info, info_span, instrument};
use tracing_subscriber::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = init_tracing("scorer", GrpcConfig::from_env()?)?;
    tracing_subscriber::registry().with(telemetry.layer()).init();

    let app = Router::new().route("/score/{model}", get(score)).layer(middleware::from_fn(traced));
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            if let Err(error) = tokio::signal::ctrl_c().await {
                eprintln!("cannot wait for Ctrl-C: {error}");
            }
        })
        .await?;

    // Blocking, so it leaves the runtime's threads alone.
    let report = tokio::task::spawn_blocking(move || telemetry.shutdown(Duration::from_secs(5))).await?;
    println!("spans: {:?}", report.stats.spans);
    Ok(())
}

#[instrument]
async fn score(Path(model): Path<String>) -> String {
    tokio::time::sleep(Duration::from_millis(2)).await;
    info!(score = 0.9, "scored");
    format!("{model}: 0.9\n")
}

/// Names follow OpenTelemetry's semantic conventions; `otel.*` are understood by `tracing-opentelemetry`.
async fn traced(request: Request, next: Next) -> Response {
    let span = info_span!(
        "request",
        otel.name = %format!("{} {}", request.method(), request.uri().path()),
        otel.kind = "server",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        otel.status_code = Empty,
    );
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(request.headers())));
    // Fails only when the span is not recorded, and then it needs no parent.
    let _not_recorded = span.set_parent(parent);
    async move {
        let response = next.run(request).await;
        let span = tracing::Span::current();
        span.record("http.response.status_code", response.status().as_u16());
        if response.status().is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        response
    }
    .instrument(span)
    .await
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
