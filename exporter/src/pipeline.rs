//! Delivery: a bounded queue of encoded spans, a worker on a thread of its own, and the account of what became of everything.
//!
//! Terms: a *unit* is a batch of the queue, or one call of `send`; it has a number, and is *settled* when each of its spans and records is
//! exported, rejected or dropped. A *request* is what a unit is cut into.
//!
//! The way of a span, and of a monitoring record: into the *lane* of its thread (`intake`, `lanes`), with what else waits there to the queue (`state`), cut into requests by the
//! worker (`worker`), each delivered by a task of its own (`delivery`) when it is its turn (`health`).
//!
//! Invariants:
//! - `ended == exported + rejected + dropped + queued + in_flight` whenever the locks of the lanes and of the state are free.
//! - A unit is settled once: whoever comes second (a late answer after shutdown gave up) finds it gone.
//! - Nothing waits for I/O while holding the lock, and nothing logs while holding it.
//! - The worker's runtime is built, used and dropped on the worker's thread, so no async context ever drops it.

mod budget;
mod delivery;
mod health;
mod intake;
mod lanes;
mod state;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use scouter_tonic::{client::TokenProvider, message::MonitoringRecord};
use tokio::sync::oneshot;

use self::state::{Flushing, Job, Outcome, Phase, Shared, Unit};
use crate::{
    ConfigError, DropReason, ExportError, FlushError, GrpcConfig, OtlpConfig, QueueConfig, ShutdownReport, Stats,
    encode::{EncodedBatch, EncodedEnvelope, EncodedRecords, EncodedRequest, MAX_RECORDS_PER_REQUEST, TooLarge},
    transport::{GrpcTransport, Transport, TransportConfig},
};

pub(crate) use self::intake::Offer;

/// Time a shutdown takes beyond its timeout, to write down what was not delivered.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(20);
/// Longest time a shutdown takes.
const MAX_SHUTDOWN: Duration = Duration::from_secs(86_400);
/// Time that dropping the last handle gives to what is still queued. Dropping does not wait for it.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// Queue, worker and client of one destination. Clones share them.
///
/// Building it needs neither network nor runtime; the worker's thread starts with the first span. When the last clone is dropped, the
/// worker delivers what it can for a few seconds and ends; call [`Pipeline::shutdown`] to wait for that and to learn the outcome.
#[derive(Clone)]
pub struct Pipeline {
    handle: Arc<Handle>,
}

/// What users hold; the worker holds only [`Shared`], so that it notices when nobody is left.
struct Handle {
    first: Arc<Shared>,
}

/// A flush that was begun, and that must be finished.
#[derive(Debug)]
pub(crate) struct Flush(Flushing);

/// A shutdown that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    deadline: Instant,
    was_shut_down: bool,
    lost_before: u64,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("destination", &self.shared().transport)
            .field("queue", &self.shared().queue)
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Builds a pipeline over any transport that has a configuration: the type of `config` decides, such as
    /// [`GrpcConfig`] or [`HttpConfig`](crate::HttpConfig).
    ///
    /// # Errors
    /// Every fault of both configurations, and of the certificate files.
    pub fn new(config: impl Into<TransportConfig>, queue: QueueConfig) -> Result<Self, ConfigError> {
        Self::to(config.into().build(), queue)
    }

    /// Builds a pipeline to any OTLP server, over gRPC or HTTP. It takes no monitoring records.
    ///
    /// # Errors
    /// Every fault of both configurations, and of the certificate files.
    pub fn new_otlp(config: OtlpConfig, queue: QueueConfig) -> Result<Self, ConfigError> {
        Self::new(config, queue)
    }

    /// Builds a pipeline over a transport of one's own.
    ///
    /// # Errors
    /// Every fault of the queue's configuration.
    pub fn with_transport(transport: Arc<dyn Transport>, queue: QueueConfig) -> Result<Self, ConfigError> {
        Self::to(Ok(transport), queue)
    }

    /// Builds a pipeline whose tokens come from `provider` in place of a login. It is asked on the pipeline's own thread.
    ///
    /// # Errors
    /// As [`Pipeline::new`].
    pub fn with_token_provider(config: GrpcConfig, queue: QueueConfig, provider: Arc<dyn TokenProvider>) -> Result<Self, ConfigError> {
        Self::to(GrpcTransport::with_tokens(config, provider).map(|transport| Arc::new(transport) as _), queue)
    }

    fn to(transport: Result<Arc<dyn Transport>, ConfigError>, queue: QueueConfig) -> Result<Self, ConfigError> {
        match (transport, queue.faults()) {
            (Ok(transport), faults) if faults.is_empty() => {
                Ok(Self { handle: Arc::new(Handle { first: Arc::new(Shared::new(transport, queue)) }) })
            }
            (Ok(_), faults) => Err(ConfigError { faults }),
            (Err(mut error), faults) => {
                error.faults.extend(faults);
                Err(error)
            }
        }
    }

    /// Queues an encoded span. Returns false when it was dropped and counted: the queue is full, or shut down.
    ///
    /// Never blocks on I/O and never fails otherwise.
    pub fn try_push(&self, envelope: &Arc<EncodedEnvelope>, span: &[u8]) -> bool {
        self.shared().push(envelope, span)
    }

    /// Queues encoded monitoring records, all or none. Returns false when they were dropped and counted: the queue is full or shut down,
    /// or the destination takes no records.
    ///
    /// Never blocks on I/O and never fails otherwise.
    pub fn try_push_records(&self, records: &EncodedRecords) -> bool {
        records.is_empty() || self.shared().push_records(records)
    }

    /// Queues encoded monitoring records, all or none, and does not count them when the queue is full.
    pub(crate) fn offer_records(&self, records: &EncodedRecords) -> Offer {
        if records.is_empty() { Offer::Taken } else { self.shared().offer_records(records) }
    }

    /// Sends a batch and gives its outcome, bypassing the queue but not its bounds. The future needs no particular runtime, and
    /// is ready within [`Pipeline::timeout`]. Dropping it does not take the batch back.
    pub fn send(&self, batch: EncodedBatch) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        let spans = batch.spans() as u64;
        let bytes = batch.bytes();
        let unit = Unit { spans, ..Unit::default() };
        let (format, max) = (self.shared().transport.format(), self.shared().limits.max_request_bytes);
        self.send_requests(unit, bytes, move || batch.requests_in(format, max))
    }

    /// Sends monitoring records over the same connection, in as many requests as their size asks for, and gives the outcome.
    /// The future needs no particular runtime, and is ready within [`Pipeline::timeout`].
    pub fn send_records(&self, records: Vec<MonitoringRecord>) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        let max = self.shared().limits.max_request_bytes;
        let encoded: EncodedRecords = records.iter().collect();
        let unit = Unit { records: encoded.len() as u64, ..Unit::default() };
        self.send_requests(unit, encoded.bytes(), move || encoded.requests(max, MAX_RECORDS_PER_REQUEST))
    }

    /// The one deadline of a request: connect, login and all attempts. A year for an OTLP destination without a limit.
    pub fn timeout(&self) -> Duration {
        self.shared().limits.timeout
    }

    /// Time for a flush whose caller has no say in it, as in the SDK's `force_flush`.
    pub(crate) fn flush_timeout(&self) -> Duration {
        self.shared().limits.flush_timeout
    }

    /// Delivers everything that ended before this call, and waits for it, blocking the calling thread. Safe from any thread, async
    /// ones included, at any time.
    ///
    /// # Errors
    /// What is still pending when time is up, or what was lost.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let deadline = Instant::now().checked_add(timeout);
        self.finish_flush(self.begin_flush()?, timeout, deadline)
    }

    /// Closes what ended so far and sends it without waiting for company, or for the end of a pause.
    pub(crate) fn begin_flush(&self) -> Result<Flush, FlushError> {
        self.shared().begin_flush().map(Flush).ok_or(FlushError::AlreadyShutdown)
    }

    /// Waits for what [`Pipeline::begin_flush`] closed. `timeout` is for the message.
    pub(crate) fn finish_flush(&self, flush: Flush, timeout: Duration, deadline: Option<Instant>) -> Result<(), FlushError> {
        let Flush(flushing) = flush;
        let shared = self.shared();
        let mut state = shared.lock();
        let result = loop {
            if let Some(lost) = state.flushed(flushing) {
                break if lost == 0 { Ok(()) } else { Err(FlushError::Lost { lost, last_error: state.last_error() }) };
            }
            if let Some((_, error)) = shared.transport.credentials_pause() {
                break Err(FlushError::Credentials { message: error.message().to_owned() });
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break Err(FlushError::Timeout { timeout, pending: state.pending_below(flushing), last_error: state.last_error() });
            }
            state = shared.wait(state, left);
        };
        state.end_flush(flushing, matches!(result, Ok(()) | Err(FlushError::Lost { .. })));
        result
    }

    /// Ends the pipeline: delivers what is left for at most `timeout`, interrupting back-off, and drops and counts the rest.
    /// Blocks the calling thread. A further call waits for the first one, within its own `timeout`, and then reports the account as it is;
    /// it cuts nothing short. Timeouts above a day are a day.
    ///
    /// A server that cannot be reached gets a few quick attempts and not the whole time.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.finish_shutdown(self.begin_shutdown(timeout))
    }

    /// Takes nothing more, and lets the worker deliver what is left.
    pub(crate) fn begin_shutdown(&self, timeout: Duration) -> Ending {
        let shared = self.shared();
        let deadline = Instant::now() + timeout.min(MAX_SHUTDOWN);
        let (lost_before, was_shut_down) = shared.begin_shutdown(deadline);
        Ending { deadline, was_shut_down, lost_before }
    }

    /// Waits for what [`Pipeline::begin_shutdown`] began.
    pub(crate) fn finish_shutdown(&self, ending: Ending) -> ShutdownReport {
        let Ending { deadline, was_shut_down, lost_before } = ending;
        let shared = self.shared();
        let mut state = shared.lock();
        while state.phase != Phase::Down {
            let left = (deadline + SHUTDOWN_GRACE).saturating_duration_since(Instant::now());
            if left.is_zero() {
                if !was_shut_down {
                    shared.give_up(&mut state, DropReason::Shutdown);
                }
                break;
            }
            state = shared.wait(state, left);
        }
        let undelivered = if was_shut_down { 0 } else { state.lost_in_delivery() - lost_before };
        drop(state);
        ShutdownReport { stats: shared.stats(), undelivered, was_shut_down }
    }

    /// The account so far: one consistent picture.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Call it in the child after `fork`, before anything else of this pipeline: the child gets a queue, a connection and an account of
    /// its own. What was queued is the parent's to deliver; the parent's thread does not exist here and its memory is left alone.
    pub fn after_fork_in_child(&self) {
        // This thread's random numbers go on as the parent's do: requests of both would carry the same `batch_id`, and one be lost.
        if let Err(error) = rand::rng().reseed() {
            tracing::warn!(%error, "no fresh random numbers after a fork");
        }
        let old = self.shared();
        let fresh = Arc::new(Shared::new(old.transport.with_new_connection(), old.queue.clone()));
        // Dropping it would touch locks and sockets that belong to threads of the parent.
        std::mem::forget(Arc::clone(&self.handle.first));
        if old.next.set(fresh).is_err() {
            tracing::debug!("the child of a fork was told twice");
        }
    }

    /// The state of this process: that of the last fork.
    fn shared(&self) -> &Arc<Shared> {
        let mut shared = &self.handle.first;
        while let Some(next) = shared.next.get() {
            shared = next;
        }
        shared
    }

    fn send_requests(
        &self,
        unit: Unit,
        bytes: usize,
        requests: impl FnOnce() -> (Vec<EncodedRequest>, Vec<TooLarge>),
    ) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        let accepted = self.accept(unit, bytes).and_then(|number| {
            self.refuse_records(number, unit)?;
            let (requests, too_large) = requests();
            Ok(self.start(number, requests, too_large))
        });
        async move {
            let (replies, mut result) = accepted?;
            for reply in replies {
                let lost = || ExportError::Dropped { count: 0, reason: DropReason::Internal, message: "the worker ended".to_owned() };
                let outcome = reply.await.unwrap_or_else(|_| Err(lost()));
                result = result.and(outcome);
            }
            result
        }
    }

    /// Takes a unit into the account, if there is room.
    fn accept(&self, unit: Unit, bytes: usize) -> Result<Option<u64>, ExportError> {
        let shared = self.shared();
        let count = unit.spans + unit.records;
        let reserved = shared.budget.reserve(count, bytes).or_else(|| shared.budget.reserve_alone(count, bytes));
        let has_worker = count == 0 || shared.ensure_worker();
        let mut state = shared.lock();
        state.stats.spans.ended += unit.spans;
        state.stats.records.ended += unit.records;
        let dropped = |reason, message: &str| ExportError::Dropped { count, reason, message: message.to_owned() };
        let (reason, error) = match reserved {
            _ if state.phase != Phase::Open => (DropReason::Shutdown, ExportError::AlreadyShutdown),
            None => (DropReason::QueueFull, dropped(DropReason::QueueFull, "too much is waiting already")),
            Some(_) if !has_worker => (DropReason::Internal, dropped(DropReason::Internal, "the exporter's thread cannot be started")),
            Some((_, _)) if count == 0 => return Ok(None),
            Some((share, used_bytes)) => return Ok(Some(state.add_unit(Unit { share, ..unit }, used_bytes))),
        };
        if let Some((share, _)) = reserved {
            shared.budget.release(share);
        }
        state.stats.spans.dropped.add(reason, unit.spans);
        state.stats.records.dropped.add(reason, unit.records);
        Err(error)
    }

    /// Drops and counts monitoring records of a destination that has no place for them.
    fn refuse_records(&self, number: Option<u64>, unit: Unit) -> Result<(), ExportError> {
        let shared = self.shared();
        match number {
            Some(number) if unit.records > 0 && !shared.takes_records() => {
                let (reason, message) = (DropReason::Refused, "an OTLP server takes no monitoring records".to_owned());
                shared.settle(number, 0, unit.records, Outcome::Dropped { reason, message: message.clone() });
                Err(ExportError::Dropped { count: unit.records, reason, message })
            }
            _ => Ok(()),
        }
    }

    /// Hands the requests of an accepted unit to the worker.
    #[allow(clippy::type_complexity)]
    fn start(
        &self,
        number: Option<u64>,
        requests: Vec<EncodedRequest>,
        too_large: Vec<TooLarge>,
    ) -> (Vec<oneshot::Receiver<Result<(), ExportError>>>, Result<(), ExportError>) {
        let Some(number) = number else { return (Vec::new(), Ok(())) };
        let shared = self.shared();
        let deadline = Instant::now() + self.timeout();
        let result = shared.drop_too_large(number, &too_large);
        let mut replies = Vec::with_capacity(requests.len());
        let mut state = shared.lock();
        if state.phase == Phase::Down && !requests.is_empty() {
            // A shutdown gave up, and counted it, while the requests were written. Nobody would take them from here.
            let count = requests.iter().map(|request| (request.spans + request.records) as u64).sum();
            let message = "shut down before it was sent".to_owned();
            return (replies, Err(ExportError::Dropped { count, reason: DropReason::Shutdown, message }));
        }
        for request in requests {
            let (reply, receiver) = oneshot::channel();
            replies.push(receiver);
            state.direct.push_back(Job { unit: number, request, deadline: Some(deadline), reply: Some(reply) });
        }
        drop(state);
        shared.wake.notify_one();
        (replies, result)
    }
}

/// A pipeline that meters may look at without keeping it alive.
#[cfg(feature = "self-metrics")]
pub(crate) struct WeakPipeline(std::sync::Weak<Handle>);

#[cfg(feature = "self-metrics")]
impl WeakPipeline {
    pub(crate) fn upgrade(&self) -> Option<Pipeline> {
        self.0.upgrade().map(|handle| Pipeline { handle })
    }
}

#[cfg(feature = "self-metrics")]
impl Pipeline {
    pub(crate) fn downgrade(&self) -> WeakPipeline {
        WeakPipeline(Arc::downgrade(&self.handle))
    }

    pub(crate) fn durations(&self) -> &crate::metrics::Durations {
        &self.shared().durations
    }

    pub(crate) fn component(&self) -> (&'static str, String) {
        self.shared().transport.component()
    }

    pub(crate) fn queue_capacity(&self) -> u64 {
        self.shared().queue.max_spans as u64
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut shared = &self.first;
        while let Some(next) = shared.next.get() {
            shared = next;
        }
        shared.begin_shutdown(Instant::now() + DROP_GRACE);
    }
}

/// The state of the child after a fork; see [`Pipeline::after_fork_in_child`].
type NextAfterFork = OnceLock<Arc<Shared>>;
