//! One job, from its first attempt to its outcome. A request that the server finds too large becomes two.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use scouter_tonic::client::{CallError, CallErrorKind, quiet::aloud};
use tokio::{
    sync::{futures::Notified, watch},
    time::sleep_until,
};
use tonic::Code;

use super::{
    health::{Attempt, Fault, SHUTDOWN_ATTEMPTS, Ticket, Turn},
    state::{Job, Outcome, Phase, Shared},
};
use crate::{
    DropReason, ExportError,
    encode::{EncodedRequest, first_name},
};

/// First pause between two attempts; doubles, with jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
/// Longest pause of a request that fails while others are answered.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// Failures of a request while others are answered, until it is given up, after some four minutes: something about it harms the server.
const MAX_FAILURES_ALONE: u32 = 30;
/// OUT_OF_RANGE is retryable by OTLP, and what some servers say of a request that is too large. Said twice of the same bytes, it is that.
const ANSWERS_ABOUT_SIZE: u32 = 2;
/// No server finds a request below this size too large: such an answer is about something else.
const MIN_DOUBTFUL_BYTES: usize = 16 * 1024;

/// Delivers `job` and settles it. However this ends, panic and cancellation before the first poll included, the account is kept.
pub(super) fn deliver(shared: Arc<Shared>, job: Job) -> impl Future<Output = ()> + Send + 'static {
    let Job { unit, request, deadline, reply } = job;
    let mut delivery = Delivery {
        shutdown: shared.shutdown.subscribe(),
        shared,
        unit,
        deadline,
        parts: vec![request],
        reply,
        result: Ok(()),
        #[cfg(feature = "self-metrics")]
        started: Instant::now(),
    };
    async move {
        while let Some(request) = delivery.parts.last().cloned() {
            match delivery.attempts(&request).await {
                End::Settled(outcome) => delivery.settle(outcome),
                End::Halved(halves) => {
                    delivery.parts.pop();
                    // The first half is sent first.
                    delivery.parts.extend(halves.into_iter().rev());
                }
            }
        }
        delivery.answer();
    }
}

struct Delivery {
    shared: Arc<Shared>,
    shutdown: watch::Receiver<Option<Instant>>,
    unit: u64,
    deadline: Option<Instant>,
    /// What is not settled; the last one is under way.
    parts: Vec<EncodedRequest>,
    reply: Option<tokio::sync::oneshot::Sender<Result<(), ExportError>>>,
    /// Of the parts that are settled: the first that went wrong.
    result: Result<(), ExportError>,
    #[cfg(feature = "self-metrics")]
    started: Instant,
}

/// How a request ended.
enum End {
    Settled(Outcome),
    Halved([EncodedRequest; 2]),
}

/// The right to make one attempt, given back when dropped.
struct Place<'a> {
    shared: &'a Shared,
    attempt: Attempt,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().health.done(self.attempt);
        self.shared.next_turn();
    }
}

/// A place in the line of those who want to make an attempt.
struct InLine<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl<'a> InLine<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, ticket: shared.lock().health.join() }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.shared.lock().health.leave(self.ticket);
        self.shared.next_turn();
    }
}

/// A job that waits for a reason of its own and does not keep others from being sent.
struct OnSideLine<'a>(&'a Shared);

impl<'a> OnSideLine<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.lock().sidelined += 1;
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for OnSideLine<'_> {
    fn drop(&mut self) {
        self.0.lock().sidelined -= 1;
    }
}

impl Delivery {
    async fn attempts(&mut self, request: &EncodedRequest) -> End {
        let shared = Arc::clone(&self.shared);
        let timeout = shared.limits.timeout;
        let mut attempts = 0_u32;
        let mut failures_alone = 0_u32;
        let mut failures_in_shutdown = 0_u32;
        let mut answers_about_size = 0;
        let mut failed = None;
        let mut last_error = None;
        loop {
            let Some(place) = self.turn(&shared).await else { return End::Settled(self.gave_up(last_error.as_ref())) };
            shared.lock().begin_attempt(self.unit, attempts > 0);
            attempts = attempts.saturating_add(1);
            let was_closing = self.shutdown.borrow().is_some();
            let deadline = self.deadline().unwrap_or_else(|| Instant::now() + timeout);
            let answer = self.attempt(request, deadline).await;
            let error = match answer {
                Ok(outcome) => {
                    if matches!(outcome, Outcome::Acknowledged { .. }) {
                        self.destination_answered();
                    }
                    return End::Settled(outcome);
                }
                Err(error) => error,
            };
            aloud(|| tracing::debug!(%error, attempt = attempts, "attempt failed"));
            let fault = self.note(place.attempt, failed, &error);
            failed = Some(place.attempt);
            drop(place);
            match error.kind() {
                // A deadline is that of an attempt, unless the request has one of its own.
                CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded => {}
                CallErrorKind::Credentials if self.deadline.is_none() && self.shutdown.borrow().is_none() => {
                    let pause = shared.transport.credentials_pause().map(|(pause, _)| Instant::now() + pause);
                    self.rest(&shared, pause).await;
                }
                CallErrorKind::Credentials | CallErrorKind::Unauthenticated => {
                    return End::Settled(dropped(DropReason::Unauthenticated, error.to_string()));
                }
                CallErrorKind::Refused if is_about_size(&error, request) => return self.make_smaller(request, &error),
                CallErrorKind::Refused | CallErrorKind::AnswerTooLarge => {
                    return End::Settled(dropped(DropReason::Refused, error.to_string()));
                }
            }
            answers_about_size += u32::from(may_be_about_size(&error, request));
            if answers_about_size >= ANSWERS_ABOUT_SIZE {
                return self.make_smaller(request, &error);
            }
            if fault == Fault::Request {
                failures_alone += 1;
                failures_in_shutdown += u32::from(was_closing);
                if failures_alone >= MAX_FAILURES_ALONE {
                    let message = format!("failed {failures_alone} times while other requests were answered: {error}");
                    return End::Settled(dropped(DropReason::Refused, message));
                }
                if failures_in_shutdown >= SHUTDOWN_ATTEMPTS {
                    return End::Settled(self.gave_up(Some(&error)));
                }
                let failures = if was_closing { failures_in_shutdown } else { failures_alone };
                self.rest(&shared, Some(Instant::now() + back_off(failures - 1, MAX_BACK_OFF))).await;
            }
            last_error = Some(error);
        }
    }

    /// Waits for the right to make an attempt. `None` when there is no time left, or no hope after shutdown began.
    async fn turn<'a>(&mut self, shared: &'a Shared) -> Option<Place<'a>> {
        let in_line = InLine::new(shared);
        loop {
            let changed = shared.turns.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_closing = self.shutdown.borrow_and_update().is_some();
            let (now, limit) = (Instant::now(), self.deadline());
            let turn = match limit {
                Some(limit) if now >= limit => Turn::GiveUp,
                _ => shared.lock().health.turn(in_line.ticket, now, shared.queue.max_in_flight),
            };
            let until = match turn {
                Turn::Go(attempt) => return Some(Place { shared, attempt }),
                Turn::GiveUp => return None,
                Turn::At(due) => Some(limit.map_or(due, |limit| due.min(limit))),
                Turn::Later => limit,
            };
            self.wait(changed, until, is_closing).await;
        }
    }

    /// Waits until something changed, a time comes, or shutdown begins.
    async fn wait(&mut self, changed: std::pin::Pin<&mut Notified<'_>>, until: Option<Instant>, is_closing: bool) {
        tokio::select! {
            () = changed => {}
            () = sleep_until(until.unwrap_or_else(Instant::now).into()), if until.is_some() => {}
            Ok(()) = self.shutdown.changed(), if !is_closing => {}
        }
    }

    /// Waits until then, on the side line; less when somebody is in a hurry, shutdown begins, or the deadline comes.
    async fn rest(&mut self, shared: &Shared, until: Option<Instant>) {
        let _on_side_line = OnSideLine::new(shared);
        let hurried = shared.hurried.notified();
        tokio::pin!(hurried);
        hurried.as_mut().enable();
        let is_closing = self.shutdown.borrow_and_update().is_some();
        let until = [until, self.deadline()].into_iter().flatten().min();
        if until.is_some() {
            self.wait(hurried, until, is_closing).await;
        }
    }

    /// One attempt; a shutdown that begins meanwhile shortens it.
    async fn attempt(&mut self, request: &EncodedRequest, deadline: Instant) -> Result<Outcome, CallError> {
        let shared = Arc::clone(&self.shared);
        let call = shared.transport.send(request.body.clone(), deadline.into());
        tokio::pin!(call);
        let answer = loop {
            let limit = self.shutdown.borrow_and_update().filter(|limit| *limit < deadline);
            tokio::select! {
                answer = &mut call => break answer?,
                Ok(()) = self.shutdown.changed(), if limit.is_none() => {}
                () = sleep_until(limit.unwrap_or(deadline).into()), if limit.is_some() => {
                    return Ok(dropped(DropReason::Shutdown, "no answer before the end of the shutdown"));
                }
            }
        };
        let (rejected_spans, rejected_records) = (answer.rejected_spans, answer.rejected_records);
        if rejected_spans + rejected_records > 0 {
            aloud(|| {
                tracing::warn!(rejected_spans, rejected_records, message = %answer.message, "the server rejected a part of a request");
            });
        }
        Ok(Outcome::Acknowledged { rejected_spans, rejected_records, message: answer.message, bytes: answer.bytes })
    }

    /// The request's own deadline or that of the shutdown, whichever comes first.
    fn deadline(&self) -> Option<Instant> {
        [self.deadline, *self.shutdown.borrow()].into_iter().flatten().min()
    }

    fn destination_answered(&self) {
        if self.shared.lock().health.answered() {
            self.shared.turns.notify_waiters();
        }
    }

    /// Writes down what went wrong, for `stats` and flush, and throttles the destination as the server asked. Says whose fault it was.
    fn note(&self, attempt: Attempt, before: Option<Attempt>, error: &CallError) -> Fault {
        let now = Instant::now();
        let mut state = self.shared.lock();
        state.stats.last_error = Some(error.to_string());
        if let Some(delay) = error.retry_after() {
            // A tenth of jitter, so that a fleet does not come back in step.
            state.health.throttle(now + delay.mul_f64(1.0 + 0.1 * rand::random::<f64>()));
        }
        let fault = match error.kind() {
            CallErrorKind::Retryable if error.code() == Code::OutOfRange => {
                state.health.answered();
                Fault::Request
            }
            CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded => {
                state.health.failed(attempt, before, now, self.shared.budget.is_nearly_full())
            }
            CallErrorKind::Refused | CallErrorKind::AnswerTooLarge | CallErrorKind::Unauthenticated => {
                state.health.answered();
                Fault::Request
            }
            CallErrorKind::Credentials => Fault::Destination,
        };
        drop(state);
        self.shared.notify_waiting();
        self.shared.turns.notify_waiters();
        fault
    }

    /// For an answer that says that the request is too large, and that nothing of it was stored.
    fn make_smaller(&self, request: &EncodedRequest, error: &CallError) -> End {
        if let Some(halves) = request.halve(self.shared.transport.format()) {
            aloud(|| tracing::debug!(bytes = request.body.len(), %error, "the server finds a request too large; it gets the halves"));
            return End::Halved(halves);
        }
        let name = first_name(request, self.shared.transport.format()).unwrap_or_else(|| "?".to_owned());
        let message = format!("`{name}` alone is too large for the server, at {} bytes: {error}", request.body.len());
        aloud(|| tracing::warn!(%message, "dropped: too large"));
        End::Settled(dropped(DropReason::TooLarge, message))
    }

    fn gave_up(&self, error: Option<&CallError>) -> Outcome {
        let is_closing = self.shutdown.borrow().is_some();
        let message = match error {
            Some(error) => error.to_string(),
            // The attempts of others may have told why.
            None => self.shared.lock().stats.last_error.clone().unwrap_or_else(|| "no time left for an attempt".to_owned()),
        };
        dropped(if is_closing { DropReason::Shutdown } else { DropReason::ExportTimeout }, message)
    }

    /// Settles the part under way.
    fn settle(&mut self, outcome: Outcome) {
        let Some(part) = self.parts.pop() else { return };
        let (spans, records) = (part.spans as u64, part.records as u64);
        let result = match &outcome {
            Outcome::Acknowledged { rejected_spans: 0, rejected_records: 0, .. } => Ok(()),
            Outcome::Acknowledged { rejected_spans, rejected_records, message, .. } => {
                Err(ExportError::Rejected { count: rejected_spans + rejected_records, message: message.clone() })
            }
            Outcome::Dropped { reason, message } => {
                Err(ExportError::Dropped { count: spans + records, reason: *reason, message: message.clone() })
            }
        };
        if self.result.is_ok() {
            self.result = result;
        }
        #[cfg(feature = "self-metrics")]
        self.shared.durations.record(self.started.elapsed(), error_type(&outcome));
        self.shared.settle(self.unit, spans, records, outcome);
    }

    fn answer(&mut self) {
        if let Some(reply) = self.reply.take() {
            // The caller may have stopped waiting.
            let _nobody_waits = reply.send(std::mem::replace(&mut self.result, Ok(())));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let reason = if self.shared.lock().phase == Phase::Open { DropReason::Internal } else { DropReason::Shutdown };
        for part in self.parts.drain(..) {
            let outcome = dropped(reason, "the delivery ended before its outcome");
            self.shared.settle(self.unit, part.spans as u64, part.records as u64, outcome);
        }
    }
}

#[cfg(feature = "self-metrics")]
fn error_type(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Acknowledged { rejected_spans: 0, rejected_records: 0, .. } => None,
        Outcome::Acknowledged { .. } => Some("rejected"),
        Outcome::Dropped { reason, .. } => Some(reason.name()),
    }
}

/// RESOURCE_EXHAUSTED without RetryInfo is what gRPC servers, and 413 what HTTP servers say of a request above their limit.
fn is_about_size(error: &CallError, request: &EncodedRequest) -> bool {
    error.code() == Code::ResourceExhausted && request.body.len() >= MIN_DOUBTFUL_BYTES
}

fn may_be_about_size(error: &CallError, request: &EncodedRequest) -> bool {
    error.code() == Code::OutOfRange && error.retry_after().is_none() && request.body.len() >= MIN_DOUBTFUL_BYTES
}

fn dropped(reason: DropReason, message: impl Into<String>) -> Outcome {
    Outcome::Dropped { reason, message: message.into() }
}

/// Doubles from [`FIRST_BACK_OFF`] to `max`, times a random factor between 0.5 and 1.5.
pub(super) fn back_off(failures: u32, max: Duration) -> Duration {
    let delay = FIRST_BACK_OFF.saturating_mul(1 << failures.min(16)).min(max);
    delay.mul_f64(0.5 + rand::random::<f64>())
}
