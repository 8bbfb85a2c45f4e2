//! Monitoring records: observations of a model go in, one queue a profile, and what Scouter's profiles ask for comes out.
//!
//! | profile | item | becomes |
//! | --- | --- | --- |
//! | PSI | [`Features`] | a count for every bin of each feature seen, after [`RecordQueueConfig::psi_rows`] items |
//! | SPC | [`Features`] | the mean of each feature, after `sample_size` items |
//! | custom | [`Metrics`] | the mean of each metric, after `sample_size` items |
//! | evaluation | [`EvalRecord`] | itself, if the sample ratio keeps it |
//!
//! and in any case after [`RecordQueueConfig::max_age`], at a flush, and at shutdown. All queues share one
//! [`Pipeline`]: one connection, one login, one bound, one account of what was delivered.
//!
//! ```no_run
//! use scouter_exporter::{GrpcConfig, queue::{Feature, Features, RecordQueue, RecordQueueConfig}};
//!
//! let queues = RecordQueue::from_paths([("model-v1", "profile.json")], GrpcConfig::from_env()?, RecordQueueConfig::from_env()?)?;
//! let queue = queues.get("model-v1").ok_or("no such queue")?;
//!
//! let features = Features::new([Feature::float("temperature", 23.5), Feature::string("region", "us-west-2")]);
//! queue.insert(&features)?;
//!
//! let report = queues.shutdown(std::time::Duration::from_secs(5));
//! assert_eq!(report.undelivered, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The thread that inserts counts the values itself, in well below a microsecond for a handful of them; it never waits for a network.
//! Building a queue needs neither network nor runtime.

mod account;
mod aggregate;
mod clock;
mod config;
mod item;
mod plan;
mod profile;
mod shared;

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use self::shared::{Handle, Shared};
use crate::{ConfigError, FlushError, Pipeline, TransportConfig};

pub use self::{
    account::{DroppedItems, ItemDrop, QueueAccount, RecordQueueReport, RecordQueueStats, ValueAccount, ValueSkip},
    config::RecordQueueConfig,
    item::{AsFeature, EvalRecord, Feature, FeatureValue, Features, Item, Metric, Metrics, new_uid},
    profile::{DriftType, Profile, ProfileError},
};

/// While a full pipeline keeps counts waiting, a flush looks this often whether there is room.
const ROOM_INTERVAL: Duration = Duration::from_millis(50);

/// The queues of a program, each under an alias of its choice. Clones share them.
///
/// When the last clone, and the last [`Queue`], is dropped, what was counted is handed on and delivered in the background for a few
/// seconds; call [`RecordQueue::shutdown`] to wait for that and to learn the outcome.
#[derive(Clone)]
pub struct RecordQueue {
    handle: Arc<Handle>,
}

/// The queue of one profile. Clones share it.
#[derive(Clone)]
pub struct Queue {
    handle: Arc<Handle>,
    index: usize,
}

/// Why there is no queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordQueueError {
    /// A profile cannot be used.
    #[error("queue `{alias}`: {source}")]
    Profile {
        /// The alias it was given.
        alias: String,
        /// What is wrong.
        source: ProfileError,
    },
    /// Settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Two profiles have one alias.
    #[error("two queues cannot have the alias `{alias}`")]
    Alias {
        /// The alias given twice.
        alias: String,
    },
}

/// Why an item did not count. It is in the account already; nothing need be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an item was dropped ({reason}) by the queue `{alias}` of a {profile} profile: {expected}")]
pub struct InsertError {
    /// The queue.
    pub alias: String,
    /// Its profile.
    pub profile: DriftType,
    /// As it is counted.
    pub reason: ItemDrop,
    /// What the queue counts.
    pub expected: String,
}

impl RecordQueue {
    /// Queues of profiles in files, with a connection of their own.
    ///
    /// # Errors
    /// The first file that cannot be used, or every fault of the settings.
    pub fn from_paths(
        paths: impl IntoIterator<Item = (impl Into<String>, impl AsRef<Path>)>,
        config: impl Into<TransportConfig>,
        queue: RecordQueueConfig,
    ) -> Result<Self, RecordQueueError> {
        let mut profiles = Vec::new();
        for (alias, path) in paths {
            let alias = alias.into();
            match Profile::from_path(path) {
                Ok(profile) => profiles.push((alias, profile)),
                Err(source) => return Err(RecordQueueError::Profile { alias, source }),
            }
        }
        Self::new(profiles, config, queue)
    }

    /// Queues of profiles, with a connection of their own. Needs neither network nor runtime.
    ///
    /// # Errors
    /// Every fault of the settings, or an alias that is there twice.
    pub fn new(
        profiles: impl IntoIterator<Item = (impl Into<String>, Profile)>,
        config: impl Into<TransportConfig>,
        queue: RecordQueueConfig,
    ) -> Result<Self, RecordQueueError> {
        let pipeline = Pipeline::new(config, queue.pipeline_queue())?;
        Self::build(profiles, pipeline, true, queue)
    }

    /// Queues that send over a pipeline shared with others, such as a tracer's. Its bounds hold for both; it goes on after their shutdown.
    ///
    /// # Errors
    /// Every fault of the settings, or an alias that is there twice.
    pub fn with_pipeline(
        profiles: impl IntoIterator<Item = (impl Into<String>, Profile)>,
        pipeline: Pipeline,
        queue: RecordQueueConfig,
    ) -> Result<Self, RecordQueueError> {
        Self::build(profiles, pipeline, false, queue)
    }

    fn build(
        profiles: impl IntoIterator<Item = (impl Into<String>, Profile)>,
        pipeline: Pipeline,
        owns_pipeline: bool,
        config: RecordQueueConfig,
    ) -> Result<Self, RecordQueueError> {
        config.validate()?;
        let profiles: Vec<(String, Profile)> = profiles.into_iter().map(|(alias, profile)| (alias.into(), profile)).collect();
        for (index, (alias, _)) in profiles.iter().enumerate() {
            if profiles[..index].iter().any(|(other, _)| other == alias) {
                return Err(RecordQueueError::Alias { alias: alias.clone() });
            }
        }
        Ok(Self { handle: Arc::new(Handle::new(Shared::new(profiles.into(), pipeline, config.triggers()), owns_pipeline)) })
    }

    /// The queue of that alias.
    pub fn get(&self, alias: &str) -> Option<Queue> {
        let index = self.shared().profiles().iter().position(|(known, _)| known == alias)?;
        Some(Queue { handle: Arc::clone(&self.handle), index })
    }

    /// Every queue, in the order given.
    pub fn queues(&self) -> impl Iterator<Item = Queue> + '_ {
        (0..self.shared().profiles().len()).map(|index| Queue { handle: Arc::clone(&self.handle), index })
    }

    /// What all records go through.
    pub fn pipeline(&self) -> &Pipeline {
        self.shared().pipeline()
    }

    /// The account so far.
    pub fn stats(&self) -> RecordQueueStats {
        self.shared().stats()
    }

    /// Publishes everything inserted before this call, windows that are not full included, and waits until it is stored, blocking the
    /// calling thread. Safe from any thread at any time.
    ///
    /// # Errors
    /// What is still pending when time is up, or what was lost.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let start = Instant::now();
        let shared = self.shared();
        loop {
            let is_all = shared.publish_all(aggregate::NoRoom::Keep);
            let left = timeout.saturating_sub(start.elapsed());
            let flushed = shared.pipeline().flush(if is_all { left } else { left.min(ROOM_INTERVAL) });
            match flushed {
                Ok(()) | Err(FlushError::Timeout { .. }) if !is_all && !left.is_zero() => {}
                Ok(()) if !is_all => {
                    let stats = shared.pipeline().stats();
                    let last_error = stats.last_error.unwrap_or_default();
                    return Err(FlushError::Timeout { timeout, pending: stats.records.pending() + shared.waiting(), last_error });
                }
                flushed => return flushed,
            }
        }
    }

    /// Ends the queues: publishes what was counted, delivers what is left for at most `timeout`, and drops and counts the rest. Items that
    /// come later are dropped and counted. Blocks the calling thread. May be called again.
    pub fn shutdown(&self, timeout: Duration) -> RecordQueueReport {
        let start = Instant::now();
        let shared = self.shared();
        let was_shut_down = shared.close();
        let lost_before = shared.pipeline().stats().records.lost();
        while !shared.publish_all(aggregate::NoRoom::Keep) {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            // Its outcome is in the account.
            let _room = shared.pipeline().flush(left.min(ROOM_INTERVAL));
        }
        shared.publish_all(aggregate::NoRoom::Drop);
        shared.end_clock();
        let left = timeout.saturating_sub(start.elapsed());
        if self.handle.owns_pipeline() {
            shared.pipeline().shutdown(left);
        } else {
            // Its outcome is in the account.
            let _delivered = shared.pipeline().flush(left);
        }
        let stats = shared.stats();
        let undelivered = (stats.delivery.records.lost() - lost_before) + stats.delivery.records.pending();
        RecordQueueReport { stats, undelivered, was_shut_down }
    }

    /// Call it in the child after `fork`, before anything else of these queues: the child begins with empty ones. What was counted is the
    /// parent's to deliver. A shared pipeline is told by its owner.
    pub fn after_fork_in_child(&self) {
        self.handle.after_fork_in_child();
    }

    fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }
}

impl fmt::Debug for RecordQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aliases: Vec<&str> = self.shared().profiles().iter().map(|(alias, _)| alias.as_str()).collect();
        f.debug_struct("RecordQueue").field("queues", &aliases).field("pipeline", self.pipeline()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Counts an item. Never blocks on I/O.
    ///
    /// Values that do not count, because the profile does not watch their name or has no bin for them, are counted as such in
    /// [`QueueAccount::values`] and leave their neighbours alone.
    ///
    /// # Errors
    /// When nothing of it counts. That is in the account already.
    pub fn insert<'a>(&self, item: impl Into<Item<'a>>) -> Result<(), InsertError> {
        match item.into() {
            Item::Features(features) => self.insert_features(features.as_slice()),
            Item::Metrics(metrics) => self.insert_metrics(metrics.as_slice()),
            Item::Eval(record) => self.count(|shared| shared.insert_eval(self.index, record)),
        }
    }

    /// Counts features that lie elsewhere than in a [`Features`].
    ///
    /// # Errors
    /// As [`Queue::insert`].
    pub fn insert_features<F: AsFeature>(&self, row: &[F]) -> Result<(), InsertError> {
        self.count(|shared| shared.insert_features(self.index, row))
    }

    /// Counts metrics that lie elsewhere than in a [`Metrics`]. Their names may be in any case.
    ///
    /// # Errors
    /// As [`Queue::insert`].
    pub fn insert_metrics<F: AsFeature>(&self, row: &[F]) -> Result<(), InsertError> {
        self.count(|shared| shared.insert_metrics(self.index, row))
    }

    /// Writes an item down that could not be read, so that the account has it.
    pub fn note_unreadable(&self) {
        self.handle.shared().note_unreadable(self.index);
    }

    /// Its alias.
    pub fn alias(&self) -> &str {
        &self.handle.shared().profiles()[self.index].0
    }

    /// Its profile.
    pub fn profile(&self) -> &Profile {
        &self.handle.shared().profiles()[self.index].1
    }

    /// Its account so far.
    pub fn account(&self) -> QueueAccount {
        self.handle.shared().account(self.index)
    }

    /// The part of evaluation records that is kept, 1 for all. Other kinds are not sampled.
    pub fn set_sample_ratio(&self, ratio: f64) {
        self.handle.shared().set_sample_ratio(self.index, ratio);
    }

    fn count(&self, insert: impl FnOnce(&Arc<Shared>) -> Result<(), ItemDrop>) -> Result<(), InsertError> {
        insert(self.handle.shared()).map_err(|reason| {
            let (alias, profile) = &self.handle.shared().profiles()[self.index];
            InsertError { alias: alias.clone(), profile: profile.drift_type(), reason, expected: profile.expectation(reason) }
        })
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("alias", &self.alias()).field("profile", &self.profile().identifier()).finish_non_exhaustive()
    }
}
