//! Messages of the topic become rows.
//!
//! One thread asks the client library for messages, judges them and offers them to the store, which keeps it waiting while it has no room;
//! meanwhile the partitions are paused. When partitions go to another server, what was read of them is committed first.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use scouter_storage::{
    log::{Door, Frame, MAX_PAYLOAD_BYTES},
    otlp::judge,
    store::{Offered, Store},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::member::{Member, settings, within_reason};
use crate::{
    admission::{Admission, Share},
    config::Kafka,
    consumer::{Consumer, ConsumerError, Running, Taker},
    ingest::{Accepted, Receipt},
    kafka::{DeadLetters, Fetched, client, poll},
    receive::Received,
    telemetry::Metrics,
};

/// How long it waits for a message, which is how long a stop may go unnoticed.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// How long the store may take to find room before the library is asked again.
const ROOM: Duration = Duration::from_millis(200);
/// Between two commits of the group's offsets.
const COMMIT: Duration = Duration::from_millis(500);
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

fn taken_over() -> ConsumerError {
    ConsumerError("another server has taken over some of the partitions".to_owned())
}
