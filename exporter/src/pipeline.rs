//! Delivery: a bounded queue of encoded spans, a worker on a thread of its own, and the account of what became of everything.
//!
//! Terms: a *unit* is a batch of the queue, or one call of `send`; it has a number, and is *settled* when each of its spans and records is
//! exported, rejected or dropped. A *request* is what a unit is cut into.
//!
//! Invariants:
//! - `ended == exported + rejected + dropped + queued + in_flight` whenever the state's lock is free.
//! - A unit is settled once: whoever comes second (a late answer after shutdown gave up) finds it gone.
//! - Nothing waits for I/O while holding the lock, and nothing logs while holding it.
//! - The worker's runtime is built, used and dropped on the worker's thread, so no async context ever drops it.

mod delivery;
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

use prost::Message;
use scouter_tonic::{
    client::{GrpcClient, TokenProvider},
    message::{MonitoringRecord, monitoring_record::Record},
};
use tokio::sync::oneshot;

use self::state::{Job, Phase, Shared, Unit};
use crate::{
    ConfigError, DropReason, ExportError, FlushError, GrpcConfig, QueueConfig, ShutdownReport, Stats,
    encode::{EncodedBatch, EncodedEnvelope, EncodedRequest, TooLarge, write_records_request},
};

/// Monitoring records in one request.
const MAX_RECORDS_PER_REQUEST: usize = 4096;
/// Time a shutdown takes beyond its timeout, to write down what was not delivered.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(20);
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

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("config", self.shared().client.config())
            .field("queue", &self.shared().queue)
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Builds a pipeline.
    ///
    /// # Errors
    /// Every fault of both configurations, and a CA file that cannot be read.
    pub fn new(config: GrpcConfig, queue: QueueConfig) -> Result<Self, ConfigError> {
        let mut faults = config.validate().err().map(|error| error.faults).unwrap_or_default();
        faults.extend(queue.faults());
        ConfigError::check(faults)?;
        let client = GrpcClient::new(config)?;
        Ok(Self { handle: Arc::new(Handle { first: Arc::new(Shared::new(client, queue)) }) })
    }

    /// Builds a pipeline whose tokens come from `provider` in place of a login. It is asked on the pipeline's own thread.
    ///
    /// # Errors
    /// As [`Pipeline::new`].
    pub fn with_token_provider(config: GrpcConfig, queue: QueueConfig, provider: Arc<dyn TokenProvider>) -> Result<Self, ConfigError> {
        queue.validate()?;
        let client = GrpcClient::with_token_provider(config, provider)?;
        Ok(Self { handle: Arc::new(Handle { first: Arc::new(Shared::new(client, queue)) }) })
    }

    /// Queues an encoded span. Returns false when it was dropped and counted: the queue is full, or shut down.
    ///
    /// Never blocks on I/O and never fails otherwise.
    pub fn try_push(&self, envelope: &Arc<EncodedEnvelope>, span: &[u8]) -> bool {
        let shared = self.shared();
        let mut state = shared.lock();
        state.stats.spans.ended += 1;
        if state.phase != Phase::Open {
            state.stats.spans.dropped.add(DropReason::Shutdown, 1);
            return false;
        }
        if state.is_full_for(&shared.queue, 1, span.len()) || !shared.ensure_worker(&mut state) {
            let reason = if state.has_worker { DropReason::QueueFull } else { DropReason::Internal };
            state.stats.spans.dropped.add(reason, 1);
            return false;
        }
        let wake = state.push(shared, envelope, span);
        drop(state);
        if wake {
            shared.wake.notify_one();
        }
        true
    }

    /// Sends a batch and gives its outcome, bypassing the queue but not its bounds. The future needs no particular runtime, and
    /// is ready within [`Pipeline::timeout`]. Dropping it does not take the batch back.
    pub fn send(&self, batch: EncodedBatch) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        let spans = batch.spans() as u64;
        let bytes = batch.bytes();
        let max = self.shared().client.config().max_request_bytes;
        self.send_requests(Unit { spans, records: 0, bytes, in_flight: false }, move || batch.requests(max))
    }

    /// Sends monitoring records over the same connection, in as many requests as their size asks for, and gives the outcome.
    /// The future needs no particular runtime, and is ready within [`Pipeline::timeout`].
    pub fn send_records(&self, records: Vec<MonitoringRecord>) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        let max = self.shared().client.config().max_request_bytes;
        let bytes = records.iter().map(Message::encoded_len).sum();
        self.send_requests(Unit { spans: 0, records: records.len() as u64, bytes, in_flight: false }, move || {
            let encoded = records.iter().map(|record| (record_kind(record), record.encode_to_vec()));
            write_records_request(encoded, max, MAX_RECORDS_PER_REQUEST)
        })
    }

    /// The one deadline of a request: connect, login and all attempts.
    pub fn timeout(&self) -> Duration {
        self.shared().client.config().timeout
    }

    /// Delivers everything that ended before this call, and waits for it, blocking the calling thread. Safe from any thread, async
    /// ones included, at any time.
    ///
    /// # Errors
    /// What is still pending when time is up, or what was lost.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let shared = self.shared();
        let deadline = Instant::now().checked_add(timeout);
        let mut state = shared.lock();
        if state.phase == Phase::Down {
            return Err(FlushError::AlreadyShutdown);
        }
        let lost_before = state.lost_in_delivery();
        let target = state.seal();
        state.flush_below = state.flush_below.max(target);
        shared.wake.notify_one();
        loop {
            if state.is_settled_below(target) {
                let lost = state.lost_in_delivery() - lost_before;
                return if lost == 0 { Ok(()) } else { Err(FlushError::Lost { lost, last_error: state.last_error() }) };
            }
            if let Some(message) = &state.credentials_error {
                return Err(FlushError::Credentials { message: message.clone() });
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(FlushError::Timeout { timeout, pending: state.pending_below(target), last_error: state.last_error() });
            }
            state = shared.wait(state, left);
        }
    }

    /// Ends the pipeline: delivers what is left for at most `timeout`, interrupting back-off, and drops and counts the rest.
    /// Blocks the calling thread; any further call reports the same account at once.
    ///
    /// A server that cannot be reached gets a few quick attempts and not the whole time.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let shared = self.shared();
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400));
        let mut state = shared.lock();
        let was_shut_down = state.phase != Phase::Open;
        let lost_before = state.lost_in_delivery();
        shared.begin_shutdown(&mut state, deadline);
        while state.phase != Phase::Down {
            let left = (deadline + SHUTDOWN_GRACE).saturating_duration_since(Instant::now());
            if left.is_zero() {
                shared.give_up(&mut state, DropReason::Shutdown);
                break;
            }
            state = shared.wait(state, left);
        }
        let undelivered = if was_shut_down { 0 } else { state.lost_in_delivery() - lost_before };
        ShutdownReport { stats: state.stats(), undelivered, was_shut_down }
    }

    /// The account so far: one consistent picture.
    pub fn stats(&self) -> Stats {
        self.shared().lock().stats()
    }

    /// Call it in the child after `fork`, before anything else of this pipeline: the child gets a queue, a connection and an account of
    /// its own. What was queued is the parent's to deliver; the parent's thread does not exist here and its memory is left alone.
    pub fn after_fork_in_child(&self) {
        // This thread's random numbers go on as the parent's do: requests of both would carry the same `batch_id`, and one be lost.
        if let Err(error) = rand::rng().reseed() {
            tracing::warn!(%error, "no fresh random numbers after a fork");
        }
        let old = self.shared();
        let client = old.client.rebuilt().unwrap_or_else(|_| old.client.with_new_connection());
        let fresh = Arc::new(Shared::new(client, old.queue.clone()));
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
        requests: impl FnOnce() -> (Vec<EncodedRequest>, Vec<TooLarge>),
    ) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        let accepted = self.accept(unit).map(|number| {
            let (requests, too_large) = requests();
            self.start(number, requests, too_large)
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
    fn accept(&self, unit: Unit) -> Result<Option<u64>, ExportError> {
        let shared = self.shared();
        let mut state = shared.lock();
        state.stats.spans.ended += unit.spans;
        state.stats.records.ended += unit.records;
        let count = unit.spans + unit.records;
        let refusal = if state.phase != Phase::Open {
            Some((DropReason::Shutdown, ExportError::AlreadyShutdown))
        } else if count > 0 && state.is_full_for(&shared.queue, count, unit.bytes) && state.has_pending() {
            let message = "too much is waiting already".to_owned();
            Some((DropReason::QueueFull, ExportError::Dropped { count, reason: DropReason::QueueFull, message }))
        } else if count > 0 && !shared.ensure_worker(&mut state) {
            let message = "the exporter's thread cannot be started".to_owned();
            Some((DropReason::Internal, ExportError::Dropped { count, reason: DropReason::Internal, message }))
        } else {
            None
        };
        if let Some((reason, error)) = refusal {
            state.stats.spans.dropped.add(reason, unit.spans);
            state.stats.records.dropped.add(reason, unit.records);
            return Err(error);
        }
        Ok((count > 0).then(|| state.add_unit(unit)))
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
            // Shutdown gave up while this call was encoding, and settled the unit: no worker is left to answer.
            let count = requests.iter().map(|request| (request.spans + request.records) as u64).sum();
            let message = "shut down before it could be sent".to_owned();
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

    pub(crate) fn server_uri(&self) -> &str {
        &self.shared().client.config().server_uri
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
        let mut state = shared.lock();
        shared.begin_shutdown(&mut state, Instant::now() + DROP_GRACE);
    }
}

fn record_kind(record: &MonitoringRecord) -> &'static str {
    match &record.record {
        Some(Record::Psi(_)) => "psi",
        Some(Record::Spc(_)) => "spc",
        Some(Record::Custom(_)) => "custom",
        Some(Record::Eval(_)) => "eval",
        Some(Record::Tag(_)) => "tag",
        Some(Record::Observability(_)) => "observability",
        Some(Record::AgentTask(_)) => "agent_task",
        Some(Record::AgentWorkflow(_)) => "agent_workflow",
        None => "empty",
    }
}

/// The state of the child after a fork; see [`Pipeline::after_fork_in_child`].
type NextAfterFork = OnceLock<Arc<Shared>>;
