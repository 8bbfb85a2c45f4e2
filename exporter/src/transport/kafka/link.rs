//! A producer of the client library, and what it says.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _, PurgeConfig},
    types::RDKafkaRespErr,
};
use scouter_tonic::{
    broker::{BATCH_ID, CONTENT_TYPE},
    client::{CallError, CallErrorKind, quiet::aloud},
};
use tokio::sync::watch;
use tonic::Code;

use super::KafkaConfig;
use crate::encode::Id;

/// The library's own threads, connections and queue. Gone with the last one who holds it, and what it had not sent with it.
pub(super) struct Link {
    producer: FutureProducer<Words>,
    refused: watch::Receiver<Option<CallError>>,
    last_words: Arc<Mutex<String>>,
}

/// A record of Kafka.
pub(super) struct Record<'a> {
    pub(super) partition: Option<usize>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) content_type: &'static str,
    pub(super) id: Option<Id>,
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// One that may go to any partition, and is recognised by what is in it.
    pub(super) fn whole(content_type: &'static str, value: &'a [u8]) -> Self {
        Self { partition: None, key: None, content_type, id: None, value }
    }
}

impl Link {
    /// Starts threads and reads certificate files, so it may take some milliseconds.
    pub(super) fn open(config: &KafkaConfig) -> Result<Self, CallError> {
        let (refused_sender, refused) = watch::channel(None);
        let last_words = Arc::<Mutex<String>>::default();
        let words = Words { refused: refused_sender, last: Arc::clone(&last_words) };
        let producer = config.client().create_with_context(words).map_err(|error| {
            // Of a setting it names the value, which may be a secret; what can be wrong here is a file.
            let text = match error {
                KafkaError::ClientCreation(text) => text,
                _ => "a setting is not taken by the client library".to_owned(),
            };
            CallError::new(CallErrorKind::Refused, Code::FailedPrecondition, format!("Kafka: {text}"))
        })?;
        Ok(Self { producer, refused, last_words })
    }

    /// Waits until the brokers refuse the credentials.
    pub(super) async fn refused(&self) -> CallError {
        let mut refused = self.refused.clone();
        let told = refused.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        match told {
            Some(error) => error,
            // The producer is gone, and with it whoever could tell.
            None => std::future::pending().await,
        }
    }

    /// How many partitions a topic has; `Ok(None)` while that is not known, such as when the broker is about to make it. Blocks.
    pub(super) fn partitions(&self, topic: &str, patience: std::time::Duration) -> Result<Option<usize>, CallError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), patience).map_err(|error| failed(&error))?;
        let Some(topic) = metadata.topics().first() else { return Ok(None) };
        match topic.error() {
            None => Ok(Some(topic.partitions().len()).filter(|count| *count > 0)),
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Err(denied("the topic may not be seen")),
            Some(_) => Ok(None),
        }
    }

    /// Queues a record; the future tells what became of it.
    pub(super) fn start(&self, topic: &str, record: &Record<'_>) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new().insert(Header { key: CONTENT_TYPE, value: Some(record.content_type) });
        if let Some(id) = &record.id {
            headers = headers.insert(Header { key: BATCH_ID, value: Some(&id[..]) });
        }
        let partition = record.partition.and_then(|partition| i32::try_from(partition).ok());
        let message =
            FutureRecord { topic, partition, payload: Some(record.value), key: record.key, timestamp: None, headers: Some(headers) };
        self.producer.send_result(message).map_err(|(error, _)| error)
    }

    /// What the library complained of last.
    pub(super) fn last_words(&self) -> String {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // What nobody waits for is not to be sent; then the library has no reason to linger.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        let producer = self.producer.clone();
        // Its threads are waited for, which takes up to half a second: not here, where others may wait. Without a thread it happens here.
        let _at_once = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(producer));
    }
}

/// Hears what the library says.
struct Words {
    refused: watch::Sender<Option<CallError>>,
    last: Arc<Mutex<String>>,
}

impl ClientContext for Words {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        aloud(|| tracing::debug!(facility, message, "the Kafka client says"));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // A broker that goes away while the mechanism is agreed on has the same code, and has refused nobody.
        let is_a_verdict = !reason.contains("handshake failed");
        if is_a_verdict
            && matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed))
        {
            let error = CallError::new(CallErrorKind::Credentials, Code::Unauthenticated, format!("Kafka: {reason}"));
            self.refused.send_replace(Some(error));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That all are down follows their reasons, and has none.
        if last.is_empty() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            reason.clone_into(&mut last);
        }
    }
}

fn denied(words: &str) -> CallError {
    CallError::new(CallErrorKind::Credentials, Code::PermissionDenied, format!("Kafka: {words}"))
}

/// What an error means for whoever sent.
pub(super) fn failed(error: &KafkaError) -> CallError {
    use RDKafkaErrorCode as E;
    let (kind, code) = match error.rdkafka_error_code() {
        Some(E::MessageSizeTooLarge | E::MessageBatchTooLarge) => (CallErrorKind::Refused, Code::ResourceExhausted),
        Some(E::Authentication | E::SaslAuthenticationFailed) => (CallErrorKind::Credentials, Code::Unauthenticated),
        Some(E::TopicAuthorizationFailed | E::ClusterAuthorizationFailed) => (CallErrorKind::Credentials, Code::PermissionDenied),
        Some(E::InvalidTopic | E::PolicyViolation | E::InvalidRecord) => (CallErrorKind::Refused, Code::FailedPrecondition),
        Some(E::MessageTimedOut | E::RequestTimedOut | E::OperationTimedOut) => (CallErrorKind::DeadlineExceeded, Code::DeadlineExceeded),
        // No connection, a leader that is being chosen, too few replicas, a full queue, a topic that is not there yet.
        _ => (CallErrorKind::Retryable, Code::Unavailable),
    };
    CallError::new(kind, code, format!("Kafka: {error}"))
}
