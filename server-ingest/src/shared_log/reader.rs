//! Messages of the topic become rows.
//!
//! One thread asks the client library for messages, judges them and offers them to the store, which keeps it waiting while it has no room;
//! meanwhile the partitions are paused. When partitions go to another server, what was read of them is committed first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult},
};
use scouter_storage::{
    log::{BatchId, Door, Frame},
    otlp::judge,
    store::{Offered, Store},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{ledger::Ledger, recent::READ_BACK_MESSAGES, recent::Recent};
use crate::{
    admission::{Admission, Share},
    config::Kafka,
    consumer::{Consumer, ConsumerError, Running, Taker},
    ingest::{Accepted, Message, Receipt},
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
/// Fetched ahead, in KiB.
const AHEAD_KIB: &str = "32768";
/// Times of messages are their senders', where the topic keeps those. Rows are filed under days that are not before this.
const OLDEST: Duration = Duration::from_secs(40 * 24 * 3600);
/// Room for what becomes of one message, which has a limit of its own.
const ROOM_BYTES: usize = 1 << 40;

/// Reads the partitions of the topics that the group gives to this server.
pub struct LogReader {
    kafka: Kafka,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    max_request_bytes: usize,
}

impl LogReader {
    /// Rows go to `store`.
    pub fn new(kafka: Kafka, store: Arc<Store>, metrics: Arc<Metrics>, max_request_bytes: usize) -> Self {
        Self { kafka, store, metrics, max_request_bytes }
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
                max_request_bytes: self.max_request_bytes,
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
    max_request_bytes: usize,
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
                self.take(consumer, message, &mut early)?;
            }
            if let Some(fault) = member.state().fault.take() {
                return Err(ConsumerError(fault));
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
                let (topic, partition) = &message.partition;
                tracing::warn!(topic, partition, offset = message.offset, reason, "a message cannot be stored; it is with the dead ones");
                self.runtime.block_on(self.dead.bury(&message, &reason))?;
                member.state().ledger.skipped(&message.partition, message.offset);
                return Ok(());
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
                Offered::OtherEpoch => return Err(ConsumerError("another server has taken over some of the partitions".to_owned())),
                Offered::NoRoom if self.stop.is_cancelled() => break,
                Offered::NoRoom => {
                    // Those that are new, too.
                    consumer.pause(&consumer.assignment()?)?;
                    paused = true;
                    early.extend(poll(consumer, Duration::ZERO)?);
                    member.commit(consumer, CommitMode::Async)?;
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
        if bytes > self.max_request_bytes {
            return Read::Dead(format!("its {bytes} bytes are more than the limit of {} bytes", self.max_request_bytes));
        }
        let submission = self.admission.begin(&self.share, bytes).and_then(|room| {
            let received = Received { payload: message.payload.clone(), room };
            let carried = Message { door: Door::Kafka, content_type: message.content_type.clone(), payload: message.payload.clone() };
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
        rejected_records.extend(&message.refused_records);
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
        let millis = message.timestamp.unwrap_or(0);
        let hash = || BatchId(twox_hash::XxHash3_128::oneshot(&message.payload).to_le_bytes());
        let batch_id = message.id.or(submission.batch_id).unwrap_or_else(hash);
        receipt.duplicate = !member.state().recent.is_new(&message.partition, batch_id.0, millis);
        self.count(message, receipt);
        if receipt.duplicate {
            return Read::Nothing;
        }
        Read::Frame(Box::new(Frame {
            door: message.door.unwrap_or(Door::Kafka),
            envelope: submission.envelope,
            received_unix_nano: within_reason(millis),
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

/// When a message came, in nanoseconds.
fn within_reason(millis: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(millis).unwrap_or(0);
    let came = Duration::from_millis(millis).clamp(now.saturating_sub(OLDEST), now);
    u64::try_from(came.as_nanos()).unwrap_or(u64::MAX)
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

    fn begin(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) -> Result<(), ConsumerError> {
        let new: Vec<Partition> = partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        if new.is_empty() {
            return Ok(());
        }
        tracing::info!(partitions = ?new, "partitions of the log are taken");
        let sources: Vec<Arc<str>> = new.iter().map(source_of).collect();
        let known = self.store.begin_sources(&sources).map_err(|error| ConsumerError(format!("{:#}", anyhow::Error::new(error))))?;
        let committed = consumer.committed_offsets(partitions.clone(), ANSWER)?;
        for ((partition, source), known) in new.into_iter().zip(sources).zip(known) {
            let (topic, number) = &partition;
            let (low, high) = consumer.fetch_watermarks(topic, *number, ANSWER)?;
            if u64::try_from(high).unwrap_or(0) < known {
                return Err(ConsumerError(format!(
                    "partition {number} of topic {topic} ends at {high}, and the tables have its messages before {known}: the topic was made anew; \
                     give it another name, or other tables"
                )));
            }
            let begin = match committed.find_partition(topic, *number).map(|one| one.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => low,
            };
            if begin < low {
                tracing::error!(topic, partition = number, lost = low - begin, "the topic's retention deleted messages that were not read");
            }
            if begin > low {
                self.read_back(&partition, low, begin)?;
            }
            if topic == &self.kafka.topics[0] && *number == 0 {
                self.store.set_maintains(true);
            }
            let mut state = self.state();
            state.sources.insert(partition.clone(), source);
            state.ledger.begin(partition);
        }
        Ok(())
    }

    /// Learns the ids of the messages before `begin`.
    fn read_back(&self, partition: &Partition, low: i64, begin: i64) -> Result<(), ConsumerError> {
        let (topic, number) = partition;
        let mut settings = settings(&self.kafka);
        settings.remove("group.instance.id");
        settings.set("enable.partition.eof", "true");
        let consumer: BaseConsumer = settings.create()?;
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, *number, Offset::Offset(low.max(begin - READ_BACK_MESSAGES)))?;
        consumer.assign(&assigned)?;
        let began = Instant::now();
        while began.elapsed() < ANSWER {
            let Some(message) = poll(&consumer, POLL)? else {
                // Between the last message and `begin` there may be none.
                if consumer
                    .position()?
                    .find_partition(topic, *number)
                    .is_some_and(|one| matches!(one.offset(), Offset::Offset(at) if at >= begin))
                {
                    break;
                }
                continue;
            };
            if message.offset >= begin {
                break;
            }
            let hash = || twox_hash::XxHash3_128::oneshot(&message.payload).to_le_bytes();
            let id = message.id.map_or_else(hash, |id| id.0);
            self.state().recent.is_new(partition, id, message.timestamp.unwrap_or(0));
            if message.offset + 1 >= begin {
                break;
            }
        }
        Ok(())
    }

    fn give_away(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let gone: Vec<Partition> = partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
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
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => self.give_away(consumer, partitions),
            Rebalance::Assign(partitions) => {
                if let Err(error) = self.begin(consumer, partitions) {
                    self.state().fault = Some(error.to_string());
                }
            }
            Rebalance::Error(error) => tracing::debug!(%error, "a rebalance failed"),
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
