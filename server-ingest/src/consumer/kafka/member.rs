//! What the client library tells of the group: which partitions come and go.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};

use super::batch::{Batch, Done};
use crate::{
    consumer::ConsumerError,
    kafka::{Fetched, Partition, offsets},
};

/// Longer than a store that is stuck keeps a request waiting.
const SETTLE: Duration = Duration::from_secs(15);
/// How long the brokers may take to say what is committed.
const ANSWER: Duration = Duration::from_millis(500);

/// A member of the group. Its callbacks run on the thread that polls, which is the one that calls everything else here.
#[derive(Default)]
pub(super) struct Member(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: Option<Batch>,
    /// The outcome of a batch that a rebalance waited for.
    done: Option<Result<Vec<Fetched>, ConsumerError>>,
    /// Up to where everything is done and, as far as is known, not committed.
    offsets: HashMap<Partition, i64>,
    /// Given away since it was last asked.
    gone: Vec<Partition>,
}

impl Member {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, batch: Batch) {
        self.state().under_way = Some(batch);
    }

    /// What is left of the batch under way; `None` when it is not done by then.
    pub(super) fn wait(&self, patience: Duration) -> Option<Result<Vec<Fetched>, ConsumerError>> {
        let mut state = self.state();
        state.settle(patience);
        state.done.take()
    }

    pub(super) fn take_gone(&self) -> Vec<Partition> {
        std::mem::take(&mut self.state().gone)
    }

    /// Without waiting. Says nothing of partitions that are gone, which may be further with their next owner.
    pub(super) fn commit_done(&self, consumer: &BaseConsumer<Self>, gone: &[Partition]) {
        self.state().offsets.retain(|partition, _| !gone.contains(partition));
        self.commit(consumer);
    }

    /// Asks the brokers up to where it is committed, and commits what is not: for when nothing follows that would say it again. The library does
    /// not tell what becomes of a commit that nobody waits for.
    pub(super) fn commit_again(&self, consumer: &BaseConsumer<Self>) {
        let mut state = self.state();
        if state.offsets.is_empty() {
            return;
        }
        let committed = match offsets(state.offsets.iter()).and_then(|offsets| consumer.committed_offsets(offsets, ANSWER)) {
            Ok(committed) => committed,
            Err(error) => return tracing::debug!(%error, "the brokers do not say which offsets are committed"),
        };
        state.offsets.retain(|(topic, number), offset| {
            !committed.find_partition(topic, *number).is_some_and(|one| one.error().is_ok() && one.offset() == Offset::Offset(*offset))
        });
        drop(state);
        self.commit(consumer);
    }

    fn commit(&self, consumer: &BaseConsumer<Self>) {
        let offsets = &self.state().offsets;
        if offsets.is_empty() {
            return;
        }
        if let Err(error) = crate::kafka::offsets(offsets.iter()).and_then(|offsets| consumer.commit(&offsets, CommitMode::Async)) {
            tracing::debug!(%error, "offsets are not committed; they will be again");
        }
    }

    /// Waits for the brokers.
    pub(super) fn commit_all(&self, consumer: &BaseConsumer<Self>) {
        let mut state = self.state();
        if state.offsets.is_empty() {
            return;
        }
        match offsets(state.offsets.iter()).and_then(|offsets| consumer.commit(&offsets, CommitMode::Sync)) {
            Ok(()) => state.offsets.clear(),
            Err(error) => {
                tracing::warn!(%error, "offsets cannot be committed; whoever has these partitions next gets some messages again");
            }
        }
    }

    fn give_away(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let gone: Vec<Partition> = partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        tracing::debug!(partitions = ?gone, "partitions are given away");
        // One that is paused stays so for when it comes back.
        if let Err(error) = consumer.resume(partitions) {
            tracing::debug!(%error, "partitions that are given away stay paused");
        }
        {
            let mut state = self.state();
            if let Some(batch) = &state.under_way {
                batch.interrupt();
                state.settle(SETTLE);
                if state.under_way.is_some() {
                    tracing::warn!(
                        "messages of Kafka are still being stored while their partitions are given away; another server may store them too"
                    );
                }
            }
            state.gone.extend_from_slice(&gone);
        }
        self.commit_all(consumer);
        // Those of the partitions that it keeps are tried again.
        self.state().offsets.retain(|partition, _| !gone.contains(partition));
    }
}

impl State {
    fn settle(&mut self, patience: Duration) {
        let Some(Done { offsets, left, error }) = self.under_way.as_ref().and_then(|batch| batch.wait(patience)) else { return };
        self.under_way = None;
        self.offsets.extend(offsets);
        self.done = Some(error.map_or(Ok(left), Err));
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
            Rebalance::Assign(partitions) => tracing::debug!(?partitions, "partitions are taken"),
            Rebalance::Error(error) => tracing::debug!(%error, "a rebalance failed"),
        }
    }
}

/// What a consumer is called in its group: a server's name, given or kept in a file, and a number. Blocks.
pub(super) fn name(given: Option<&str>, file: &Path, number: usize) -> Result<String, ConsumerError> {
    // The consumers of one server begin at once, and one of them makes the name.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let name = match given {
        Some(name) => name.to_owned(),
        None => kept(file).map_err(|error| ConsumerError(format!("kafka: {} cannot be kept: {error}", file.display())))?,
    };
    Ok(format!("{name}-{number}"))
}

fn kept(file: &Path) -> std::io::Result<String> {
    match fs::read_to_string(file) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = format!("scouter-{:016x}", rand::random::<u64>());
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    writeln!(written, "{name}")?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    if let Some(folder) = file.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
