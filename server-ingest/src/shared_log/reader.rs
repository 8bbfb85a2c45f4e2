//! Messages of the topic become rows.
//!
//! One thread asks the client library for messages, judges them and offers them to the store, which keeps it waiting while it has no room;
//! meanwhile the partitions are paused. When partitions go to another server, what was read of them is committed first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use scouter_storage::{
    log::{Door, Frame, MAX_PAYLOAD_BYTES},
    otlp::judge,
    store::{Offered, Store},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    ledger::Ledger,
    recent::{READ_BACK_MESSAGES, Recent, WINDOW_MILLIS},
};
use crate::{
    admission::{Admission, Share},
    config::Kafka,
    consumer::{Consumer, ConsumerError, Running, Taker},
    ingest::{Accepted, Receipt},
    kafka::{DeadLetters, Fetched, Partition, client, poll},
    receive::Received,
    telemetry::Metrics,
};

/// How long it waits for a message, which is how long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);
/// How long the store may take to find room before the library is asked again.
const ROOM: Duration = Duration::from_millis(200);
/// Between two commits of the group's offsets.
const COMMIT: Duration = Duration::from_millis(500);
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
/// Room for what becomes of one message, which has a limit of its own.
const ROOM_BYTES: usize = 1 << 40;

/// Reads the partitions of the topics that the group gives to this server.
pub struct LogReader {
    kafka: Kafka,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl LogReader {
    /// Rows go to `store`.
    pub fn new(kafka: Kafka, store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self { kafka, store, metrics }
    }
}

impl Consumer for LogReader {
    fn name(&self) -> String {
        format!("the log, kafka topic {}", self.kafka.topics.join(","))
    }

    fn run<'a>(&'a self, _: &'a Taker, stop: &'a CancellationToken) -> Running<'a> {
        Box::pin(async move {
            // Whoever stops waiting for the thread stops it.
            let stop = stop.child_token();
            let _stopped_with_us = stop.clone().drop_guard();
            let worker = Worker {
                kafka: self.kafka.clone(),
                store: Arc::clone(&self.store),
                metrics: Arc::clone(&self.metrics),
                admission: Admission::new(ROOM_BYTES),
                share: Arc::new(Share::default()),
                dead: DeadLetters::new(client(&self.kafka)),
                runtime: Handle::current(),
                stop,
            };
            tokio::task::spawn_blocking(move || worker.run()).await.unwrap_or_else(|error| Err(ConsumerError(error.to_string())))
        })
    }
}

struct Worker {
    kafka: Kafka,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    admission: Admission,
    share: Arc<Share>,
    dead: DeadLetters,
    runtime: Handle,
    stop: CancellationToken,
}

/// The reader as a member of its group. Callbacks run on the thread that polls.
struct Member {
    kafka: Kafka,
    store: Arc<Store>,
    runtime: Handle,
    epoch: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    recent: Recent,
    sources: HashMap<Partition, Arc<str>>,
    /// Why the reader has to begin anew.
    fault: Option<String>,
}

/// What became of a message.
enum Read {
    Frame(Box<Frame>),
    Nothing,
    Dead(String),
}

impl Worker {
    fn run(&self) -> Result<(), ConsumerError> {
        // What was read before and is not in the tables is read again.
        let epoch = self.store.begin_epoch();
        let member = Member {
            kafka: self.kafka.clone(),
            store: Arc::clone(&self.store),
            runtime: self.runtime.clone(),
            epoch,
            state: Mutex::default(),
        };
        let consumer: BaseConsumer<Member> = settings(&self.kafka).create_with_context(member)?;
        let topics: Vec<&str> = self.kafka.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        let ended = self.read(&consumer);
        if ended.is_ok() {
            consumer.context().settle(&consumer);
        }
        self.store.set_maintains(false);
        ended
        // Dropped, it says goodbye to the brokers.
    }

    fn read(&self, consumer: &BaseConsumer<Member>) -> Result<(), ConsumerError> {
        let member = consumer.context();
        let mut early = VecDeque::new();
        let mut committed = Instant::now();
        while !self.stop.is_cancelled() {
            let next = match early.pop_front() {
                Some(message) => Some(message),
                None => poll(consumer, POLL)?,
            };
            if let Some(message) = next
                && member.state().ledger.has(&message.partition)
            {
                if !member.state().ledger.comes(&message.partition, message.offset) {
                    let (topic, number) = &message.partition;
                    return Err(ConsumerError(format!("partition {number} of topic {topic} went back to offset {}", message.offset)));
                }
                self.take(consumer, message, &mut early)?;
            }
            if let Some(fault) = member.state().fault.take() {
                return Err(ConsumerError(fault));
            }
            if self.store.settled().borrow().epoch != member.epoch {
                return Err(taken_over());
            }
            if committed.elapsed() >= COMMIT {
                committed = Instant::now();
                member.commit(consumer, CommitMode::Async)?;
            }
        }
        Ok(())
    }

    fn take(&self, consumer: &BaseConsumer<Member>, message: Fetched, early: &mut VecDeque<Fetched>) -> Result<(), ConsumerError> {
        let member = consumer.context();
        let frame = match self.judge(&message, member) {
            Read::Frame(frame) => frame,
            Read::Nothing => {
                member.state().ledger.skipped(&message.partition, message.offset);
                return Ok(());
            }
            Read::Dead(reason) => {
                return self.bury(consumer, &message, &reason, early);
            }
        };
        let mut paused = false;
        while let Some(source) = member.source(&message.partition) {
            let offset = u64::try_from(message.offset).unwrap_or(0);
            let offered = self.store.offer(member.epoch, &source, offset, &frame, ROOM);
            match offered.map_err(|error| ConsumerError(error.to_string()))? {
                Offered::Applied(position) => {
                    member.state().ledger.given(&message.partition, message.offset, position);
                    break;
                }
                Offered::OtherEpoch => return Err(taken_over()),
                Offered::NoRoom if self.stop.is_cancelled() => break,
                Offered::NoRoom => {
                    self.rest(consumer, early, Duration::ZERO)?;
                    paused = true;
                }
            }
        }
        if paused {
            consumer.resume(&consumer.assignment()?)?;
        }
        Ok(())
    }

    /// Keeps its place in the group while nothing more is taken.
    fn rest(&self, consumer: &BaseConsumer<Member>, early: &mut VecDeque<Fetched>, patience: Duration) -> Result<(), ConsumerError> {
        // Those that are new, too.
        consumer.pause(&consumer.assignment()?)?;
        early.extend(poll(consumer, patience)?);
        consumer.context().commit(consumer, CommitMode::Async)?;
        Ok(())
    }

    /// Puts a message with the dead, again and again while that fails: it must not be passed over, and its partition's next owner would fail too.
    fn bury(
        &self,
        consumer: &BaseConsumer<Member>,
        message: &Fetched,
        reason: &str,
        early: &mut VecDeque<Fetched>,
    ) -> Result<(), ConsumerError> {
        let member = consumer.context();
        let (topic, partition) = &message.partition;
        tracing::warn!(topic, partition, offset = message.offset, reason, "a message cannot be stored; it is with the dead ones");
        let mut paused = false;
        while member.state().ledger.has(&message.partition) && !self.stop.is_cancelled() {
            match self.runtime.block_on(self.dead.bury(message, reason)) {
                Ok(()) => {
                    member.state().ledger.skipped(&message.partition, message.offset);
                    break;
                }
                Err(error) => {
                    tracing::error!(topic, partition, offset = message.offset, %error, "it cannot be put with the dead ones, and nothing is read until it is");
                    self.rest(consumer, early, ROOM * 5)?;
                    paused = true;
                }
            }
        }
        if paused {
            consumer.resume(&consumer.assignment()?)?;
        }
        Ok(())
    }

    /// What of a message can be stored. Whoever wrote it: a client, a Collector, or a server that has judged it before.
    fn judge(&self, message: &Fetched, member: &Member) -> Read {
        let bytes = message.bytes();
        if bytes == 0 {
            return Read::Nothing;
        }
        // Not this server's own limit: another one may have acknowledged it.
        if bytes > MAX_PAYLOAD_BYTES {
            return Read::Dead(format!("its {bytes} bytes are more than the limit of {MAX_PAYLOAD_BYTES} bytes"));
        }
        let carried = message.carried();
        let batch_id = carried.batch_id(message.id);
        let submission = self.admission.begin(&self.share, bytes).and_then(|room| {
            let received = Received { payload: message.payload.clone(), room };
            carried.submission(received)
        });
        let judged = submission.and_then(|submission| Ok((judge(&submission.payload, submission.envelope)?, submission)));
        let (verdict, submission) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                self.metrics.count_refused(Door::Kafka, &error);
                return Read::Dead(error.text());
            }
        };
        let indexes = |rejected: &[scouter_storage::otlp::Rejected]| rejected.iter().map(|one| one.index).collect::<Vec<_>>();
        let rejected_spans = indexes(&verdict.rejected_spans);
        let mut rejected_records = indexes(&verdict.rejected_records);
        rejected_records.extend(message.refused_records.iter().filter(|index| **index < verdict.records));
        rejected_records.sort_unstable();
        rejected_records.dedup();
        let count = |indexes: &[u32]| u32::try_from(indexes.len()).unwrap_or(u32::MAX);
        let mut receipt = Receipt {
            spans: verdict.spans - count(&rejected_spans),
            records: verdict.records.saturating_sub(count(&rejected_records)),
            rejected_spans: count(&rejected_spans) + submission.refused.spans,
            rejected_records: count(&rejected_records) + submission.refused.records,
            duplicate: false,
        };
        if receipt.spans + receipt.records == 0 {
            let first = verdict.rejected_spans.first().or(verdict.rejected_records.first());
            let words = first.map_or(submission.refused.words, |first| format!("nothing of it can be stored: {}", first.reason));
            self.count(message, receipt);
            return if words.is_empty() { Read::Nothing } else { Read::Dead(words) };
        }
        let millis = within_reason(message.timestamp);
        receipt.duplicate = !member.state().recent.is_new(&message.partition, batch_id.0, millis);
        self.count(message, receipt);
        if receipt.duplicate {
            return Read::Nothing;
        }
        Read::Frame(Box::new(Frame {
            door: message.door.unwrap_or(Door::Kafka),
            envelope: submission.envelope,
            received_unix_nano: u64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000),
            batch_id,
            rejected_spans,
            rejected_records,
            payload: submission.payload,
        }))
    }

    /// What came by way of a server's door was counted there.
    fn count(&self, message: &Fetched, receipt: Receipt) {
        if message.door.is_none() {
            self.metrics.count_submission(Door::Kafka, message.bytes(), &Ok(Accepted { receipt, refusal: String::new() }));
        }
    }
}

/// When a message came, in milliseconds; now, if it does not say.
fn within_reason(timestamp: Option<i64>) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    timestamp.map_or(now, |millis| millis.clamp(now.saturating_sub(OLDEST_MILLIS), now))
}

fn taken_over() -> ConsumerError {
    ConsumerError("another server has taken over some of the partitions".to_owned())
}

/// The application id of a partition in the tables.
fn source_of((topic, partition): &Partition) -> Arc<str> {
    format!("kafka:{topic}:{partition}").into()
}

fn settings(kafka: &Kafka) -> ClientConfig {
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, partition: &Partition) -> Option<Arc<str>> {
        self.state().sources.get(partition).cloned()
    }

    /// Tells the brokers up to where partitions are in the tables.
    fn commit(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) -> Result<(), KafkaError> {
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
        match list(&news).and_then(|offsets| consumer.commit(&offsets, mode)) {
            Ok(()) => state.ledger.told(&news),
            // The next one says it again; so do the tables.
            Err(error) => tracing::debug!(%error, "offsets are not committed"),
        }
        Ok(())
    }

    /// Has everything that was read in the tables, and says so to the brokers.
    fn settle(&self, consumer: &BaseConsumer<Self>) {
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

fn list(offsets: &[(Partition, i64)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, number), offset) in offsets {
        list.add_partition_offset(topic, *number, Offset::Offset(*offset))?;
    }
    Ok(list)
}
