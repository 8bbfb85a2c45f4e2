//! What user threads and the worker share: the queue, the account, and the phase.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot, watch};

use super::{NextAfterFork, worker};
use crate::{
    DropReason, ExportError, QueueConfig, Stats,
    destination::Destination,
    encode::{EncodedBatch, EncodedEnvelope, EncodedRequest, TooLarge},
    stats::Account,
};

/// A span after a pause waits this long for company instead of the whole delay, so that a first look shows something.
const QUICK_DELAY: Duration = Duration::from_millis(100);
/// Emptied batches kept for their memory.
const MAX_SPARE_BATCHES: usize = 8;

/// Everything the handles and the worker have in common.
pub(super) struct Shared {
    pub(super) destination: Destination,
    pub(super) queue: QueueConfig,
    /// Wakes the worker.
    pub(super) wake: Notify,
    /// When shutdown must be over; `None` while open. Interrupts sleeping deliveries.
    pub(super) shutdown: watch::Sender<Option<Instant>>,
    /// Replaces this state in the child of a fork.
    pub(super) next: NextAfterFork,
    #[cfg(feature = "self-metrics")]
    pub(super) durations: crate::metrics::Durations,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    pub(super) spans: u64,
    pub(super) records: u64,
    pub(super) bytes: usize,
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

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) has_worker: bool,
    pub(super) stats: Stats,
    pub(super) direct: VecDeque<Job>,
    /// Units below this number are sent without waiting for company.
    pub(super) flush_below: u64,
    /// Set while the server refuses the credentials.
    pub(super) credentials_error: Option<String>,
    /// The destination asked to be left alone until then.
    pub(super) throttled_until: Option<Instant>,
    /// Oldest first; only the last one is still filled, and only while `is_open`.
    batches: VecDeque<(u64, EncodedBatch)>,
    is_open: bool,
    opened_at: Instant,
    last_cut_at: Option<Instant>,
    units: BTreeMap<u64, Unit>,
    next_unit: u64,
    pending_bytes: usize,
    spare: Vec<EncodedBatch>,
}

impl Shared {
    pub(super) fn new(destination: Destination, queue: QueueConfig) -> Self {
        let state = State {
            phase: Phase::Open,
            has_worker: false,
            stats: Stats::default(),
            direct: VecDeque::new(),
            flush_below: 0,
            credentials_error: None,
            throttled_until: None,
            batches: VecDeque::new(),
            is_open: false,
            opened_at: Instant::now(),
            last_cut_at: None,
            units: BTreeMap::new(),
            next_unit: 0,
            pending_bytes: 0,
            spare: Vec::new(),
        };
        Self {
            destination,
            queue,
            wake: Notify::new(),
            shutdown: watch::Sender::new(None),
            next: NextAfterFork::new(),
            #[cfg(feature = "self-metrics")]
            durations: crate::metrics::Durations::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
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
    pub(super) fn ensure_worker(self: &Arc<Self>, state: &mut State) -> bool {
        if !state.has_worker {
            match worker::spawn(Arc::clone(self)) {
                Ok(()) => state.has_worker = true,
                Err(error) => state.stats.last_error = Some(format!("cannot start the exporter's thread: {error}")),
            }
        }
        state.has_worker
    }

    /// Closes the intake. The first caller sets the deadline.
    pub(super) fn begin_shutdown(&self, state: &mut State, deadline: Instant) {
        if state.phase != Phase::Open {
            return;
        }
        state.seal();
        if state.has_worker {
            state.phase = Phase::Closing;
            self.shutdown.send_replace(Some(deadline));
            self.wake.notify_one();
        } else {
            state.phase = Phase::Down;
        }
    }

    /// Drops and counts everything that is not settled, and ends.
    pub(super) fn give_up(&self, state: &mut State, reason: DropReason) {
        let open: Vec<(u64, Unit)> = state.units.iter().map(|(number, unit)| (*number, *unit)).collect();
        let message = state.stats.last_error.clone().unwrap_or_else(|| "not delivered in time".to_owned());
        for (number, unit) in open {
            state.settle(number, unit.spans, unit.records, Outcome::Dropped { reason, message: message.clone() });
        }
        state.batches.clear();
        state.is_open = false;
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
            state.settle(number, unit.spans, unit.records, outcome);
        }
        drop(state);
        self.notify_waiting();
    }

    /// Settles a part of a unit.
    pub(super) fn settle(&self, unit: u64, spans: u64, records: u64, outcome: Outcome) {
        self.lock().settle(unit, spans, records, outcome);
        self.notify_waiting();
    }

    /// Drops what fits no request, and names it.
    pub(super) fn drop_too_large(&self, unit: u64, too_large: &[TooLarge]) -> Result<(), ExportError> {
        let Some(first) = too_large.first() else { return Ok(()) };
        let max = self.destination.max_request_bytes();
        let message = format!("`{}` has {} bytes, which is more than a request of {max} bytes can hold", first.name, first.bytes);
        let count = too_large.len() as u64;
        let mut state = self.lock();
        let is_records = state.units.get(&unit).is_some_and(|unit| unit.spans == 0);
        let (spans, records) = if is_records { (0, count) } else { (count, 0) };
        state.settle(unit, spans, records, Outcome::Dropped { reason: DropReason::TooLarge, message: message.clone() });
        drop(state);
        self.notify_waiting();
        tracing::warn!(count, %message, "dropped: too large");
        Err(ExportError::Dropped { count, reason: DropReason::TooLarge, message })
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

    /// What the worker should do now; `can_send` says whether another batch may start.
    pub(super) fn next_step(&self, can_send: bool) -> Step {
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
        if !can_send {
            return Step::Wait(None);
        }
        if state.phase == Phase::Open
            && let Some((pause, _)) = self.destination.credentials_pause()
        {
            // What is queued stays queued: the next attempt would fail at once.
            return Step::Wait(Some(Instant::now() + pause));
        }
        let Some((number, _)) = state.batches.front() else { return Step::Wait(None) };
        let number = *number;
        let is_open = state.is_open && state.batches.len() == 1;
        if is_open && number >= state.flush_below {
            let now = Instant::now();
            let is_after_pause = state.last_cut_at.is_none_or(|at| now - at > self.queue.schedule_delay);
            let delay = if is_after_pause { self.queue.schedule_delay.min(QUICK_DELAY) } else { self.queue.schedule_delay };
            let due = state.opened_at + delay;
            if now < due {
                return Step::Wait(Some(due));
            }
        }
        if is_open {
            state.is_open = false;
        }
        state.last_cut_at = Some(Instant::now());
        match state.batches.pop_front() {
            Some((number, batch)) => {
                state.take_off(number);
                Step::Cut(number, batch)
            }
            None => Step::Wait(None),
        }
    }
}

impl State {
    /// Adds a span to the open batch. True when the worker should look.
    pub(super) fn push(&mut self, shared: &Shared, envelope: &Arc<EncodedEnvelope>, span: &[u8]) -> bool {
        let mut wake = false;
        if !self.is_open {
            let batch = self.spare.pop().unwrap_or_default();
            self.batches.push_back((self.next_unit, batch));
            self.units.insert(self.next_unit, Unit { spans: 0, records: 0, bytes: 0, in_flight: false });
            self.next_unit += 1;
            self.is_open = true;
            self.opened_at = Instant::now();
            wake = true;
        }
        let Some((number, batch)) = self.batches.back_mut() else { return wake };
        let before = batch.bytes();
        batch.push(envelope, span);
        let added = batch.bytes() - before;
        let is_full = batch.spans() >= shared.queue.max_batch_spans || batch.bytes() >= shared.destination.max_request_bytes() / 2;
        if let Some(unit) = self.units.get_mut(number) {
            unit.spans += 1;
            unit.bytes += added;
        }
        self.pending_bytes += added;
        self.stats.spans.accepted += 1;
        self.stats.spans.queued += 1;
        self.note_high_water();
        if is_full {
            self.is_open = false;
            wake = true;
        }
        wake
    }

    /// Takes a call of `send` into the account.
    pub(super) fn add_unit(&mut self, unit: Unit) -> u64 {
        let number = self.next_unit;
        self.next_unit += 1;
        self.units.insert(number, unit);
        self.pending_bytes += unit.bytes;
        self.stats.spans.accepted += unit.spans;
        self.stats.spans.queued += unit.spans;
        self.stats.records.accepted += unit.records;
        self.stats.records.queued += unit.records;
        self.note_high_water();
        number
    }

    /// Closes the open batch. Everything taken so far belongs to units below the number returned.
    pub(super) fn seal(&mut self) -> u64 {
        self.is_open = false;
        self.next_unit
    }

    pub(super) fn is_full_for(&self, queue: &QueueConfig, count: u64, bytes: usize) -> bool {
        let pending = self.stats.spans.pending() + self.stats.records.pending();
        pending + count > queue.max_spans as u64 || self.pending_bytes.saturating_add(bytes) > queue.max_bytes
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.units.is_empty()
    }

    pub(super) fn is_settled_below(&self, number: u64) -> bool {
        self.units.first_key_value().is_none_or(|(first, _)| *first >= number)
    }

    pub(super) fn pending_below(&self, number: u64) -> u64 {
        self.units.range(..number).map(|(_, unit)| unit.spans + unit.records).sum()
    }

    /// Dropped or rejected after having been taken in.
    pub(super) fn lost_in_delivery(&self) -> u64 {
        let lost = |account: &Account| account.accepted - account.exported - account.pending();
        lost(&self.stats.spans) + lost(&self.stats.records)
    }

    pub(super) fn last_error(&self) -> String {
        self.stats.last_error.clone().unwrap_or_default()
    }

    pub(super) fn stats(&self) -> Stats {
        Stats { pending_bytes: self.pending_bytes as u64, ..self.stats.clone() }
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

    fn settle(&mut self, number: u64, spans: u64, records: u64, outcome: Outcome) {
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
            self.pending_bytes -= unit.bytes;
            self.units.remove(&number);
        }
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
                self.credentials_error = None;
            }
            Outcome::Dropped { reason, message } => {
                self.stats.spans.dropped.add(reason, spans);
                self.stats.records.dropped.add(reason, records);
                self.stats.last_error = Some(message);
            }
        }
    }

    fn note_high_water(&mut self) {
        self.stats.pending_bytes_high_water = self.stats.pending_bytes_high_water.max(self.pending_bytes as u64);
    }
}
