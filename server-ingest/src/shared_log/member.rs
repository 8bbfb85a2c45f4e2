//! The reader of a shared log as a member of its group: which partitions come and go, from where each is read, and up to where it is settled.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use scouter_storage::store::Store;
use tokio::runtime::Handle;

use super::{
    ledger::Ledger,
    reader::POLL,
    recent::{READ_BACK_MESSAGES, Recent, WINDOW_MILLIS},
};
use crate::{
    config::Kafka,
    consumer::ConsumerError,
    kafka::{Partition, client, offsets, poll},
};

/// A flush before partitions are given away takes no longer, or their next owner reads the rows again.
const HANDOVER: Duration = Duration::from_secs(20);
/// How long the brokers may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);
/// Of one partition, at once.
const FETCH_BYTES: &str = "4194304";
/// Nothing more comes of what is read back.
const SILENCE: Duration = Duration::from_secs(2);
/// Read back at once.
const READ_BACK_PART: i64 = 500;
/// Fetched ahead, in KiB.
const AHEAD_KIB: &str = "16384";
/// Times of messages are their senders', where the topic keeps those. Rows are filed under days that are not before this.
const OLDEST_MILLIS: i64 = 40 * 24 * 3600 * 1000;

/// The reader as a member of its group. Callbacks run on the thread that polls.
pub(super) struct Member {
    pub(super) kafka: Kafka,
    pub(super) store: Arc<Store>,
    pub(super) runtime: Handle,
    pub(super) epoch: u64,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) recent: Recent,
    pub(super) sources: HashMap<Partition, Arc<str>>,
    /// Why the reader has to begin anew.
    pub(super) fault: Option<String>,
}

/// When a message came, in milliseconds; now, if it does not say.
pub(super) fn within_reason(timestamp: Option<i64>) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    timestamp.map_or(now, |millis| millis.clamp(now.saturating_sub(OLDEST_MILLIS), now))
}

/// The application id of a partition in the tables.
fn source_of((topic, partition): &Partition) -> Arc<str> {
    format!("kafka:{topic}:{partition}").into()
}

pub(super) fn settings(kafka: &Kafka) -> ClientConfig {
    let mut settings = client(kafka);
    settings
        .set("group.id", &kafka.group)
        .set("session.timeout.ms", kafka.session_timeout.as_millis().to_string())
        .set("heartbeat.interval.ms", (kafka.session_timeout.as_millis() / 10).min(3000).to_string())
        .set("max.poll.interval.ms", kafka.session_timeout.as_millis().max(300_000).to_string())
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The tables say what they have; what is before the first offset is what they lack.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("fetch.wait.max.ms", "50")
        // Otherwise a partition rests for a second whenever as much is fetched as may be.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", FETCH_BYTES)
        .set("queued.max.messages.kbytes", AHEAD_KIB);
    if let Some(name) = &kafka.instance {
        settings.set("group.instance.id", name);
    }
    settings
}

impl Member {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn source(&self, partition: &Partition) -> Option<Arc<str>> {
        self.state().sources.get(partition).cloned()
    }

    /// Tells the brokers up to where partitions are in the tables.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) -> Result<(), KafkaError> {
        let settled = *self.store.settled().borrow();
        if settled.epoch != self.epoch {
            return Ok(());
        }
        let mut state = self.state();
        state.ledger.settle(settled.position);
        // What was told without waiting for an answer may be lost, so the last word is all of it.
        let news = if matches!(mode, CommitMode::Sync) { state.ledger.settled() } else { state.ledger.news() };
        if news.is_empty() {
            return Ok(());
        }
        match offsets(news.iter().map(|(partition, offset)| (partition, offset))).and_then(|offsets| consumer.commit(&offsets, mode)) {
            Ok(()) => state.ledger.told(&news),
            // The next one says it again; so do the tables.
            Err(error) => tracing::debug!(%error, "offsets are not committed"),
        }
        Ok(())
    }

    /// Has everything that was read in the tables, and says so to the brokers.
    pub(super) fn settle(&self, consumer: &BaseConsumer<Self>) {
        let flushed = self.runtime.block_on(async { tokio::time::timeout(HANDOVER, self.store.flush()).await });
        match flushed {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %anyhow::Error::new(error), "rows are not in the tables; their next owner reads them again")
            }
            Err(_) => tracing::warn!(waited = ?HANDOVER, "rows are not in the tables yet; their next owner reads them again"),
        }
        // What is read next is settled at once.
        let _ = self.commit(consumer, CommitMode::Sync);
    }

    /// Makes ready for new partitions, and says in the list where each is to be read from.
    fn begin(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) -> Result<(), ConsumerError> {
        let new: Vec<Partition> = partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        if new.is_empty() {
            return Ok(());
        }
        tracing::info!(partitions = ?new, "partitions of the log are taken");
        let sources: Vec<Arc<str>> = new.iter().map(source_of).collect();
        let known = self.store.begin_sources(&sources).map_err(|error| ConsumerError(format!("{:#}", anyhow::Error::new(error))))?;
        let committed = consumer.committed_offsets(partitions.clone(), ANSWER)?;
        let mut begun = Vec::new();
        for ((partition, source), known) in new.into_iter().zip(sources).zip(known) {
            let (topic, number) = &partition;
            let (low, high) = consumer.fetch_watermarks(topic, *number, ANSWER)?;
            let known = i64::try_from(known).unwrap_or(i64::MAX);
            if high < known {
                return Err(ConsumerError(format!(
                    "partition {number} of topic {topic} ends at {high}, and the tables have its messages before {known}: the topic was made anew; \
                     give it another name, or other tables"
                )));
            }
            let committed = match committed.find_partition(topic, *number).map(|one| one.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => 0,
            };
            // Whatever the group says, what the tables lack is read: they may have been restored, or be other ones.
            let begin = committed.min(known);
            if begin < low && begin.max(known) > 0 {
                tracing::error!(
                    topic,
                    partition = number,
                    from = begin.max(known.min(low)),
                    to = low,
                    "the topic's retention has deleted messages that may not have been read"
                );
            }
            let begin = begin.max(low);
            partitions.set_partition_offset(topic, *number, Offset::Offset(begin))?;
            begun.push((partition, source, low, begin));
        }
        self.read_back(&begun)?;
        let mut state = self.state();
        for (partition, source, _, begin) in begun {
            if partition.0 == self.kafka.topics[0] && partition.1 == 0 {
                self.store.set_maintains(true);
            }
            state.sources.insert(partition.clone(), source);
            state.ledger.begin(partition, begin);
        }
        Ok(())
    }

    /// Learns the ids of the messages before those that are read next: those of the last ones first, since they are the likeliest to come again.
    fn read_back(&self, begun: &[(Partition, Arc<str>, i64, i64)]) -> Result<(), ConsumerError> {
        let mut settings = settings(&self.kafka);
        settings.remove("group.instance.id");
        let consumer: BaseConsumer = settings.create()?;
        let until = Instant::now() + ANSWER;
        let oldest = within_reason(None) - WINDOW_MILLIS;
        // Of each partition what is still to be read, and the ids that were found, by offset.
        let mut left: HashMap<&Partition, (i64, i64)> = begun
            .iter()
            .map(|(partition, _, low, begin)| (partition, ((*low).max(begin - READ_BACK_MESSAGES), *begin)))
            .filter(|(_, (from, to))| from < to)
            .collect();
        let mut found: BTreeMap<(&Partition, i64), ([u8; 16], i64)> = BTreeMap::new();
        while !left.is_empty() && Instant::now() < until {
            let part: HashMap<&Partition, (i64, i64)> =
                left.iter().map(|(partition, (from, to))| (*partition, ((*to - READ_BACK_PART).max(*from), *to))).collect();
            let mut assigned = TopicPartitionList::new();
            for ((topic, number), (from, _)) in &part {
                assigned.add_partition_offset(topic, *number, Offset::Offset(*from))?;
            }
            consumer.assign(&assigned)?;
            let mut open = part.clone();
            let mut heard = Instant::now();
            // Behind the last message there may be records of transactions, which nobody is shown.
            while !open.is_empty() && Instant::now() < until && heard.elapsed() < SILENCE {
                let message = poll(&consumer, POLL)?;
                if message.is_some() {
                    heard = Instant::now();
                }
                if let Some(message) = &message
                    && let Some((partition, (from, to))) = part.get_key_value(&message.partition)
                    && (*from..*to).contains(&message.offset)
                {
                    let millis = within_reason(message.timestamp);
                    found.insert((*partition, message.offset), (message.carried().batch_id(message.id).0, millis));
                    if millis < oldest {
                        // What came before is older.
                        left.remove(*partition);
                    }
                }
                // Not all offsets have a message.
                let position = consumer.position()?;
                open.retain(|(topic, number), (_, to)| {
                    let at = position.find_partition(topic, *number).map(|one| one.offset());
                    !matches!(at, Some(Offset::Offset(at)) if at >= *to)
                });
            }
            left.retain(|partition, (from, to)| {
                *to = part.get(partition).map_or(*from, |(begin, _)| *begin);
                from < to
            });
        }
        if !left.is_empty() {
            tracing::warn!(waited = ?ANSWER, "not all of the messages before were read; one of them that is sent again now is stored twice until files are merged");
        }
        let mut state = self.state();
        for ((partition, _), (id, millis)) in found {
            state.recent.is_new(partition, id, millis);
        }
        Ok(())
    }

    fn give_away(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let gone: Vec<Partition> = partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        // One that is paused stays so for when it comes back.
        if let Err(error) = consumer.resume(partitions) {
            tracing::debug!(%error, "partitions that are given away stay paused");
        }
        if gone.iter().any(|partition| self.state().ledger.has(partition)) {
            tracing::info!(partitions = ?gone, "partitions of the log are given away");
            self.settle(consumer);
        }
        let mut state = self.state();
        // Rows of partitions that are gone must not be committed after their next owner's.
        if gone.iter().any(|partition| state.ledger.is_owing(partition)) {
            state.fault = Some("partitions were given away before all that was read of them was in the tables".to_owned());
        }
        for partition in &gone {
            state.ledger.end(partition);
            state.recent.forget(partition);
            state.sources.remove(partition);
        }
        if gone.iter().any(|(topic, number)| topic == &self.kafka.topics[0] && *number == 0) {
            self.store.set_maintains(false);
        }
    }
}

impl ClientContext for Member {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the Kafka client says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client has a problem");
    }
}

impl ConsumerContext for Member {
    /// In the place of the library's own, which reads from where the group is.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = self.begin(consumer, partitions) {
                self.state().fault = Some(error.to_string());
            }
            consumer.incremental_assign(partitions)
        } else {
            self.give_away(consumer, partitions);
            consumer.incremental_unassign(partitions)
        };
        if let Err(error) = done {
            self.state().fault = Some(format!("a rebalance failed: {error}"));
        }
    }
}
