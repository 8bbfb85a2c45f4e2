//! What user threads and the worker share: the queue, the account, and the phase.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use scouter_tonic::client::quiet::aloud;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    NextAfterFork,
    budget::{Budget, Share},
    health::Health,
    lanes::Lanes,
    worker,
};
use crate::{
    DropReason, ExportError, QueueConfig, Stats,
    encode::{EncodedBatch, EncodedRequest, RequestFormat, TooLarge},
    stats::Account,
    transport::{Limits, Transport},
};

/// A span after a pause waits this long for company instead of the whole delay, so that a first look shows something.
const QUICK_DELAY: Duration = Duration::from_millis(100);
/// Emptied batches kept for their memory.
const MAX_SPARE_BATCHES: usize = 8;

/// Everything the handles and the worker have in common.
pub(super) struct Shared {
    /// How requests travel.
    pub(super) transport: Arc<dyn Transport>,
    pub(super) limits: Limits,
    pub(super) queue: QueueConfig,
    pub(super) budget: Budget,
    pub(super) lanes: Lanes,
    /// Wakes the worker.
    pub(super) wake: Notify,
    /// Wakes requests that wait for their turn.
    pub(super) turns: Notify,
    /// Wakes requests that wait for reasons of their own.
    pub(super) hurried: Notify,
    /// When shutdown must be over; `None` while open. Interrupts sleeping deliveries.
    pub(super) shutdown: watch::Sender<Option<Instant>>,
    /// Replaces this state in the child of a fork.
    pub(super) next: NextAfterFork,
    #[cfg(feature = "self-metrics")]
    pub(super) durations: crate::metrics::Durations,
    /// Spares those who end spans a look at the state.
    has_worker: AtomicBool,
    state: Mutex<State>,
    /// Wakes flush and shutdown.
    changed: Condvar,
}

/// Whether spans are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing more is taken; the worker delivers what is left.
    Closing,
    /// Everything is settled.
    Down,
}

/// A batch of the queue, or one call of `send`: what of it is not settled yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unit {
    pub(super) spans: u64,
    pub(super) records: u64,
    /// Its part of the budget, given back when all of it is settled.
    pub(super) share: Share,
    pub(super) in_flight: bool,
}

/// One request to deliver.
pub(super) struct Job {
    pub(super) unit: u64,
    pub(super) request: EncodedRequest,
    /// `None`: for as long as it takes.
    pub(super) deadline: Option<Instant>,
    pub(super) reply: Option<oneshot::Sender<Result<(), ExportError>>>,
}

/// What became of a part of a unit.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Acknowledged { rejected_spans: u64, rejected_records: u64, message: String, bytes: u64 },
    Dropped { reason: DropReason, message: String },
}

/// What the worker should do next.
pub(super) enum Step {
    /// Deliver one job of `send`.
    Deliver(Job),
    /// Cut a batch of the queue and deliver it.
    Cut(u64, EncodedBatch),
    /// Nothing before that time, or before it is woken.
    Wait(Option<Instant>),
    /// Everything is settled and nothing will come.
    End,
}

/// A flush under way: it answers for units below `target`, and for what was lost since the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushing {
    number: u64,
    target: u64,
    /// Losses that an earlier flush has told of.
    told: Losses,
    /// Spans and records that were not taken in, up to the flush.
    refused: u64,
    /// Lost since, of units that are none of its business.
    later: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    refused: u64,
    in_delivery: u64,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) stats: Stats,
    pub(super) direct: VecDeque<Job>,
    pub(super) health: Health,
    /// Jobs that wait for reasons of their own and leave their place to others.
    pub(super) sidelined: usize,
    has_worker: bool,
    /// Full or old enough to be sent, oldest first.
    pub(super) batches: VecDeque<(u64, EncodedBatch)>,
    /// When the worker noticed that there are spans in the lanes.
    pub(super) opened_at: Option<Instant>,
    last_cut_at: Option<Instant>,
    pub(super) units: BTreeMap<u64, Unit>,
    pub(super) next_unit: u64,
    flushes: Vec<Flushing>,
    next_flush: u64,
    told: Losses,
    pub(super) spare: Vec<EncodedBatch>,
}

impl Shared {
    pub(super) fn new(transport: Arc<dyn Transport>, queue: QueueConfig) -> Self {
        let state = State {
            phase: Phase::Open,
            stats: Stats::default(),
            direct: VecDeque::new(),
            health: Health::default(),
            sidelined: 0,
            has_worker: false,
            batches: VecDeque::new(),
            opened_at: None,
            last_cut_at: None,
            units: BTreeMap::new(),
            next_unit: 0,
            flushes: Vec::new(),
            next_flush: 0,
            told: Losses::default(),
            spare: Vec::new(),
        };
        Self {
            limits: transport.limits(),
            transport,
            budget: Budget::new(queue.max_spans, queue.max_bytes),
            queue,
            lanes: Lanes::new(),
            wake: Notify::new(),
            turns: Notify::new(),
            hurried: Notify::new(),
            shutdown: watch::Sender::new(None),
            next: NextAfterFork::new(),
            #[cfg(feature = "self-metrics")]
            durations: crate::metrics::Durations::default(),
            has_worker: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// OTLP has no place for monitoring records.
    pub(super) fn takes_records(&self) -> bool {
        self.transport.format() == RequestFormat::Scouter
    }

    /// No code panics while holding the lock; should that ever be wrong, the counters are still worth more than a second panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is settled, or for `timeout`.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout.min(Duration::from_secs(86_400))).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn notify_waiting(&self) {
        self.changed.notify_all();
    }

    /// Starts the worker's thread with the first thing to send. False when the system gives no thread.
    pub(super) fn ensure_worker(self: &Arc<Self>) -> bool {
        if self.has_worker.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.lock();
        if !state.has_worker {
            match worker::spawn(Arc::clone(self)) {
                Ok(()) => self.note_worker(&mut state),
                Err(error) => state.stats.last_error = Some(format!("cannot start the exporter's thread: {error}")),
            }
        }
        state.has_worker
    }

    /// The worker's thread exists.
    pub(super) fn note_worker(&self, state: &mut State) {
        state.has_worker = true;
        self.has_worker.store(true, Ordering::Release);
    }

    /// Moves what is in the lanes to the queue, lets everything go at once, and says what a flush waits for.
    pub(super) fn begin_flush(&self) -> Option<Flushing> {
        self.collect();
        let refused: u64 = self.lanes.each().map(|intake| intake.dropped.total() + intake.dropped_records.total()).sum();
        let mut state = self.lock();
        if state.phase == Phase::Down {
            return None;
        }
        let refused = refused + state.refused();
        let flushing = Flushing { number: state.next_flush, target: state.next_unit, told: state.told, refused, later: 0 };
        state.next_flush += 1;
        state.flushes.push(flushing);
        state.health.hurry();
        drop(state);
        self.wake.notify_one();
        self.turns.notify_waiters();
        self.hurried.notify_waiters();
        Some(flushing)
    }

    /// Closes the intake. The first caller sets the deadline. Gives what is lost so far, and whether another one was first.
    pub(super) fn begin_shutdown(&self, deadline: Instant) -> (u64, bool) {
        self.close_lanes();
        let mut state = self.lock();
        let (lost, was_open) = (state.lost_in_delivery(), state.phase == Phase::Open);
        if was_open && state.has_worker {
            state.phase = Phase::Closing;
            state.health.begin_shutdown();
            self.shutdown.send_replace(Some(deadline));
            self.wake.notify_one();
        } else if was_open {
            state.phase = Phase::Down;
        }
        (lost, !was_open)
    }

    /// Drops and counts everything that is not settled, and ends. The lanes are closed.
    pub(super) fn give_up(&self, state: &mut State, reason: DropReason) {
        let open: Vec<(u64, Unit)> = state.units.iter().map(|(number, unit)| (*number, *unit)).collect();
        let message = state.stats.last_error.clone().unwrap_or_else(|| "not delivered in time".to_owned());
        for (number, unit) in open {
            state.settle(&self.budget, number, unit.spans, unit.records, Outcome::Dropped { reason, message: message.clone() });
        }
        state.batches.clear();
        state.direct.clear();
        state.phase = Phase::Down;
        self.notify_waiting();
    }

    /// Drops and counts what was in flight when the worker panicked.
    pub(super) fn abandon_in_flight(&self) {
        let mut state = self.lock();
        let lost: Vec<(u64, Unit)> = state.units.iter().filter(|(_, unit)| unit.in_flight).map(|(number, unit)| (*number, *unit)).collect();
        for (number, unit) in lost {
            let outcome = Outcome::Dropped { reason: DropReason::Internal, message: "the exporter's worker panicked".to_owned() };
            state.settle(&self.budget, number, unit.spans, unit.records, outcome);
        }
        drop(state);
        self.notify_waiting();
    }

    /// A place is free: somebody's turn has come. Which one's, while the destination fails, only they can tell.
    pub(super) fn next_turn(&self) {
        if self.lock().health.is_failing() {
            self.turns.notify_waiters();
        } else {
            self.turns.notify_one();
        }
    }

    /// Settles a part of a unit.
    pub(super) fn settle(&self, unit: u64, spans: u64, records: u64, outcome: Outcome) {
        self.lock().settle(&self.budget, unit, spans, records, outcome);
        self.notify_waiting();
    }

    /// Drops what fits no request, and names it.
    pub(super) fn drop_too_large(&self, unit: u64, too_large: &[TooLarge]) -> Result<(), ExportError> {
        let Some(first) = too_large.first() else { return Ok(()) };
        let message = self.describe(first);
        let count = too_large.len() as u64;
        let records = too_large.iter().filter(|item| item.is_record).count() as u64;
        let spans = count - records;
        let mut state = self.lock();
        let outcome = Outcome::Dropped { reason: DropReason::TooLarge, message: message.clone() };
        state.settle(&self.budget, unit, spans, records, outcome);
        drop(state);
        self.notify_waiting();
        aloud(|| tracing::warn!(count, %message, "dropped: too large"));
        Err(ExportError::Dropped { count, reason: DropReason::TooLarge, message })
    }

    pub(super) fn describe(&self, TooLarge { name, bytes, .. }: &TooLarge) -> String {
        let max = self.limits.max_request_bytes;
        format!("`{name}` has {bytes} bytes, which is more than a request of {max} bytes can hold")
    }

    /// Keeps the memory of a batch that was cut.
    pub(super) fn recycle(&self, mut batch: EncodedBatch) {
        if batch.is_worth_keeping() {
            batch.clear();
            let mut state = self.lock();
            if state.spare.len() < MAX_SPARE_BATCHES {
                state.spare.push(batch);
            }
        }
    }

    /// What the worker should do now; `can_send` says whether another batch may start, given how many jobs are on the side line.
    pub(super) fn next_step(&self, can_send: impl Fn(usize) -> bool) -> Step {
        loop {
            let mut state = self.lock();
            if let Some(job) = state.direct.pop_front() {
                // It waits for its turn in a task of its own, which watches its deadline.
                return Step::Deliver(job);
            }
            if state.phase == Phase::Down || (state.phase == Phase::Closing && state.units.is_empty()) {
                state.phase = Phase::Down;
                drop(state);
                self.notify_waiting();
                return Step::End;
            }
            if !can_send(state.sidelined) {
                return Step::Wait(None);
            }
            if state.phase == Phase::Open
                && let Some((pause, _)) = self.transport.credentials_pause()
            {
                // What is queued stays queued: the next attempt would fail at once.
                return Step::Wait(Some(Instant::now() + pause));
            }
            let now = Instant::now();
            if let Some((number, batch)) = state.batches.pop_front() {
                state.take_off(number);
                state.last_cut_at = Some(now);
                return Step::Cut(number, batch);
            }
            if !self.lanes.has_spans.load(Ordering::Acquire) {
                return Step::Wait(None);
            }
            let is_after_pause = state.last_cut_at.is_none_or(|at| now - at > self.queue.schedule_delay);
            let delay = if is_after_pause { self.queue.schedule_delay.min(QUICK_DELAY) } else { self.queue.schedule_delay };
            let due = *state.opened_at.get_or_insert(now) + delay;
            if now < due {
                return Step::Wait(Some(due));
            }
            drop(state);
            self.collect();
        }
    }

    /// The account: one consistent picture of the lanes and the state.
    pub(super) fn stats(&self) -> Stats {
        let lanes = self.lanes.all();
        let mut stats = self.lock().stats.clone();
        for intake in &lanes {
            let waiting = intake.batch.spans() as u64;
            stats.spans.ended += waiting + intake.dropped.total();
            stats.spans.accepted += waiting;
            stats.spans.queued += waiting;
            intake.dropped.iter().for_each(|(reason, count)| stats.spans.dropped.add(reason, count));
            let waiting_records = intake.batch.records() as u64;
            stats.records.ended += waiting_records + intake.dropped_records.total();
            stats.records.accepted += waiting_records;
            stats.records.queued += waiting_records;
            intake.dropped_records.iter().for_each(|(reason, count)| stats.records.dropped.add(reason, count));
            stats.pending_bytes_high_water = stats.pending_bytes_high_water.max(intake.high_water);
        }
        stats.pending_bytes = self.budget.used_bytes();
        stats.pending_bytes_high_water = stats.pending_bytes_high_water.max(stats.pending_bytes);
        stats
    }
}

impl State {
    /// Takes a call of `send` into the account. `used_bytes`: of the budget, with it.
    pub(super) fn add_unit(&mut self, unit: Unit, used_bytes: u64) -> u64 {
        let number = self.next_unit;
        self.next_unit += 1;
        self.units.insert(number, unit);
        self.stats.spans.accepted += unit.spans;
        self.stats.spans.queued += unit.spans;
        self.stats.records.accepted += unit.records;
        self.stats.records.queued += unit.records;
        self.stats.pending_bytes_high_water = self.stats.pending_bytes_high_water.max(used_bytes);
        number
    }

    /// `None` while something the flush answers for is not settled; else what was lost of it, and since the last flush.
    pub(super) fn flushed(&self, flushing: Flushing) -> Option<u64> {
        let is_settled = self.units.first_key_value().is_none_or(|(first, _)| *first >= flushing.target);
        is_settled.then(|| {
            let (refused, in_delivery) = self.losses_of(flushing);
            refused + in_delivery
        })
    }

    /// Ends a flush; `was_told`: somebody knows now what was lost.
    pub(super) fn end_flush(&mut self, flushing: Flushing, was_told: bool) {
        if was_told {
            let (_, in_delivery) = self.losses_of(flushing);
            self.told.refused = self.told.refused.max(flushing.refused);
            self.told.in_delivery = self.told.in_delivery.max(flushing.told.in_delivery + in_delivery);
        }
        self.flushes.retain(|other| other.number != flushing.number);
    }

    fn losses_of(&self, flushing: Flushing) -> (u64, u64) {
        let later = self.flushes.iter().find(|other| other.number == flushing.number).map_or(0, |known| known.later);
        let in_delivery = (self.lost_in_delivery() - flushing.told.in_delivery).saturating_sub(later);
        (flushing.refused - flushing.told.refused.min(flushing.refused), in_delivery)
    }

    pub(super) fn pending_below(&self, flushing: Flushing) -> u64 {
        self.units.range(..flushing.target).map(|(_, unit)| unit.spans + unit.records).sum()
    }

    /// Of `send`: not taken in.
    fn refused(&self) -> u64 {
        let refused = |account: &Account| account.ended - account.accepted;
        refused(&self.stats.spans) + refused(&self.stats.records)
    }

    /// Dropped or rejected after having been taken in.
    pub(super) fn lost_in_delivery(&self) -> u64 {
        let lost = |account: &Account| account.accepted - account.exported - account.pending();
        lost(&self.stats.spans) + lost(&self.stats.records)
    }

    pub(super) fn last_error(&self) -> String {
        self.stats.last_error.clone().unwrap_or_default()
    }

    /// Moves a unit from queued to in flight.
    pub(super) fn take_off(&mut self, number: u64) {
        if let Some(unit) = self.units.get_mut(&number)
            && !unit.in_flight
        {
            unit.in_flight = true;
            for (account, count) in [(&mut self.stats.spans, unit.spans), (&mut self.stats.records, unit.records)] {
                account.queued -= count;
                account.in_flight += count;
            }
        }
    }

    pub(super) fn begin_attempt(&mut self, unit: u64, is_retry: bool) {
        self.take_off(unit);
        self.stats.retries += u64::from(is_retry);
    }

    fn settle(&mut self, budget: &Budget, number: u64, spans: u64, records: u64, outcome: Outcome) {
        let Some(unit) = self.units.get_mut(&number) else { return };
        let (spans, records) = (spans.min(unit.spans), records.min(unit.records));
        unit.spans -= spans;
        unit.records -= records;
        for (account, count) in [(&mut self.stats.spans, spans), (&mut self.stats.records, records)] {
            if unit.in_flight {
                account.in_flight -= count;
            } else {
                account.queued -= count;
            }
        }
        if unit.spans == 0 && unit.records == 0 {
            budget.release(unit.share);
            self.units.remove(&number);
        }
        let lost_before = self.stats.spans.lost() + self.stats.records.lost();
        match outcome {
            Outcome::Acknowledged { rejected_spans, rejected_records, message, bytes } => {
                let counts = [(&mut self.stats.spans, spans, rejected_spans), (&mut self.stats.records, records, rejected_records)];
                for (account, count, rejected) in counts {
                    let rejected = rejected.min(count);
                    account.rejected += rejected;
                    account.exported += count - rejected;
                }
                if rejected_spans + rejected_records > 0 {
                    self.stats.last_error = Some(message);
                }
                self.stats.requests += 1;
                self.stats.bytes += bytes;
            }
            Outcome::Dropped { reason, message } => {
                self.stats.spans.dropped.add(reason, spans);
                self.stats.records.dropped.add(reason, records);
                self.stats.last_error = Some(message);
            }
        }
        let lost = self.stats.spans.lost() + self.stats.records.lost() - lost_before;
        for flushing in self.flushes.iter_mut().filter(|flushing| number >= flushing.target) {
            flushing.later += lost;
        }
    }
}
