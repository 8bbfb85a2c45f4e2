//! Clients that want to send so much, and what they got done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, ensure};
use scouter_examples::{
    door::{Compression, Connection, Door, Login, SendError},
    server::{Server, cpu_of},
    spans::{Envelope, Size, SpanSource, mix},
};
use tokio::{task::JoinSet, time::Instant};

/// Before a window begins, for connections to be made and queues to fill.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long a hasty client waits, and any client when no time was named.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_secs(1);
/// After the window, for all that was begun to be delivered.
const DELIVERY: Duration = Duration::from_secs(120);
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// What one client wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Demand {
    /// As much as goes.
    All,
    /// So much, evenly.
    SpansPerSecond(f64),
}

/// A server and the way to it.
pub(crate) struct Target {
    door: Door,
    endpoint: String,
    compression: Compression,
    token: String,
    source: SpanSource,
    next_batch: AtomicU64,
    batch_spans: u64,
}

/// Whether clients come again when the server told them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As OTLP asks.
    Heedful,
    /// After a few milliseconds, whatever they were told.
    Hasty,
}

/// What all clients got done in their windows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    pub(crate) taken: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) most_resident_mib: f64,
    /// In the windows and around them.
    pub(crate) acknowledged: u64,
}

impl Outcome {
    pub(crate) fn spans_per_s(&self, batch_spans: u64) -> f64 {
        (self.taken * batch_spans) as f64 / self.seconds
    }

    pub(crate) fn cpu_micros_a_span(&self, batch_spans: u64) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / (self.taken * batch_spans).max(1) as f64
    }
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.taken += other.taken;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.server_cpu += other.server_cpu;
        self.client_cpu += other.client_cpu;
        self.most_resident_mib = self.most_resident_mib.max(other.most_resident_mib);
        self.acknowledged += other.acknowledged;
    }
}

impl Target {
    pub(crate) async fn of(server: &Server, door: Door, compression: Compression, batch_spans: u64) -> anyhow::Result<Arc<Self>> {
        let http = format!("http://{}", server.http);
        let endpoint = if door == Door::OtlpHttp { http.clone() } else { format!("http://{}", server.grpc) };
        let token = Login::Http(http).token("guest", "guest").await.map_err(|error| anyhow!("no login: {error:?}"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let source = SpanSource::new(u64::from(rand::random::<u32>()), Size::Small, u64::try_from(now.as_nanos())?, 1000);
        Ok(Arc::new(Self { door, endpoint, compression, token, source, next_batch: AtomicU64::new(0), batch_spans }))
    }

    fn envelope(&self) -> Envelope {
        self.door.envelope()
    }
}

#[derive(Default)]
struct Run {
    is_in_window: AtomicBool,
    is_over: AtomicBool,
    acknowledged: AtomicU64,
    taken_in_window: AtomicU64,
    refused_in_window: AtomicU64,
    unanswered_in_window: AtomicU64,
}

impl Run {
    fn count(&self, counter: &AtomicU64) {
        if self.is_in_window.load(Ordering::Relaxed) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Has so many clients send for a window of time, then finish what they began.
pub(crate) async fn run(
    target: &Arc<Target>,
    server: &Server,
    clients: u32,
    demand: Demand,
    manners: Manners,
    window: Duration,
) -> anyhow::Result<Outcome> {
    let run = Arc::new(Run::default());
    let mut all = JoinSet::new();
    for number in 0..clients {
        all.spawn(client(Arc::clone(target), Arc::clone(&run), demand, manners, u64::from(number)));
    }
    let mut most_resident_mib = watch(server, Instant::now() + WARM_UP).await?;
    run.is_in_window.store(true, Ordering::Relaxed);
    let cpu_of_clients = || cpu_of(std::process::id());
    let (began, cpu_before, clients_before) = (Instant::now(), server.cpu()?, cpu_of_clients()?);
    most_resident_mib = watch(server, began + window).await?.max(most_resident_mib);
    run.is_in_window.store(false, Ordering::Relaxed);
    let (seconds, cpu, of_clients) = (began.elapsed().as_secs_f64(), server.cpu()? - cpu_before, cpu_of_clients()? - clients_before);
    run.is_over.store(true, Ordering::Relaxed);
    let delivered = tokio::time::timeout(DELIVERY, async {
        while let Some(ended) = all.join_next().await {
            ended.context("a client broke")??;
        }
        anyhow::Ok(())
    });
    delivered.await.context("what was begun is not delivered")??;
    let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Outcome {
        seconds,
        taken: counted(&run.taken_in_window),
        refused: counted(&run.refused_in_window),
        unanswered: counted(&run.unanswered_in_window),
        server_cpu: cpu,
        client_cpu: of_clients,
        most_resident_mib,
        acknowledged: counted(&run.acknowledged),
    })
}

/// The most memory that the server has until then.
async fn watch(server: &Server, until: Instant) -> anyhow::Result<f64> {
    let mut most = 0.0_f64;
    while Instant::now() < until {
        most = most.max(server.memory()?.resident_mib);
        tokio::time::sleep(MEMORY_INTERVAL).await;
    }
    Ok(most)
}

async fn client(target: Arc<Target>, run: Arc<Run>, demand: Demand, manners: Manners, number: u64) -> anyhow::Result<()> {
    let connection = Connection::new(target.door, &target.endpoint, target.compression)?;
    let interval = match demand {
        Demand::All => Duration::ZERO,
        Demand::SpansPerSecond(rate) => Duration::from_secs_f64(target.batch_spans as f64 / rate),
    };
    // They do not all begin at once.
    let mut due = Instant::now() + interval.mul_f64((mix(number) % 1000) as f64 / 1000.0);
    loop {
        tokio::time::sleep_until(due).await;
        if run.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        deliver(&target, &run, &connection, manners).await?;
        // What came due meanwhile found no place in the client's queue.
        while due <= Instant::now() && interval > Duration::ZERO {
            due += interval;
        }
    }
}

/// Sends one batch until it is acknowledged.
async fn deliver(target: &Target, run: &Run, connection: &Connection, manners: Manners) -> anyhow::Result<()> {
    let first = target.next_batch.fetch_add(1, Ordering::Relaxed) * target.batch_spans;
    let body = connection.pack(target.source.body(first..first + target.batch_spans, target.envelope()))?;
    loop {
        let after = match connection.send(&body, &target.token).await {
            Ok(rejected) => {
                ensure!(rejected == 0, "{rejected} spans were rejected");
                run.count(&run.taken_in_window);
                run.acknowledged.fetch_add(target.batch_spans, Ordering::Relaxed);
                return Ok(());
            }
            Err(SendError::Retry(_, Some(after))) => {
                run.count(&run.refused_in_window);
                after
            }
            Err(SendError::Retry(_, None)) => {
                run.count(&run.unanswered_in_window);
                PAUSE
            }
            Err(SendError::Unauthenticated(text) | SendError::Refused(text)) => return Err(anyhow!(text)),
        };
        let is_over = run.is_over.load(Ordering::Relaxed);
        // Then all deliver what they began, with manners.
        tokio::time::sleep(if manners == Manners::Hasty && !is_over { SHORT_PAUSE } else { after }).await;
    }
}
