//! The wiring of `scouter-server serve`: addresses are taken, the store is opened, the doors open, and all of it ends in
//! the opposite order.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use scouter_query::{Engine, Limits};
use scouter_storage::store::{Store, StoreOptions};
use tokio::{net::TcpListener, signal::unix::SignalKind, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    auth::Auth,
    config::Checked,
    grpc::{self, GrpcDoors},
    http::{self, HttpDoors},
    ingest::Ingest,
    telemetry::Metrics,
};

/// Bodies of all requests between the door and the disk.
const IN_FLIGHT_BYTES: usize = 256 * 1024 * 1024;
/// How long requests under way may take after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the last rows may take on their way into the tables. What does not make it stays in the log.
const FINAL_FLUSH: Duration = Duration::from_secs(20);

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start, or a listener failed while it ran.
pub async fn serve(config: Checked) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses()?;

    let options = StoreOptions {
        holder: addresses.http.to_string(),
        durability: config.durability,
        maintenance: config.maintenance.clone(),
        ..StoreOptions::default()
    };
    let storage = config.storage.clone();
    let (store, recovery) =
        tokio::task::spawn_blocking(move || Store::open(&storage, options)).await.context("opening the store was interrupted")??;
    tracing::info!(
        storage = %config.storage.display(),
        last_position = recovery.last.0,
        replayed_frames = recovery.replayed_frames,
        torn_bytes = recovery.torn_bytes,
        took = ?recovery.took,
        "store opened"
    );
    if let Some(log) = &recovery.retired_log {
        tracing::warn!(log = %log.display(), "the log was behind the tables, as a power loss leaves it with durability os; a new one was begun");
    }

    let auth = Arc::new(Auth::open(&config.username, config.password.expose(), &config.storage.join("keys"))?);
    let metrics = Metrics::new(&store);
    let ingest =
        Arc::new(Ingest::new(Arc::clone(&store), recovery.recent_batch_ids, Admission::new(IN_FLIGHT_BYTES), Arc::clone(&metrics)));
    let engine = Arc::new(Engine::new(Arc::clone(&store) as _, Limits::default()));
    let is_ready = Arc::new(AtomicBool::new(false));

    let grpc_doors = GrpcDoors { ingest: Arc::clone(&ingest), auth: Arc::clone(&auth), metrics: Arc::clone(&metrics) };
    let http_doors =
        HttpDoors { ingest: Arc::clone(&ingest), auth, metrics, engine, store: Arc::clone(&store), is_ready: Arc::clone(&is_ready) };

    let stop = CancellationToken::new();
    let mut doors = open_doors(listeners, &grpc_doors, http_doors, &stop).await?;
    is_ready.store(true, Ordering::Release);
    announce(&addresses)?;

    let outcome = tokio::select! {
        signal = stop_signal() => signal.map(|name| tracing::info!(signal = name, "stopping")),
        ended = doors.join_next() => Err(door_error(ended)),
        reason = store_failure(&store) => Err(anyhow!("the log failed and nothing can be stored any more: {reason}")),
    };
    is_ready.store(false, Ordering::Release);

    tracing::info!(phase = "drain", "no new requests; those under way finish");
    stop.cancel();
    let drained = tokio::time::timeout(DRAIN, async { while doors.join_next().await.is_some() {} }).await;
    ingest.close();
    if drained.is_err() {
        tracing::warn!(phase = "drain", seconds = DRAIN.as_secs(), "some connections did not end in time and are cut");
        doors.shutdown().await;
    }
    tracing::info!(phase = "flush", "the last rows go into the tables");
    store.shutdown(FINAL_FLUSH).await?;
    tracing::info!("stopped");
    outcome
}

struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    otlp_grpc: Option<TcpListener>,
    otlp_http: Option<TcpListener>,
}

/// Where the server can be reached; ports are real, also where 0 was asked for.
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    otlp_grpc: Option<SocketAddr>,
    otlp_http: Option<SocketAddr>,
}

impl Listeners {
    async fn bind(config: &Checked) -> anyhow::Result<Self> {
        let optional = async |flag, address: Option<SocketAddr>| match address {
            Some(address) => bind(flag, address).await.map(Some),
            None => Ok(None),
        };
        Ok(Self {
            grpc: bind("--grpc-addr", config.grpc).await?,
            http: bind("--http-addr", config.http).await?,
            otlp_grpc: optional("--otlp-grpc-addr", config.otlp_grpc).await?,
            otlp_http: optional("--otlp-http-addr", config.otlp_http).await?,
        })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            grpc: self.grpc.local_addr()?,
            http: self.http.local_addr()?,
            otlp_grpc: self.otlp_grpc.as_ref().map(TcpListener::local_addr).transpose()?,
            otlp_http: self.otlp_http.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!("{address} is in use by another process; stop it, or choose another address with {flag}"),
        std::io::ErrorKind::PermissionDenied => anyhow!("listening on {address} is not permitted to this user; choose another with {flag}"),
        _ => anyhow!("cannot listen on {address}: {error}; choose another address with {flag}"),
    })
}

async fn open_doors(
    listeners: Listeners,
    grpc_doors: &GrpcDoors,
    http_doors: HttpDoors,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut doors = JoinSet::new();
    let mut open_grpc = |name: &'static str, listener, routes| {
        let stop = stop.clone();
        doors.spawn(async move { grpc::serve(listener, routes, stop).await.context(name) });
    };
    open_grpc("the gRPC listener ended", listeners.grpc, grpc::scouter_routes(grpc_doors).await?);
    if let Some(listener) = listeners.otlp_grpc {
        open_grpc("the OTLP/gRPC listener ended", listener, grpc::otlp_routes(grpc_doors).await);
    }
    let mut open_http = |name: &'static str, listener, router| {
        let stop = stop.clone();
        doors.spawn(async move { http::serve(listener, router, stop).await.context(name) });
    };
    if let Some(listener) = listeners.otlp_http {
        open_http("the OTLP/HTTP listener ended", listener, http::otlp_routes(http_doors.clone()));
    }
    open_http("the HTTP listener ended", listeners.http, http::all_routes(http_doors));
    Ok(doors)
}

/// One line on stdout for whoever started the server, above all when it chose the ports.
fn announce(addresses: &Addresses) -> std::io::Result<()> {
    let optional = |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let mut stdout = std::io::stdout();
    writeln!(
        stdout,
        "listening grpc={} http={} otlp-grpc={} otlp-http={}",
        addresses.grpc,
        addresses.http,
        optional(addresses.otlp_grpc),
        optional(addresses.otlp_http)
    )?;
    stdout.flush()
}

async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// Ends when the log is dead: a server that cannot store must not look alive.
async fn store_failure(store: &Store) -> String {
    loop {
        if let Some(reason) = store.failed() {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn door_error(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow!("a listener's task failed: {error}"),
        Some(Ok(Ok(()))) | None => anyhow!("a listener ended without being asked to"),
    }
}
