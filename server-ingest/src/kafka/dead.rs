//! The topic of messages that cannot be stored.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use scouter_storage::log::MAX_PAYLOAD_BYTES;
use scouter_tonic::broker::{CONTENT_TYPE, DEAD_SUFFIX, REASON};
use tokio::sync::OnceCell;

use super::fetched::Fetched;

/// Header that says where a dead message was: topic, partition and offset.
const ORIGIN: &str = "scouter-origin";
/// The brokers do not take a dead one for this long: the consumer starts again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Acknowledged by all replicas in sync before the message counts as done.
pub(crate) struct DeadLetters {
    settings: ClientConfig,
    /// Most servers never need it.
    producer: OnceCell<FutureProducer>,
}

impl DeadLetters {
    pub(crate) fn new(mut settings: ClientConfig) -> Self {
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("message.max.bytes", (MAX_PAYLOAD_BYTES + 64 * 1024).to_string());
        Self { settings, producer: OnceCell::new() }
    }

    pub(crate) async fn bury(&self, message: &Fetched, reason: &str) -> Result<(), KafkaError> {
        match self.send(message, reason, &message.payload).await {
            // The topic of the dead takes less than the topic. The message stays in its own until that forgets it.
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => {
                let reason = format!("{reason}; its {} bytes are too large for this topic", message.payload.len());
                self.send(message, &reason, &[]).await
            }
            buried => buried,
        }
    }

    async fn send(&self, message: &Fetched, reason: &str, payload: &[u8]) -> Result<(), KafkaError> {
        let producer = self.producer.get_or_try_init(async || self.settings.create()).await?;
        let (topic, number) = &message.partition;
        let (dead, origin) = (format!("{topic}{DEAD_SUFFIX}"), format!("{topic} {number} {}", message.offset));
        let mut headers = OwnedHeaders::new().insert(Header { key: REASON, value: Some(reason) });
        headers = headers.insert(Header { key: ORIGIN, value: Some(&origin) });
        if let Some(content_type) = &message.content_type {
            headers = headers.insert(Header { key: CONTENT_TYPE, value: Some(content_type) });
        }
        let record = FutureRecord::<(), [u8]>::to(&dead).payload(payload).headers(headers);
        producer.send(record, PATIENCE).await.map(drop).map_err(|(error, _)| error)
    }
}
