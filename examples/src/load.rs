//! The run of a load generator.
//!
//! Workers take batches by number, wait until a batch is due, send it, and send the same bytes again until it is acknowledged or the server was
//! silent for `give_up_after`. A batch keeps its `batch_id` and its bytes, so a server that stored it before its answer got lost can tell.
//!
//! The time to an acknowledgement counts from the moment the batch was due when all workers were busy then, otherwise from the sending: a slow
//! server does not slow down the clock that measures it.

mod pace;
mod retry;

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::{sync::RwLock, task::JoinSet};

use crate::{
    door::{Compression, Connection, Door, Login, SendError},
    latency::Histogram,
    spans::{Size, SpanSource},
};
use pace::Pace;
use retry::Backoff;

/// What to send and where.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// The way in.
    pub door: Door,
    /// Its address.
    pub endpoint: String,
    /// Where the token comes from.
    pub login: Login,
    /// Who logs in.
    pub username: String,
    /// With which password.
    pub password: String,
    /// The same seed makes the same ids.
    pub seed: u64,
    /// How much a span carries.
    pub size: Size,
    /// Spans a second; `None` is as fast as it goes.
    pub rate: Option<f64>,
    /// When to stop.
    pub until: Until,
    /// Spans in one request.
    pub batch_spans: u64,
    /// Requests under way at once, each on its own connection.
    pub concurrency: usize,
    /// How bodies are compressed.
    pub compression: Compression,
    /// How long a batch is sent again before the run ends in failure.
    pub give_up_after: Duration,
    /// Gets a line `trace_id span_id` for each acknowledged span, after its acknowledgement.
    pub ids: Option<PathBuf>,
}

/// When a run is over.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After this many spans.
    Spans(u64),
    /// After this time.
    Elapsed(Duration),
}

/// What a run did. Each span sent is acknowledged, rejected or failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// Spans sent at least once.
    pub sent: u64,
    /// Spans the server says it has.
    pub acked: u64,
    /// Spans the server refused inside acknowledged requests.
    pub rejected: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Spans given up.
    pub failed: u64,
    /// Acknowledged spans a second.
    pub spans_per_s: f64,
    /// Half of the requests were acknowledged in this time.
    pub p50_ack_ms: f64,
    /// 99 of 100 requests were acknowledged in this time.
    pub p99_ack_ms: f64,
    /// From the first request to the last answer.
    pub elapsed_s: f64,
    /// The way in.
    pub door: &'static str,
    /// Makes the same spans again.
    pub seed: u64,
    /// Why the run ended early.
    pub error: Option<String>,
}

/// What the workers share.
struct Run {
    config: LoadConfig,
    source: SpanSource,
    pace: Pace,
    next_batch: AtomicU64,
    stop: AtomicBool,
    sent: AtomicU64,
    acked: AtomicU64,
    rejected: AtomicU64,
    retries: AtomicU64,
    failed: AtomicU64,
    error: Mutex<Option<String>>,
    ids: Option<Mutex<File>>,
    token: RwLock<String>,
}

/// Logs in, sends, and answers what happened; `progress` is called about once a second with a line of text.
///
/// # Errors
/// When nothing could be sent: a bad address, a refused login, no server within `give_up_after`, an ids file that cannot be written.
pub async fn run(config: LoadConfig, progress: impl Fn(String) + Send) -> anyhow::Result<LoadReport> {
    if config.batch_spans == 0 || config.concurrency == 0 {
        bail!("--batch and --concurrency must be at least 1");
    }
    let ids = match &config.ids {
        Some(path) => Some(Mutex::new(File::create(path).with_context(|| format!("the file {} cannot be written", path.display()))?)),
        None => None,
    };
    // Bad addresses are told before anything is sent.
    let connections: Vec<Connection> = (0..config.concurrency)
        .map(|_| Connection::new(config.door, &config.endpoint, config.compression))
        .collect::<anyhow::Result<_>>()?;
    let token = first_token(&config, &progress).await?;

    let step_nano = config.rate.map_or(2_000, |rate| (1e9 / rate) as u64);
    let start_unix_nano = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_nanos() as u64;
    let start = Instant::now();
    let run = Arc::new(Run {
        source: SpanSource::new(config.seed, config.size, start_unix_nano, step_nano),
        pace: Pace::new(start, config.rate, config.batch_spans),
        next_batch: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        rejected: AtomicU64::new(0),
        retries: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        error: Mutex::new(None),
        ids,
        token: RwLock::new(token),
        config,
    });
    let mut workers: JoinSet<Histogram> = connections.into_iter().map(|connection| worker(Arc::clone(&run), connection)).collect();

    let mut latency = Histogram::default();
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    ticker.tick().await;
    loop {
        tokio::select! {
            joined = workers.join_next() => match joined {
                Some(histogram) => latency.merge(&histogram.context("a worker of the load generator broke")?),
                None => break,
            },
            _ = ticker.tick() => progress(run.progress(start.elapsed())),
        }
    }
    Ok(run.report(&latency, start.elapsed()))
}

async fn first_token(config: &LoadConfig, progress: &(impl Fn(String) + Send)) -> anyhow::Result<String> {
    let mut backoff = Backoff::new(config.seed, config.give_up_after);
    loop {
        match config.login.token(&config.username, &config.password).await {
            Ok(token) => return Ok(token),
            Err(SendError::Retry(text, _)) => match backoff.next() {
                Some(pause) => {
                    progress(format!("no login yet, trying again: {text}"));
                    tokio::time::sleep(pause).await;
                }
                None => bail!("no server answered the login within {:?}: {text}", config.give_up_after),
            },
            Err(SendError::Unauthenticated(text) | SendError::Refused(text)) => bail!("{text}"),
        }
    }
}

async fn worker(run: Arc<Run>, connection: Connection) -> Histogram {
    let mut latency = Histogram::default();
    while let Some(batch) = run.take_batch() {
        let Some(since) = run.pace.wait(batch, &run.config.until).await else { break };
        let first = batch * run.config.batch_spans;
        let last = match run.config.until {
            Until::Spans(spans) => spans.min(first + run.config.batch_spans),
            Until::Elapsed(_) => first + run.config.batch_spans,
        };
        run.sent.fetch_add(last - first, Ordering::Relaxed);
        match run.deliver(&connection, first..last).await {
            Ok(rejected) => {
                latency.record(since.elapsed());
                run.acknowledged(first..last, rejected);
            }
            Err(text) => run.give_up(last - first, text),
        }
    }
    latency
}

impl Run {
    fn take_batch(&self) -> Option<u64> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let batch = self.next_batch.fetch_add(1, Ordering::Relaxed);
        match self.config.until {
            Until::Spans(spans) => (batch * self.config.batch_spans < spans).then_some(batch),
            Until::Elapsed(_) => Some(batch),
        }
    }

    /// Sends one batch until it is acknowledged; answers how many of its spans were rejected.
    async fn deliver(&self, connection: &Connection, spans: std::ops::Range<u64>) -> Result<u64, String> {
        let body = connection.pack(self.source.body(spans.clone(), self.config.door.envelope())).map_err(|error| format!("{error:#}"))?;
        let mut backoff = Backoff::new(self.config.seed ^ spans.start, self.config.give_up_after);
        let mut logged_in = false;
        loop {
            let token = self.token.read().await.clone();
            let text = match connection.send(&body, &token).await {
                Ok(rejected) => return Ok(rejected),
                Err(SendError::Refused(text)) => return Err(text),
                Err(SendError::Unauthenticated(text)) if logged_in => return Err(text),
                Err(SendError::Unauthenticated(text)) => match self.log_in_again(&token).await {
                    Ok(()) => {
                        logged_in = true;
                        text
                    }
                    Err(SendError::Retry(text, _)) => text,
                    Err(SendError::Unauthenticated(text) | SendError::Refused(text)) => return Err(text),
                },
                Err(SendError::Retry(text, _)) => text,
            };
            if self.stop.load(Ordering::Relaxed) {
                return Err(text);
            }
            match backoff.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(format!("not acknowledged within {:?}: {text}", self.config.give_up_after)),
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One login for all workers that were refused with the same token.
    async fn log_in_again(&self, refused: &str) -> Result<(), SendError> {
        let mut token = self.token.write().await;
        if *token == refused {
            *token = self.config.login.token(&self.config.username, &self.config.password).await?;
        }
        Ok(())
    }

    fn acknowledged(&self, spans: std::ops::Range<u64>, rejected: u64) {
        let count = spans.end - spans.start;
        let rejected = rejected.min(count);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.acked.fetch_add(count - rejected, Ordering::Relaxed);
        // An answer does not say which spans were rejected, so a batch with a rejected span vouches for none.
        if rejected > 0 {
            return;
        }
        let Some(ids) = &self.ids else { return };
        let mut lines = String::with_capacity(50 * count as usize);
        for index in spans {
            let ids = self.source.ids(index);
            push_hex(&mut lines, &ids.trace_id);
            lines.push(' ');
            push_hex(&mut lines, &ids.span_id);
            lines.push('\n');
        }
        let written = ids.lock().expect("no holder of this lock panics").write_all(lines.as_bytes());
        if let Err(error) = written {
            self.fail(format!("the file of acknowledged ids cannot be written: {error}"));
        }
    }

    fn give_up(&self, spans: u64, text: String) {
        self.failed.fetch_add(spans, Ordering::Relaxed);
        self.fail(text);
    }

    /// Ends the run; the first reason is kept.
    fn fail(&self, text: String) {
        self.stop.store(true, Ordering::Relaxed);
        self.error.lock().expect("no holder of this lock panics").get_or_insert(text);
    }

    fn progress(&self, elapsed: Duration) -> String {
        let acked = self.acked.load(Ordering::Relaxed);
        format!(
            "{:6.1} s  {acked} acknowledged ({:.0}/s), {} sent, {} retries",
            elapsed.as_secs_f64(),
            acked as f64 / elapsed.as_secs_f64(),
            self.sent.load(Ordering::Relaxed),
            self.retries.load(Ordering::Relaxed)
        )
    }

    fn report(&self, latency: &Histogram, elapsed: Duration) -> LoadReport {
        let acked = self.acked.load(Ordering::Relaxed);
        LoadReport {
            sent: self.sent.load(Ordering::Relaxed),
            acked,
            rejected: self.rejected.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            spans_per_s: (acked as f64 / elapsed.as_secs_f64()).round(),
            p50_ack_ms: latency.quantile_ms(0.5),
            p99_ack_ms: latency.quantile_ms(0.99),
            elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            door: self.config.door.name(),
            seed: self.config.seed,
            error: self.error.lock().expect("no holder of this lock panics").clone(),
        }
    }
}

fn push_hex(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            line.push(char::from_digit(u32::from(digit), 16).expect("a digit below 16"));
        }
    }
}
