//! What comes by way of a broker: taken from there, submitted like any request, and acknowledged when it is on disk.
//!
//! A *message* is what the broker keeps as one thing: a request of a client. Its *fate* ([`Fate`]) is found by [`Taker::take`], the same for all
//! brokers; a [`Consumer`] fetches messages and tells the broker what became of them.
//!
//! Invariants:
//! - A message is acknowledged after the receipt for it, or after it is in the place for dead messages with the reason. Never before.
//! - A message that cannot be read, now or ever, does not keep others from being taken.
//! - While the server has no room, and while it cannot store, messages stay with the broker and are tried again: nobody fetches more.
//! - What a broker delivers twice is recognised where every door's repetitions are, by its `batch_id` or by its bytes.
//! - A consumer that fails is started again, later each time, until the server stops.

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use scouter_storage::log::BatchId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, Share},
    config::Brokers,
    error::IngestError,
    ingest::{Accepted, Ingest, Message, Submission},
    receive::Received,
    telemetry::{Loss, Metrics},
};

/// Pause before a consumer that failed is started again; doubles up to [`MAX_BACK_OFF`].
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// One that worked for this long is started again without delay.
const GOOD_RUN: Duration = Duration::from_secs(60);
/// No answer of a broker for this long: there is none.
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
const ANSWER: Duration = Duration::from_secs(30);

/// The future of [`Consumer::run`].
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), ConsumerError>> + Send + 'a>>;

/// Fetches messages from one broker.
pub trait Consumer: Send + Sync + 'static {
    /// For log lines: broker and queue, no secret.
    fn name(&self) -> String;

    /// Connects and consumes until `stop`; then finishes what is under way and ends with `Ok`. A broken connection, and whatever else needs
    /// a new start, is an error. Messages that have no fate by then are the broker's to deliver again.
    fn run<'a>(&'a self, taker: &'a Taker, stop: &'a CancellationToken) -> Running<'a>;
}

/// The consumers that a configuration asks for, in a server that keeps its name in `state`. Of Kafka none, where it is the log.
pub fn of(brokers: &Brokers, state: &Path, is_kafka_the_log: bool) -> Vec<Arc<dyn Consumer>> {
    let mut consumers: Vec<Arc<dyn Consumer>> = Vec::new();
    #[cfg(feature = "kafka")]
    if let Some(broker) = brokers.kafka.as_ref().filter(|_| !is_kafka_the_log) {
        let source = |number| Arc::new(kafka::KafkaSource::new(broker.clone(), state, number)) as Arc<dyn Consumer>;
        consumers.extend((0..broker.consumers).map(source));
    }
    #[cfg(not(feature = "kafka"))]
    let _only_kafka_has_a_name_there = (state, is_kafka_the_log);
    #[cfg(feature = "redis")]
    if let Some(broker) = &brokers.redis {
        use self::redis::RedisSource;
        // Not a process id alone: in containers all have the same, and of two consumers of one name each would take what the other has.
        let process = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let named = |number| Arc::new(RedisSource::Stream(broker.clone(), format!("{process}-{number}"))) as Arc<dyn Consumer>;
        consumers.extend((0..broker.consumers).map(named));
        consumers.push(Arc::new(RedisSource::PubSub(broker.clone())));
    }
    #[cfg(feature = "rabbitmq")]
    if let Some(broker) = &brokers.rabbitmq {
        use self::rabbitmq::RabbitMqSource;
        consumers.extend((0..broker.consumers).map(|number| Arc::new(RabbitMqSource(broker.clone(), number)) as Arc<dyn Consumer>));
    }
    consumers
}

/// Why a consumer has to start again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConsumerError(pub String);

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// On disk: acknowledge it.
    Stored,
    /// It will never be stored: put it with the dead, with this reason, and then acknowledge it.
    Dead(String),
    /// The server stops: leave it to the broker.
    Left,
}

/// Finds the fate of messages.
#[derive(Clone)]
pub struct Taker {
    ingest: Arc<Ingest>,
    admission: Admission,
    metrics: Arc<Metrics>,
    max_request_bytes: usize,
}

impl Taker {
    /// Messages of at most `max_request_bytes` go into `ingest` and take room of `admission`.
    pub fn new(ingest: Arc<Ingest>, admission: Admission, metrics: Arc<Metrics>, max_request_bytes: usize) -> Self {
        Self { ingest, admission, metrics, max_request_bytes }
    }

    /// Submits a message, again and again while the server cannot take it. `share` is the consumer's part of the memory.
    pub async fn take(&self, message: &Message, share: &Arc<Share>, stop: &CancellationToken) -> Fate {
        self.take_known(message, None, share, stop).await
    }

    /// The same for a message whose sender gave it an id that is not in it.
    pub async fn take_known(&self, message: &Message, id: Option<BatchId>, share: &Arc<Share>, stop: &CancellationToken) -> Fate {
        loop {
            let error = match self.submit(message, id, share).await {
                Ok(Accepted { receipt, refusal }) if receipt.spans == 0 && receipt.records == 0 && !refusal.is_empty() => {
                    return Fate::Dead(refusal);
                }
                Ok(_) => return Fate::Stored,
                Err(error) => error,
            };
            let Some(delay) = error.answer().retry_after else { return Fate::Dead(error.text()) };
            tracing::debug!(error = error.text(), "a message is tried again");
            tokio::select! {
                () = stop.cancelled() => return Fate::Left,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Counts a message that no broker has any more and that is not stored.
    pub fn lose(&self, loss: Loss) {
        self.metrics.count_loss(loss);
    }

    async fn submit(&self, message: &Message, id: Option<BatchId>, share: &Arc<Share>) -> Result<Accepted, IngestError> {
        let submission = self.read(message, share).await.inspect_err(|error| self.metrics.count_refused(message.door, error))?;
        self.ingest.submit(Submission { batch_id: submission.batch_id.or(id), ..submission }).await
    }

    async fn read(&self, message: &Message, share: &Arc<Share>) -> Result<Submission, IngestError> {
        let bytes = message.payload.len();
        if bytes > self.max_request_bytes {
            return Err(IngestError::TooLarge { limit_bytes: self.max_request_bytes });
        }
        let mut room = self.admission.begin(share, bytes)?;
        room.grow(bytes)?;
        room.complete();
        let received = Received { payload: message.payload.clone(), room };
        let _turn = self.ingest.turn(bytes).await;
        message.submission(received)
    }
}

/// Keeps `consumer` running until `stop`.
pub fn supervise(consumer: Arc<dyn Consumer>, taker: Taker, stop: CancellationToken, tasks: &mut JoinSet<()>) {
    tasks.spawn(async move {
        let name = consumer.name();
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let (running, its_taker, its_stop) = (Arc::clone(&consumer), taker.clone(), stop.clone());
            // In a task of its own, so that a panic is one more reason to start again.
            let run = tokio::spawn(async move { running.run(&its_taker, &its_stop).await });
            let ended = run.await.unwrap_or_else(|panic| Err(ConsumerError(panic.to_string())));
            if stop.is_cancelled() {
                if let Err(error) = ended {
                    tracing::warn!(consumer = name, %error, "a consumer failed while it stopped; the broker has what it did not finish");
                }
                break;
            }
            let error = ended.err().map_or_else(|| "it ended without being asked to".to_owned(), |error| error.to_string());
            failures = if began.elapsed() >= GOOD_RUN { 0 } else { failures.saturating_add(1) };
            let pause = back_off(failures);
            tracing::warn!(consumer = name, error, ?pause, "a consumer failed and is started again");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        tracing::debug!(consumer = name, "a consumer ended");
    });
}

/// What `work` comes to, if it does so within [`ANSWER`].
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
async fn in_time<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, ConsumerError>
where
    ConsumerError: From<E>,
{
    let done = tokio::time::timeout(ANSWER, work).await;
    Ok(done.map_err(|_| ConsumerError(format!("{what} took longer than {} s", ANSWER.as_secs())))??)
}

/// What `work` comes to, unless the server stops first.
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
async fn unless_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

/// Doubles, with jitter.
fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (FIRST_BACK_OFF * (1 << doublings)).min(MAX_BACK_OFF).mul_f64(0.5 + rand::random::<f64>() / 2.0)
}
