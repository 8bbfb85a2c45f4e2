//! Requests become messages of the topic.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use scouter_storage::log::{BatchId, Frame, MAX_PAYLOAD_BYTES, Then};
use scouter_tonic::broker::{BATCH_ID, CONTENT_TYPE, DEAD_SUFFIX};
use tokio::sync::oneshot;

use super::envelope::{Part, parts};
use crate::{
    config::{Kafka, SharedLog},
    error::IngestError,
    kafka::{DOOR, REFUSED_RECORDS, bytes_of, client},
};

/// What a message has beside its value, at most.
const AROUND_BYTES: usize = 64 * 1024;
/// A topic with a lower limit is not one for a log.
const LEAST_MESSAGE_BYTES: usize = 256 * 1024;
/// Sent to a broker at once.
const BATCH_BYTES: usize = 1_000_000;
/// More than this is not copied on a thread of the reactor.
const LONG_BYTES: usize = 512 * 1024;
/// A message is delivered by then, or its request is not acknowledged. Less than a request waits.
const DELIVERY: Duration = Duration::from_secs(7);
/// Messages that come within this time go in one request to the brokers.
const LINGER_MILLIS: &str = "2";
/// How long the brokers may take to answer a question at the start.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at brokers that are gone.
const PROBE: Duration = Duration::from_millis(500);

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The client library, or a broker, refuses.
    #[error("Kafka at {brokers} cannot be used as the log: {what}")]
    Kafka {
        /// Where.
        brokers: String,
        /// Its words.
        what: String,
    },
}

/// Appends to the topic. Cheap to clone.
#[derive(Clone)]
pub struct KafkaLog(Arc<Inner>);

struct Inner {
    settings: ClientConfig,
    topic: String,
    /// Replaced when the library says that it sends nothing any more.
    producer: Mutex<Arc<ThreadedProducer<Deliveries>>>,
    health: Arc<Health>,
    limit_bytes: usize,
}

/// Why nothing can be appended now.
#[derive(Debug, Default)]
struct Health(Mutex<Option<Arc<str>>>);

impl Health {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client library complained of last.
#[derive(Debug, Clone, Default)]
struct LastWords(Arc<Mutex<Option<String>>>);

impl ClientContext for LastWords {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client has a problem");
        // That all brokers are down follows from what was said before.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for LastWords {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// One request on its way.
struct Pending {
    /// Messages without an outcome.
    left: AtomicUsize,
    outcome: Mutex<Outcome>,
    /// Given back with its room when the last message has an outcome.
    _payload: Bytes,
}

struct Outcome {
    failure: Option<KafkaError>,
    then: Option<Then>,
    answer: Option<oneshot::Sender<Result<(), KafkaError>>>,
}

impl Pending {
    /// Some of its messages have an outcome.
    fn done(&self, messages: usize, failure: Option<KafkaError>) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.failure = outcome.failure.take().or(failure);
        if self.left.fetch_sub(messages, Ordering::AcqRel) > messages {
            return;
        }
        let (failure, then, answer) = (outcome.failure.take(), outcome.then.take(), outcome.answer.take());
        drop(outcome);
        if failure.is_none()
            && let Some(then) = then
        {
            then();
        }
        if let Some(answer) = answer {
            // Nobody listens when the caller gave up.
            let _ = answer.send(failure.map_or(Ok(()), Err));
        }
    }
}

/// Told of each message's outcome, on the library's own thread.
struct Deliveries(Arc<Health>);

impl ClientContext for Deliveries {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the Kafka client says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client has a problem");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock() = Some(format!("no broker of Kafka can be reached: {reason}").into());
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Arc<Pending>) {
        match result {
            Ok(_) => {
                let mut health = self.0.lock();
                if health.is_some() {
                    *health = None;
                }
                drop(health);
                pending.done(1, None);
            }
            Err((error, message)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
                    *self.0.lock() = Some(format!("Kafka did not take a message within {} s", DELIVERY.as_secs()).into());
                }
                tracing::debug!(%error, partition = message.partition(), "a message was not delivered");
                pending.done(1, Some(error.clone()));
            }
        }
    }
}

impl KafkaLog {
    /// Connects, and makes the topic if there is none. Messages on their way take up to `queue_bytes`. Runs on a runtime.
    ///
    /// # Errors
    /// No broker answers, or they refuse.
    pub async fn open(kafka: &Kafka, log: &SharedLog, queue_bytes: usize) -> Result<Self, LogError> {
        let topic = kafka.topics.first().cloned().unwrap_or_default();
        let words = LastWords::default();
        let failed = |error: KafkaError| {
            // A timeout alone does not say what was wrong.
            let because =
                words.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or_else(String::new, |words| format!(": {words}"));
            LogError::Kafka { brokers: kafka.brokers.clone(), what: format!("{error}{because}") }
        };
        let mut settings = client(kafka);
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", LINGER_MILLIS)
            .set("compression.type", "lz4")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("message.max.bytes", (MAX_PAYLOAD_BYTES + AROUND_BYTES).to_string())
            .set("queue.buffering.max.kbytes", ((queue_bytes + 2 * AROUND_BYTES) / 1024).to_string())
            .set("topic.metadata.refresh.interval.ms", "10000");
        reach(&settings, &words).await.map_err(failed)?;
        let admin: AdminClient<DefaultClientContext> = settings.create().map_err(failed)?;
        make_topic(&admin, &topic, log.partitions).await.map_err(failed)?;
        // Where brokers do not make topics by themselves, what cannot be stored would have no place.
        for topic in &kafka.topics {
            make_topic(&admin, &format!("{topic}{DEAD_SUFFIX}"), 1).await.map_err(failed)?;
        }
        let largest = largest_message(&admin, &topic).await.map_err(failed)?;
        if largest < LEAST_MESSAGE_BYTES {
            let what =
                format!("the topic {topic} takes messages of {largest} bytes; its max.message.bytes is at least {LEAST_MESSAGE_BYTES}");
            return Err(LogError::Kafka { brokers: kafka.brokers.clone(), what });
        }
        let limit_bytes = (largest - AROUND_BYTES).min(MAX_PAYLOAD_BYTES);
        // What goes to a broker at once is one message to it, and is refused as one.
        settings.set("batch.size", limit_bytes.min(BATCH_BYTES).to_string());
        if limit_bytes < MAX_PAYLOAD_BYTES {
            tracing::warn!(
                topic,
                limit_bytes,
                "the topic takes smaller messages than this server takes requests; raise its max.message.bytes to {}",
                MAX_PAYLOAD_BYTES + AROUND_BYTES
            );
        }
        let health = Arc::new(Health::default());
        let producer = settings.create_with_context(Deliveries(Arc::clone(&health))).map_err(failed)?;
        let log = Self(Arc::new(Inner { settings, topic, producer: Mutex::new(Arc::new(producer)), health, limit_bytes }));
        tokio::spawn(watch(Arc::downgrade(&log.0)));
        Ok(log)
    }

    /// Answers when all replicas in sync hold the frame; `then` is called before that, also when nobody waits for the answer any more, and
    /// dropped when it is not known that they do.
    ///
    /// # Errors
    /// The topic takes no message of this size, or no broker took it in time. It may be there all the same; its repetition is recognised.
    pub async fn append_then(&self, frame: Frame, then: Then) -> Result<(), IngestError> {
        let is_long = frame.payload.len() > LONG_BYTES;
        let parts = if is_long {
            tokio::task::block_in_place(|| parts(frame.envelope, &frame.payload))
        } else {
            parts(frame.envelope, &frame.payload)
        };
        let too_large = IngestError::TooLarge { limit_bytes: self.0.limit_bytes };
        if parts.iter().any(|part| part.value.len() > self.0.limit_bytes) {
            return Err(too_large);
        }
        let (answer, answered) = oneshot::channel();
        let outcome = Mutex::new(Outcome { failure: None, then: Some(then), answer: Some(answer) });
        let pending = Arc::new(Pending { left: AtomicUsize::new(parts.len()), outcome, _payload: frame.payload.clone() });
        let producer = self.producer();
        // The library makes copies.
        let send = || {
            for (index, part) in parts.iter().enumerate() {
                if let Err(error) = self.send(&producer, &frame, part, index, &pending) {
                    pending.done(parts.len() - index, Some(error));
                    break;
                }
            }
        };
        if is_long {
            tokio::task::block_in_place(send)
        } else {
            send()
        }
        drop(pending);
        let Err(error) = answered.await.unwrap_or(Err(KafkaError::Canceled)) else { return Ok(()) };
        if producer.client().fatal_error().is_some() {
            let (log, producer) = (self.clone(), Arc::clone(&producer));
            // The last one to let go of it waits for its threads.
            tokio::task::spawn_blocking(move || log.replace(producer));
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Err(too_large),
            Some(RDKafkaErrorCode::QueueFull) => {
                Err(IngestError::Overloaded { come_again: crate::error::RETRY_AFTER, because: self.obstacle() })
            }
            _ => Err(IngestError::LogAway { because: self.obstacle().unwrap_or_else(|| error.to_string().into()) }),
        }
    }

    fn send(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        frame: &Frame,
        part: &Part,
        index: usize,
        pending: &Arc<Pending>,
    ) -> Result<(), KafkaError> {
        let id = part_id(frame.batch_id, index);
        let key: String = frame.batch_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let door = [frame.door as u8];
        let mut headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: CONTENT_TYPE, value: Some(part.content_type.as_bytes()) })
            .insert(Header { key: BATCH_ID, value: Some(&id.0[..]) })
            .insert(Header { key: DOOR, value: Some(&door[..]) });
        if !frame.rejected_records.is_empty() {
            headers = headers.insert(Header { key: REFUSED_RECORDS, value: Some(&bytes_of(&frame.rejected_records)[..]) });
        }
        let record = BaseRecord::<str, [u8], Arc<Pending>>::with_opaque_to(&self.0.topic, Arc::clone(pending))
            .key(&key)
            .payload(&part.value)
            .headers(headers);
        producer.send(record).map_err(|(error, _)| error)
    }

    /// Why nothing can be appended now, if so. It may pass by itself.
    pub fn obstacle(&self) -> Option<Arc<str>> {
        self.0.health.lock().clone()
    }

    /// The largest request that the topic takes.
    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes
    }

    /// Waits for what is on its way. Blocks.
    pub fn close(&self, patience: Duration) {
        if let Err(error) = self.producer().flush(patience) {
            tracing::warn!(%error, "some messages were not delivered; their requests are not acknowledged");
        }
    }

    fn producer(&self) -> Arc<ThreadedProducer<Deliveries>> {
        Arc::clone(&self.0.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new producer in the place of one that sends nothing any more. Blocks.
    fn replace(&self, failed: Arc<ThreadedProducer<Deliveries>>) {
        let mut producer = self.0.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&producer, &failed) {
            return;
        }
        match self.0.settings.create_with_context(Deliveries(Arc::clone(&self.0.health))) {
            Ok(new) => *producer = Arc::new(new),
            Err(error) => tracing::error!(%error, "a new producer for Kafka cannot be made"),
        }
        drop(producer);
        drop(failed);
    }
}

/// The first part of a request has its id; the second one another, which a repetition has too, and no other request.
fn part_id(id: BatchId, index: usize) -> BatchId {
    if index == 0 {
        return id;
    }
    let of_part: Vec<u8> = id.0.iter().copied().chain(*b" part ").chain(index.to_le_bytes()).collect();
    BatchId(twox_hash::XxHash3_128::oneshot(&of_part).to_le_bytes())
}

/// Asks brokers that are gone whether they are back, as long as nothing else is sent to them.
async fn watch(inner: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(PROBE).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.health.lock().is_none() {
            continue;
        }
        let asked = tokio::task::spawn_blocking(move || {
            let producer = Arc::clone(&inner.producer.lock().unwrap_or_else(PoisonError::into_inner));
            let metadata = producer.client().fetch_metadata(Some(&inner.topic), PROBE * 4);
            let has_leaders = |metadata: &rdkafka::metadata::Metadata| {
                let mut partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions).peekable();
                partitions.peek().is_some() && partitions.all(|partition| partition.leader() >= 0)
            };
            if metadata.is_ok_and(|metadata| has_leaders(&metadata)) {
                *inner.health.lock() = None;
            }
        });
        if asked.await.is_err() {
            return;
        }
    }
}

/// Asks the brokers something, so that what keeps them from being reached is known.
async fn reach(settings: &ClientConfig, words: &LastWords) -> Result<(), KafkaError> {
    let client: BaseProducer<LastWords> = settings.create_with_context(words.clone())?;
    let asked = tokio::task::spawn_blocking(move || {
        let asked = client.client().fetch_metadata(None, PATIENCE).map(drop);
        // Hands over what the library had to say meanwhile.
        client.poll(PROBE);
        asked
    });
    asked.await.unwrap_or(Err(KafkaError::Canceled))
}

/// Makes the topic, unless it is there.
async fn make_topic(admin: &AdminClient<DefaultClientContext>, topic: &str, partitions: i32) -> Result<(), KafkaError> {
    let limit = (MAX_PAYLOAD_BYTES + AROUND_BYTES).to_string();
    // As many replicas as the brokers make by default.
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))
        .set("max.message.bytes", &limit)
        .set("message.timestamp.type", "LogAppendTime");
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let began = Instant::now();
    loop {
        let made = admin.create_topics([&new], &options).await?.pop();
        match made {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => return Ok(()),
            Some(Ok(_)) => {
                tracing::info!(topic, partitions, "a topic was made");
                return Ok(());
            }
            // A broker that has just started knows no other one yet.
            Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(PROBE).await;
            }
            Some(Err((_, code))) => return Err(KafkaError::AdminOp(code)),
            None => return Err(KafkaError::AdminOp(RDKafkaErrorCode::Unknown)),
        }
    }
}

/// The topic's `max.message.bytes`; what the server itself takes, where the brokers do not tell.
async fn largest_message(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<usize, KafkaError> {
    let began = Instant::now();
    loop {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await?.pop();
        match described {
            Some(Ok(resource)) => {
                let value = resource.get("max.message.bytes").and_then(|entry| entry.value.as_deref()?.parse().ok());
                return Ok(value.unwrap_or(MAX_PAYLOAD_BYTES + AROUND_BYTES));
            }
            // It was made by another broker just now.
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) if began.elapsed() < PATIENCE => tokio::time::sleep(PROBE).await,
            Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) | None => return Ok(MAX_PAYLOAD_BYTES + AROUND_BYTES),
            Some(Err(code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
}
