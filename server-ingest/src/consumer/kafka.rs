//! Kafka: a member of a consumer group, and an offset for each partition up to which everything is stored.
//!
//! The client library wants to be asked for messages again and again by one thread, and tells that thread when partitions come and go. So each
//! consumer has a thread, which takes a *batch*, lets it be stored at once, and commits its offsets. While a batch takes long, because the
//! server has no room, the partitions are paused and the thread goes on asking, or the group would take it for dead.
//!
//! Invariants:
//! - An offset is committed when all before it have their fate: stored, or with the dead (topic `NAME.dead`).
//! - A partition is given away when nothing of it is under way, and after its offset is committed. What was fetched of it and not begun is
//!   forgotten: it is its next owner's.
//! - A server is known in its group by a name that is kept in its storage. Within the session timeout it gets its own partitions again, and it
//!   recognises what it had stored and not committed.

mod batch;
mod member;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::{batch::Batch, member::Member};
use super::{Consumer, ConsumerError, Running, Taker};
use crate::{
    admission::Share,
    config::Kafka,
    kafka::{DeadLetters, Fetched, client, poll},
};

/// Most messages taken at once: the log writes them with one sync.
const BATCH: usize = 64;
/// No more are added to a batch of this size; the library fetches as much ahead.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long it waits for a message, which is how long a stop may go unnoticed, and as long as brokers may take to say what is committed.
const POLL: Duration = Duration::from_millis(200);
/// A batch that takes longer is one that waits for room.
const QUICK: Duration = Duration::from_secs(1);

/// One consumer of the topics; the number tells this server's consumers apart.
pub(super) struct KafkaSource {
    kafka: Kafka,
    name_file: PathBuf,
    number: usize,
}

impl KafkaSource {
    pub(super) fn new(kafka: Kafka, storage: &std::path::Path, number: usize) -> Self {
        Self { kafka, name_file: storage.join("kafka-member"), number }
    }
}

impl Consumer for KafkaSource {
    fn name(&self) -> String {
        format!("kafka topic {} {}", self.kafka.topics.join(","), self.number)
    }

    fn run<'a>(&'a self, taker: &'a Taker, stop: &'a CancellationToken) -> Running<'a> {
        Box::pin(async move {
            // Whoever stops waiting for the thread stops it.
            let stop = stop.child_token();
            let _stopped_with_us = stop.clone().drop_guard();
            let worker = Worker {
                kafka: self.kafka.clone(),
                name_file: self.name_file.clone(),
                number: self.number,
                taker: taker.clone(),
                stop,
                runtime: Handle::current(),
            };
            tokio::task::spawn_blocking(move || worker.run()).await.unwrap_or_else(|error| Err(ConsumerError(error.to_string())))
        })
    }
}

impl From<KafkaError> for ConsumerError {
    fn from(error: KafkaError) -> Self {
        Self(match error {
            // It would show the value, which may be a password.
            KafkaError::ClientConfig(_, what, name, _) => format!("kafka: {what}: {name}"),
            error => format!("kafka: {error}"),
        })
    }
}

struct Worker {
    kafka: Kafka,
    name_file: PathBuf,
    number: usize,
    taker: Taker,
    stop: CancellationToken,
    runtime: Handle,
}

impl Worker {
    fn run(&self) -> Result<(), ConsumerError> {
        let name = member::name(self.kafka.instance.as_deref(), &self.name_file, self.number)?;
        let consumer: BaseConsumer<Member> = self.settings(&name).create_with_context(Member::default())?;
        let topics: Vec<&str> = self.kafka.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        let dead = Arc::new(DeadLetters::new(client(&self.kafka)));
        let share = Arc::new(Share::default());
        let mut fetched = Vec::new();
        while !self.stop.is_cancelled() {
            fetch(&consumer, &mut fetched)?;
            if fetched.is_empty() {
                consumer.context().commit_again(&consumer);
            } else {
                let batch = Batch::begin(std::mem::take(&mut fetched), &self.taker, &share, &dead, &self.stop, &self.runtime);
                consumer.context().begin(batch);
                fetched = finish(&consumer)?;
            }
        }
        consumer.context().commit_all(&consumer);
        // Dropped, it says goodbye to the brokers.
        Ok(())
    }

    fn settings(&self, name: &str) -> ClientConfig {
        let mut settings = client(&self.kafka);
        settings
            .set("group.id", &self.kafka.group)
            .set("group.instance.id", name)
            .set("session.timeout.ms", self.kafka.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (self.kafka.session_timeout.as_millis() / 10).min(3000).to_string())
            .set("max.poll.interval.ms", self.kafka.session_timeout.as_millis().max(300_000).to_string())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", self.kafka.offset_reset)
            .set("isolation.level", "read_committed")
            // Where brokers make topics, a server may be there before its clients.
            .set("allow.auto.create.topics", "true")
            .set("topic.metadata.refresh.interval.ms", "10000")
            // Otherwise a partition rests for a second whenever as much is fetched as may be.
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", (BATCH_BYTES / 1024).to_string())
            .set("fetch.max.bytes", BATCH_BYTES.to_string());
        settings
    }
}

/// Adds messages to those that are left of the last batch.
fn fetch(consumer: &BaseConsumer<Member>, fetched: &mut Vec<Fetched>) -> Result<(), ConsumerError> {
    let mut patience = if fetched.is_empty() { POLL } else { Duration::ZERO };
    let mut bytes: usize = fetched.iter().map(Fetched::bytes).sum();
    while fetched.len() < BATCH && bytes < BATCH_BYTES {
        let polled = poll(consumer, patience)?;
        let gone = consumer.context().take_gone();
        fetched.retain(|message| !gone.contains(&message.partition));
        let Some(message) = polled else { break };
        bytes += message.bytes();
        fetched.push(message);
        patience = Duration::ZERO;
    }
    Ok(())
}

/// Waits until the batch under way is done, and commits it. Returns what of it is to be taken again: it was interrupted because other
/// partitions were given away.
fn finish(consumer: &BaseConsumer<Member>) -> Result<Vec<Fetched>, ConsumerError> {
    let member = consumer.context();
    let mut patience = QUICK;
    let mut paused = false;
    let (mut early, mut gone) = (Vec::new(), Vec::new());
    let done = loop {
        if let Some(done) = member.wait(patience) {
            break done;
        }
        // Those that are new, too.
        consumer.pause(&consumer.assignment()?)?;
        if !paused {
            tracing::debug!("a batch of messages of Kafka takes long; its partitions are paused");
        }
        (paused, patience) = (true, POLL);
        let polled = poll(consumer, Duration::ZERO)?;
        let gone_now = member.take_gone();
        early.retain(|message: &Fetched| !gone_now.contains(&message.partition));
        gone.extend(gone_now);
        early.extend(polled);
    };
    if paused {
        consumer.resume(&consumer.assignment()?)?;
    }
    member.commit_done(consumer, &gone);
    let mut left = done?;
    left.retain(|message| !gone.contains(&message.partition));
    left.extend(early);
    Ok(left)
}

#[cfg(test)]
mod tests;
