//! The wiring of `scouter-server serve`: addresses are taken, health is served, the store is opened, the doors open, and all of it
//! ends in the opposite order.

use std::{
    io::Write,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use scouter_query::{Engine, Limits};
#[cfg(feature = "kafka")]
use scouter_storage::lake::Objects;
use scouter_storage::store::{Recovery, Store, StoreOptions};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "kafka")]
use crate::shared_log::{KafkaLog, LogReader};
use crate::{
    admission::Admission,
    auth::Auth,
    config::{Checked, Secret, Storage, key_folder},
    consumer::{self, Taker},
    grpc::{self, GrpcDoors, Health, Threshold},
    http::{self, Front, HttpDoors, Life, Stage},
    ingest::{Durable, Ingest},
    listener::{ConnectionLimits, Hinges, bind},
    postgres::{RunningSink, Sink},
    profiles::Profiles,
    receive::{Intake, Turns},
    telemetry::{ConnectionMetrics, Metrics, QuestionCollector},
    tls::ServerTls,
};

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start, a listener failed while it ran, or the log did.
pub async fn serve(config: Checked) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses()?;
    let tls = config.tls.clone().map(ServerTls::open).transpose()?.map(Arc::new);

    let life = Arc::new(Life::default());
    let front = Front::new(Arc::clone(&life));
    let connections = Arc::new(ConnectionMetrics::default());
    let stop = CancellationToken::new();
    let mut doors = Doors {
        hinges: Hinges::new(connection_limits(&config), Arc::clone(&connections)),
        tls: tls.clone(),
        stop: stop.clone(),
        tasks: JoinSet::new(),
    };
    doors.open(listeners.http, front.clone());

    let Opened { store, durable, recovery } = open_store(&config, &addresses).await?;
    let profiles = open_profiles(&store, &config).await?;
    let (log_id, recent) = recovery.map(|recovery| (recovery.log_id.to_string(), recovery.recent_batches)).unwrap_or_default();
    let sink = config.database.clone().map(|target| Sink::new(target, log_id, &store, Arc::clone(&profiles)));
    let user = config.user.as_ref().map(|(name, password): &(String, Secret)| (name.as_str(), password.expose()));
    let auth = Arc::new(Auth::open(user, &key_folder(&config.state))?);
    // The client library of Kafka has a copy of what is on its way.
    let copies = if matches!(durable, Durable::Disk(_)) { 0 } else { config.memory.requests / COPIES };
    let admission = Admission::new(config.memory.requests - copies);
    let turns = Turns::default();
    let engine = Arc::new(Engine::new(Arc::clone(&store) as _, Limits::default()));
    let others = sink.iter().map(Sink::collector).chain([Box::new(QuestionCollector(Arc::downgrade(&engine))) as _]).collect();
    let metrics = Metrics::new(&store, &admission, &connections, others);
    let sink = sink.map(Sink::start);
    let ingest = Arc::new(Ingest::new(durable.clone(), Arc::clone(&profiles), recent, Arc::clone(&metrics), turns.clone()));
    let intake = Intake {
        admission: admission.clone(),
        turns,
        max_request_bytes: config.max_request_bytes,
        body_silence: config.silence_timeout,
        body_timeout: config.body_timeout,
    };

    let grpc_doors =
        GrpcDoors { ingest: Arc::clone(&ingest), auth: Arc::clone(&auth), metrics: Arc::clone(&metrics), intake: intake.clone() };
    let (scouter_routes, otlp_routes, health) = grpc::routes(&grpc_doors).await?;
    doors.open(listeners.grpc, Threshold::before(scouter_routes.into_axum_router(), &grpc_doors));
    if let Some(listener) = listeners.otlp_grpc {
        doors.open(listener, Threshold::before(otlp_routes.into_axum_router(), &grpc_doors));
    }
    let taker = Taker::new(Arc::clone(&ingest), admission.clone(), Arc::clone(&metrics), config.max_request_bytes);
    #[cfg(feature = "kafka")]
    if let (Durable::Kafka(_), Some(kafka)) = (&durable, &config.brokers.kafka) {
        let reader = LogReader::new(kafka.clone(), Arc::clone(&store), Arc::clone(&metrics));
        consumer::supervise(Arc::new(reader), taker.clone(), stop.clone(), &mut doors.tasks);
    }
    let http_doors = HttpDoors {
        ingest: Arc::clone(&ingest),
        auth,
        metrics,
        profiles,
        engine,
        store: Arc::clone(&store),
        life: Arc::clone(&life),
        intake,
        otlp_base_path: config.otlp_http_base_path.clone(),
        grpc_address: addresses.grpc,
    };
    if let Some(listener) = listeners.otlp_http {
        doors.open(listener, http::otlp_routes(http_doors.clone()));
    }
    front.open(http::all_routes(http_doors));
    for consumer in consumer::of(&config.brokers, &config.state, matches!(config.storage, Storage::Shared(..))) {
        consumer::supervise(consumer, taker.clone(), stop.clone(), &mut doors.tasks);
    }
    life.enter(Stage::Ready);
    announce(&addresses)?;

    let outcome = tokio::select! {
        name = signals.stop(tls.as_deref()) => { tracing::info!(signal = name, "stopping"); Ok(()) }
        ended = doors.tasks.join_next() => Err(door_error(ended)),
        reason = watch_store(&store, &durable, &admission, &health) => {
            tracing::error!(reason, "the log failed; nothing more is taken in");
            Err(anyhow!("the log failed and nothing can be stored any more: {reason}"))
        }
    };
    let is_orderly = outcome.is_ok();
    let flushed = Ending { life, health, stop, doors: doors.tasks, ingest, durable, sink, store }.run(&config, is_orderly).await;
    outcome.and(flushed)
}

fn connection_limits(config: &Checked) -> ConnectionLimits {
    ConnectionLimits {
        max_connections: config.max_connections,
        max_connections_per_address: config.max_connections_per_address,
        max_streams: config.max_streams,
        window_bytes: u32::try_from(config.memory.connection_window).unwrap_or(u32::MAX),
        buffers_bytes: config.memory.connection_buffers,
        header_timeout: config.header_timeout,
        idle_timeout: config.idle_timeout,
        write_timeout: config.silence_timeout,
    }
}

/// The part of the requests' memory that is for copies on their way to a shared log.
const COPIES: usize = 4;

/// The store, what makes requests durable, and what was found on disk, where they are on disk.
struct Opened {
    store: Arc<Store>,
    durable: Durable,
    recovery: Option<Recovery>,
}

async fn open_store(config: &Checked, addresses: &Addresses) -> anyhow::Result<Opened> {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let holder = format!("{scheme}://{}", addresses.http);
    let options = StoreOptions {
        holder,
        durability: config.durability,
        hold_log: config.database.is_some(),
        maintenance: config.maintenance.clone(),
        hot_max_bytes: config.memory.hot_rows,
        flush_bytes: config.memory.hot_rows / 2,
        trace_index_bytes: config.memory.trace_index,
        ..StoreOptions::default()
    };
    match &config.storage {
        Storage::Folder(folder) => {
            let folder = folder.clone();
            let (store, recovery) =
                tokio::task::spawn_blocking(move || Store::open(&folder, options)).await.context("opening the store was interrupted")??;
            tracing::info!(
                storage = %config.storage,
                last_position = recovery.last.0,
                replayed_frames = recovery.replayed_frames,
                torn_bytes = recovery.torn_bytes,
                took = ?recovery.took,
                "store opened"
            );
            if let Some(log) = &recovery.retired_log {
                let log = log.display();
                tracing::warn!(%log, "the log was behind the tables, as a power loss leaves it with durability os; a new one was begun");
            }
            Ok(Opened { durable: Durable::Disk(Arc::clone(&store)), store, recovery: Some(recovery) })
        }
        #[cfg(feature = "kafka")]
        Storage::Shared(url, log) => {
            let kafka = config.brokers.kafka.as_ref().context("--log kafka needs --kafka-brokers")?;
            let copies = (config.memory.requests / COPIES).max(config.max_request_bytes);
            let durable = Durable::Kafka(KafkaLog::open(kafka, log, copies).await?);
            let (url, scratch, runtime) = (url.clone(), config.state.join("scratch"), tokio::runtime::Handle::current());
            let open = move || -> anyhow::Result<Arc<Store>> {
                let objects = Objects::open(&url, &scratch, runtime)?;
                objects.check()?;
                Ok(Store::open_shared(&objects, options)?)
            };
            let store = tokio::task::spawn_blocking(open).await.context("opening the tables was interrupted")??;
            tracing::info!(tables = %config.storage, topic = kafka.topics[0], group = kafka.group, "tables opened; the log is Kafka");
            Ok(Opened { store, durable, recovery: None })
        }
        #[cfg(not(feature = "kafka"))]
        Storage::Shared(..) => Err(anyhow!("--log kafka is asked for, and this server was built without the feature kafka")),
    }
}

/// Between two looks for profiles that other servers have registered.
const PROFILES_AGE: Duration = Duration::from_secs(5);

async fn open_profiles(store: &Arc<Store>, config: &Checked) -> anyhow::Result<Arc<Profiles>> {
    let Some(objects) = store.objects().cloned() else { return Ok(Arc::new(Profiles::open(&config.state)?)) };
    let opened =
        tokio::task::spawn_blocking(move || Profiles::open_shared(&objects)).await.context("reading the profiles was interrupted")?;
    let profiles = Arc::new(opened?);
    let known = Arc::downgrade(&profiles);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PROFILES_AGE).await;
            let Some(profiles) = known.upgrade() else { return };
            profiles.look_soon().await;
        }
    });
    Ok(profiles)
}

/// The listeners that are served.
struct Doors {
    hinges: Hinges,
    tls: Option<Arc<ServerTls>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Doors {
    fn open<S, B>(&mut self, listener: TcpListener, service: S)
    where
        S: tower::Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<B>, Error = std::convert::Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.tasks.spawn(self.hinges.clone().serve(listener, self.tls.clone(), service, self.stop.clone()));
    }
}

/// What is left to do when the server is to end, in order.
struct Ending {
    life: Arc<Life>,
    health: Health,
    stop: CancellationToken,
    doors: JoinSet<()>,
    ingest: Arc<Ingest>,
    durable: Durable,
    sink: Option<RunningSink>,
    store: Arc<Store>,
}

impl Ending {
    async fn run(mut self, config: &Checked, is_orderly: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + config.shutdown_timeout;
        tracing::info!(phase = "unready", "health checks say that the server is stopping");
        self.life.enter(Stage::Stopping);
        self.health.set_serving(false).await;
        if is_orderly {
            tokio::time::sleep(config.shutdown_delay).await;
        } else {
            self.ingest.close();
        }

        tracing::info!(phase = "drain", "no new connections; requests under way finish");
        self.stop.cancel();
        // Half of what is left: the last rows need theirs.
        let drain = deadline.saturating_duration_since(Instant::now()) / 2;
        let drained = tokio::time::timeout(drain, async { while self.doors.join_next().await.is_some() {} }).await;

        tracing::info!(phase = "seal", "nothing more is taken in");
        self.ingest.close();
        if drained.is_err() {
            tracing::warn!(phase = "seal", waited = ?drain, "some connections did not end in time and are cut");
            self.doors.shutdown().await;
        }

        #[cfg(feature = "kafka")]
        if let Durable::Kafka(log) = &self.durable {
            let (log, left) = (log.clone(), deadline.saturating_duration_since(Instant::now()) / 3);
            // What is on its way belongs to requests that are answered by now, or cut.
            let _ = tokio::task::spawn_blocking(move || log.close(left)).await;
        }
        if let Some(sink) = self.sink.take() {
            tracing::info!(phase = "copy", "the last rows go into PostgreSQL");
            // A third of what is left: the tables need theirs.
            sink.finish(deadline.saturating_duration_since(Instant::now()) / 3).await;
        }
        tracing::info!(phase = "flush", "the last rows go into the tables");
        self.store.shutdown(deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))).await?;
        tracing::info!(phase = "end", "stopped");
        Ok(())
    }
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

/// One line on stdout for whoever started the server, above all when it chose the ports.
fn announce(addresses: &Addresses) -> std::io::Result<()> {
    let optional = |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let mut stdout = std::io::stdout().lock();
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

/// The signals the server knows, heard from its first moment on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the signal to stop; SIGHUP has the files of TLS read again.
    async fn stop(&mut self, tls: Option<&ServerTls>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => match tls.map(ServerTls::reload) {
                    Some(Ok(())) => tracing::info!("the certificate and its key were read again"),
                    Some(Err(error)) => tracing::error!(error = %anyhow::Error::new(error), "the files of TLS cannot be read; those read before stay"),
                    None => tracing::info!("SIGHUP has nothing to do: TLS is off"),
                },
            }
        }
    }
}

/// Ends when the log is dead: a server that cannot store must not look alive. Until then it says what keeps requests from being stored
/// for a while: to those who are refused, to health checks, and to whoever reads the log.
async fn watch_store(store: &Store, durable: &Durable, admission: &Admission, health: &Health) -> String {
    let mut known: Option<Arc<str>> = None;
    loop {
        if let Some(reason) = store.failed() {
            return reason;
        }
        let obstacle = durable.obstacle();
        if obstacle.is_some() != known.is_some() {
            health.set_serving(obstacle.is_none()).await;
            match &obstacle {
                Some(obstacle) => tracing::error!(obstacle = &**obstacle, "nothing can be stored for now"),
                None => tracing::info!("requests can be stored again"),
            }
        }
        if obstacle != known {
            admission.set_obstacle(obstacle.clone());
            known = obstacle;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn door_error(ended: Option<Result<(), tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Err(error)) => anyhow!("a listener's task failed: {error}"),
        Some(Ok(())) | None => anyhow!("a listener ended without being asked to"),
    }
}
