//! The third service of the demo: scores an answer. Rust, axum, and the `tracing` layer of `scouter-exporter`.
//!
//! `POST /score` with `{"question": ..., "answer": ..., "sources": [...]}` answers `{"relevance": 0.83, "groundedness": null}`. The span of the
//! request continues the caller's trace by its W3C headers. Without sources there is nothing to check the answer against: the span
//! `groundedness` fails, and the trace shows it.

use std::{collections::HashSet, error::Error, net::SocketAddr, process::ExitCode};

use anyhow::Context as _;
use axum::{Json, Router, http::HeaderMap, routing::get, routing::post};
use clap::Parser;
use opentelemetry::trace::Status;
use scouter_examples::propagation::parent_of;
use scouter_exporter::{GrpcConfig, init_tracing};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, signal::unix};
use tracing::{Instrument as _, Span, field, info_span, instrument};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Scores answers, and traces what it does to a Scouter server (SCOUTER_GRPC_URI, SCOUTER_USERNAME, SCOUTER_PASSWORD).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, and the line `listening` on stdout names it.
    #[arg(long, env = "SCORER_ADDR", default_value = "127.0.0.1:8103")]
    addr: SocketAddr,
}

#[derive(Deserialize)]
struct Question {
    question: String,
    answer: String,
    #[serde(default)]
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Scores {
    relevance: f64,
    groundedness: Option<f64>,
}

#[derive(Debug, thiserror::Error)]
#[error("no sources to check the answer against")]
struct NoSources;

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scorer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    // One call: a provider, a layer for `tracing`, and a guard that delivers what is left when it is dropped.
    let telemetry = init_tracing("scorer", GrpcConfig::from_env()?)?;
    tracing_subscriber::registry().with(telemetry.layer()).init();

    let listener = TcpListener::bind(arguments.addr).await.with_context(|| format!("cannot listen on {}", arguments.addr))?;
    println!("listening http={}", listener.local_addr().context("the listener has no address")?);
    let service = Router::new().route("/healthz", get(|| async { "ok" })).route("/score", post(score));
    let mut terminate = unix::signal(unix::SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
        .await
        .context("the HTTP server failed")?;

    drop(telemetry);
    Ok(())
}

async fn score(headers: HeaderMap, Json(question): Json<Question>) -> Json<Scores> {
    let span = info_span!(
        "POST /score",
        otel.kind = "server",
        http.request.method = "POST",
        http.route = "/score",
        score.relevance = field::Empty,
        score.groundedness = field::Empty,
    );
    if let Err(error) = span.set_parent(parent_of(&headers)) {
        eprintln!("scorer: this request starts a trace of its own: {error}");
    }
    async {
        let relevance = relevance(&question.question, &question.answer);
        Span::current().record("score.relevance", relevance);
        let groundedness = groundedness(&question.answer, &question.sources).ok();
        if let Some(groundedness) = groundedness {
            Span::current().record("score.groundedness", groundedness);
        }
        Json(Scores { relevance, groundedness })
    }
    .instrument(span)
    .await
}

/// The share of the question's words that the answer takes up.
#[instrument(skip_all, fields(words = field::Empty))]
fn relevance(question: &str, answer: &str) -> f64 {
    let asked = words(question);
    Span::current().record("words", asked.len());
    let taken_up = asked.intersection(&words(answer)).count();
    taken_up as f64 / asked.len().max(1) as f64
}

/// The share of the answer's words that stand in the sources.
#[instrument(skip_all, fields(sources = sources.len()))]
fn groundedness(answer: &str, sources: &[String]) -> Result<f64, NoSources> {
    if sources.is_empty() {
        tracing::error!(error = &NoSources as &dyn Error, "exception");
        Span::current().set_status(Status::error(NoSources.to_string()));
        return Err(NoSources);
    }
    let known: HashSet<String> = sources.iter().flat_map(|source| words(source)).collect();
    let answered = words(answer);
    Ok(answered.intersection(&known).count() as f64 / answered.len().max(1) as f64)
}

fn words(text: &str) -> HashSet<String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.len() > 2).map(str::to_lowercase).collect()
}
