//! What the handles of a queue have in common: profiles, counters, and the way to the pipeline.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::Instant;

use super::{
    account::{ItemDrop, QueueAccount, RecordQueueStats},
    aggregate::{Aggregate, NoRoom, Triggers},
    clock::{self, Clock},
    item::{AsFeature, EvalRecord},
    plan::Plan,
    profile::Profile,
};
use crate::Pipeline;

/// What users hold; the clock holds only [`Shared`], so that it notices when nobody is left.
pub(super) struct Handle {
    first: Arc<Shared>,
    owns_pipeline: bool,
}

/// Everything the handles and the clock have in common.
pub(super) struct Shared {
    profiles: Arc<[(String, Profile)]>,
    /// In the order of the profiles.
    counters: Box<[Counter]>,
    pipeline: Pipeline,
    triggers: Triggers,
    pub(super) clock: Clock,
    /// Replaces this state in the child of a fork.
    next: OnceLock<Arc<Shared>>,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Counter {
    aggregate: Mutex<Aggregate>,
    /// The bits of a number between 0 and 1.
    sample_ratio: AtomicU64,
}

impl Handle {
    pub(super) fn new(shared: Shared, owns_pipeline: bool) -> Self {
        Self { first: Arc::new(shared), owns_pipeline }
    }

    pub(super) fn owns_pipeline(&self) -> bool {
        self.owns_pipeline
    }

    /// The state of this process: that of the last fork.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        let mut shared = &self.first;
        while let Some(next) = shared.next.get() {
            shared = next;
        }
        shared
    }

    pub(super) fn after_fork_in_child(&self) {
        let old = self.shared();
        if self.owns_pipeline {
            old.pipeline.after_fork_in_child();
        }
        // The parent's locks may be held by threads that do not exist here; they are left alone, for ever.
        let fresh = Shared::new(Arc::clone(&old.profiles), old.pipeline.clone(), old.triggers);
        for (counter, old) in fresh.counters.iter().zip(&old.counters) {
            counter.sample_ratio.store(old.sample_ratio.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        std::mem::forget(Arc::clone(&self.first));
        if old.next.set(Arc::new(fresh)).is_err() {
            tracing::debug!("the child of a fork was told twice");
        }
    }
}

impl Drop for Handle {
    /// The pipeline delivers what it is given here, when it is ours; dropping it does not wait.
    fn drop(&mut self) {
        let shared = self.shared();
        shared.close();
        shared.publish_all(NoRoom::Drop);
        shared.end_clock();
    }
}

impl Shared {
    pub(super) fn new(profiles: Arc<[(String, Profile)]>, pipeline: Pipeline, triggers: Triggers) -> Self {
        let counter = |(_, profile): &(String, Profile)| Counter {
            aggregate: Mutex::new(Aggregate::new(&profile.plan, triggers)),
            sample_ratio: AtomicU64::new(match &profile.plan {
                Plan::Eval(eval) => eval.sample_ratio.to_bits(),
                Plan::Psi(_) | Plan::Means(_) => 1_f64.to_bits(),
            }),
        };
        let counters = profiles.iter().map(counter).collect();
        Self { profiles, counters, pipeline, triggers, clock: Clock::default(), next: OnceLock::new() }
    }

    pub(super) fn profiles(&self) -> &[(String, Profile)] {
        &self.profiles
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(super) fn insert_features<F: AsFeature>(self: &Arc<Self>, index: usize, row: &[F]) -> Result<(), ItemDrop> {
        let mut aggregate = self.lock(index);
        aggregate.add_features(self.plan(index), row)?;
        self.note_row(index, aggregate);
        Ok(())
    }

    pub(super) fn insert_metrics<F: AsFeature>(self: &Arc<Self>, index: usize, row: &[F]) -> Result<(), ItemDrop> {
        let mut aggregate = self.lock(index);
        aggregate.add_metrics(self.plan(index), row)?;
        self.note_row(index, aggregate);
        Ok(())
    }

    pub(super) fn insert_eval(&self, index: usize, record: &EvalRecord) -> Result<(), ItemDrop> {
        let ratio = f64::from_bits(self.counters[index].sample_ratio.load(Ordering::Relaxed));
        let uid = self.profiles[index].1.uid();
        self.lock(index).add_eval(self.plan(index), uid, ratio, record, &self.pipeline)
    }

    pub(super) fn note_unreadable(&self, index: usize) {
        self.lock(index).note_unreadable();
    }

    pub(super) fn set_sample_ratio(&self, index: usize, ratio: f64) {
        let ratio = if ratio.is_nan() { 1.0 } else { ratio.clamp(0.0, 1.0) };
        self.counters[index].sample_ratio.store(ratio.to_bits(), Ordering::Relaxed);
    }

    /// Publishes a window that is full, and has the clock watch one that has just begun.
    fn note_row(self: &Arc<Self>, index: usize, mut aggregate: MutexGuard<'_, Aggregate>) {
        if aggregate.is_full() {
            aggregate.publish(self.plan(index), self.triggers, &self.pipeline, NoRoom::Keep);
        }
        let starts = aggregate.start_clock(self.triggers);
        drop(aggregate);
        if starts {
            clock::watch(self);
        }
    }

    /// Publishes every window. False when some of it stays because there is no room.
    pub(super) fn publish_all(&self, no_room: NoRoom) -> bool {
        let mut is_all = true;
        for index in 0..self.counters.len() {
            is_all &= self.lock(index).publish(self.plan(index), self.triggers, &self.pipeline, no_room);
        }
        is_all
    }

    /// Publishes the windows that are old enough, and says when the next one is.
    pub(super) fn publish_due(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for index in 0..self.counters.len() {
            let mut aggregate = self.lock(index);
            if aggregate.due_at().is_some_and(|due| due <= now) {
                aggregate.publish(self.plan(index), self.triggers, &self.pipeline, NoRoom::Keep);
            }
            next = next.into_iter().chain(aggregate.due_at()).min();
        }
        next
    }

    /// Takes no more items. True when that was so before.
    pub(super) fn close(&self) -> bool {
        let mut was_closed = true;
        for index in 0..self.counters.len() {
            was_closed &= std::mem::replace(&mut self.lock(index).is_closed, true);
        }
        was_closed && !self.counters.is_empty()
    }

    pub(super) fn end_clock(&self) {
        self.clock.end();
    }

    /// Items in windows that are not published.
    pub(super) fn waiting(&self) -> u64 {
        (0..self.counters.len()).map(|index| self.account(index).waiting).sum()
    }

    pub(super) fn account(&self, index: usize) -> QueueAccount {
        self.lock(index).account()
    }

    pub(super) fn stats(&self) -> RecordQueueStats {
        let queues = self.profiles.iter().enumerate().map(|(index, (alias, _))| (alias.clone(), self.account(index))).collect();
        RecordQueueStats { queues, delivery: self.pipeline.stats() }
    }

    fn plan(&self, index: usize) -> &Plan {
        &self.profiles[index].1.plan
    }

    /// No code panics while holding the lock.
    fn lock(&self, index: usize) -> MutexGuard<'_, Aggregate> {
        self.counters[index].aggregate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
