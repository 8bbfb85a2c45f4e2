//! What all that talks to Kafka has in common: how it connects, what it fetches, where it puts what cannot be stored.

mod dead;
mod fetched;

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

pub(crate) use self::{
    dead::DeadLetters,
    fetched::{DOOR, Fetched, Partition, REFUSED_RECORDS, bytes_of},
};
use crate::config::Kafka;

/// What consumer and producer have in common.
pub(crate) fn client(kafka: &Kafka) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "scouter-server")
        .set("security.protocol", kafka.security)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true");
    if let Some((username, password, mechanism)) = &kafka.sasl {
        settings.set("sasl.mechanism", mechanism).set("sasl.username", username).set("sasl.password", password.expose());
    }
    if let Some(file) = &kafka.ca_file {
        settings.set("ssl.ca.location", file.to_string_lossy());
    }
    settings
}

/// The next message, if there is one by then. Errors that the library gets over by itself are none.
pub(crate) fn poll<C: ConsumerContext>(consumer: &BaseConsumer<C>, patience: Duration) -> KafkaResult<Option<Fetched>> {
    use RDKafkaErrorCode as E;
    match consumer.poll(patience) {
        None => Ok(None),
        Some(Ok(message)) => Ok(Some(Fetched::from(&message))),
        Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(error),
        Some(Err(error)) => match error.rdkafka_error_code() {
            Some(
                E::BrokerTransportFailure
                | E::AllBrokersDown
                | E::Resolve
                | E::OperationTimedOut
                | E::RequestTimedOut
                | E::UnknownTopicOrPartition
                | E::UnknownTopic
                | E::LeaderNotAvailable
                | E::NotLeaderForPartition
                | E::NotCoordinator
                | E::CoordinatorNotAvailable
                | E::CoordinatorLoadInProgress
                | E::PollExceeded,
            ) => {
                tracing::debug!(%error, "the Kafka client has a problem that it gets over");
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

/// As the client library wants them.
pub(crate) fn offsets<'a>(offsets: impl Iterator<Item = (&'a Partition, &'a i64)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, number), offset) in offsets {
        list.add_partition_offset(topic, *number, Offset::Offset(*offset))?;
    }
    Ok(list)
}
