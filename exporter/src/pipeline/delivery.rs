//! One request, from its first attempt to its outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use scouter_tonic::client::{CallError, CallErrorKind};
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep_until, timeout_at},
};

use super::state::{Job, Outcome, Phase, Shared};
use crate::{DropReason, ExportError};

/// First pause between two attempts; doubles, with jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
/// Longest pause: how late the end of an outage is noticed.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// Attempts a request gets after shutdown began, within the time shutdown has. A server that is gone is not waited for.
const SHUTDOWN_ATTEMPTS: u32 = 4;

/// Delivers `job` and settles it. However this ends, panic and cancellation before the first poll included, the account is kept.
pub(super) fn deliver(shared: Arc<Shared>, permits: Arc<Semaphore>, job: Job) -> impl Future<Output = ()> + Send + 'static {
    let mut delivery = Delivery {
        shutdown: shared.shutdown.subscribe(),
        shared,
        job,
        is_settled: false,
        #[cfg(feature = "self-metrics")]
        started: Instant::now(),
    };
    async move {
        let outcome = match delivery.permit(&permits).await {
            Ok(_permit) => {
                delivery.shared.lock().take_off(delivery.job.unit);
                delivery.attempts().await
            }
            Err(outcome) => outcome,
        };
        delivery.settle(outcome);
    }
}

struct Delivery {
    shared: Arc<Shared>,
    shutdown: watch::Receiver<Option<Instant>>,
    job: Job,
    is_settled: bool,
    #[cfg(feature = "self-metrics")]
    started: Instant,
}

impl Delivery {
    /// Waits for the right to have a request in flight.
    async fn permit<'a>(&mut self, permits: &'a Semaphore) -> Result<tokio::sync::SemaphorePermit<'a>, Outcome> {
        let acquired = match self.job.deadline {
            Some(deadline) => timeout_at(deadline.into(), permits.acquire()).await.ok(),
            None => Some(permits.acquire().await),
        };
        match acquired {
            Some(Ok(permit)) => Ok(permit),
            _ => Err(dropped(DropReason::ExportTimeout, "other requests were in flight until the deadline")),
        }
    }

    async fn attempts(&mut self) -> Outcome {
        let timeout = self.shared.destination.timeout();
        let mut attempts = 0_u32;
        // Since the first attempt, or since shutdown began: a long back-off is of no use then.
        let mut failures = 0_u32;
        let mut attempts_in_shutdown = 0;
        let mut last_error = None;
        loop {
            let due = self.due(failures);
            if !self.sleep_until(due).await {
                return last_error.map_or_else(|| dropped(DropReason::ExportTimeout, "no time left"), |error| self.gave_up(&error));
            }
            let attempt_deadline = self.deadline().unwrap_or_else(|| Instant::now() + timeout);
            let was_closing = self.shutdown.borrow().is_some();
            if attempts > 0 {
                self.shared.lock().stats.retries += 1;
            }
            attempts = attempts.saturating_add(1);
            if was_closing && attempts_in_shutdown == 0 {
                failures = 0;
            }
            let error = match self.attempt(attempt_deadline).await {
                Ok(outcome) => return outcome,
                Err(error) => error,
            };
            tracing::debug!(%error, attempt = attempts, "attempt failed");
            self.note(&error);
            match error.kind() {
                CallErrorKind::Retryable => {}
                // Only an attempt's share of the time is over, unless the request has a deadline of its own.
                CallErrorKind::DeadlineExceeded => {}
                CallErrorKind::Credentials if self.job.deadline.is_none() && !was_closing => {
                    let until = self.shared.destination.credentials_pause().map(|(pause, _)| Instant::now() + pause);
                    self.sleep_until(until).await;
                }
                CallErrorKind::Credentials | CallErrorKind::Unauthenticated => {
                    return dropped(DropReason::Unauthenticated, error.to_string());
                }
                CallErrorKind::Refused | CallErrorKind::AnswerTooLarge => return dropped(DropReason::Refused, error.to_string()),
            }
            attempts_in_shutdown += u32::from(was_closing);
            let is_over = self.deadline().is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || attempts_in_shutdown >= SHUTDOWN_ATTEMPTS {
                return self.gave_up(&error);
            }
            failures = failures.saturating_add(1);
            last_error = Some(error);
        }
    }

    /// One attempt; a shutdown that begins meanwhile shortens it.
    async fn attempt(&mut self, deadline: Instant) -> Result<Outcome, CallError> {
        let shared = Arc::clone(&self.shared);
        let body = self.job.request.body.clone();
        let bytes = body.len() as u64;
        let call = shared.destination.send(body, deadline.into());
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
            tracing::warn!(rejected_spans, rejected_records, message = %answer.message, "the server rejected a part of a request");
        }
        Ok(Outcome::Acknowledged { rejected_spans, rejected_records, message: answer.message, bytes })
    }

    /// When the next attempt may start: after the back-off, and not before the destination's own wish.
    fn due(&self, failures: u32) -> Option<Instant> {
        let now = Instant::now();
        let back_off = (failures > 0).then(|| now + back_off(failures - 1));
        let throttled = self.shared.lock().throttled_until.filter(|until| *until > now);
        back_off.max(throttled)
    }

    /// Sleeps until then, or until shutdown begins. False when the deadline comes first.
    async fn sleep_until(&mut self, due: Option<Instant>) -> bool {
        let Some(due) = due else { return true };
        let was_closing = self.shutdown.borrow_and_update().is_some();
        let limit = self.deadline();
        let wake_at = limit.map_or(due, |limit| due.min(limit));
        tokio::select! {
            () = sleep_until(wake_at.into()) => limit.is_none_or(|limit| due < limit),
            Ok(()) = self.shutdown.changed(), if !was_closing => true,
        }
    }

    /// The request's own deadline or that of the shutdown, whichever comes first.
    fn deadline(&self) -> Option<Instant> {
        [self.job.deadline, *self.shutdown.borrow()].into_iter().flatten().min()
    }

    /// Writes down what went wrong, for `stats` and flush, and throttles the destination as the server asked.
    fn note(&self, error: &CallError) {
        let mut state = self.shared.lock();
        state.stats.last_error = Some(error.to_string());
        if let Some(delay) = error.retry_after() {
            // A tenth of jitter, so that a fleet does not come back in step.
            let until = Instant::now() + delay.mul_f64(1.0 + 0.1 * rand::random::<f64>());
            state.throttled_until = state.throttled_until.max(Some(until));
        }
        if error.kind() == CallErrorKind::Credentials {
            state.credentials_error = Some(error.message().to_owned());
        }
        drop(state);
        self.shared.notify_waiting();
    }

    fn gave_up(&self, error: &CallError) -> Outcome {
        let is_closing = self.shutdown.borrow().is_some();
        dropped(if is_closing { DropReason::Shutdown } else { DropReason::ExportTimeout }, error.to_string())
    }

    fn settle(mut self, outcome: Outcome) {
        let (spans, records) = (self.job.request.spans as u64, self.job.request.records as u64);
        self.is_settled = true;
        let result = match &outcome {
            Outcome::Acknowledged { rejected_spans: 0, rejected_records: 0, .. } => Ok(()),
            Outcome::Acknowledged { rejected_spans, rejected_records, message, .. } => {
                Err(ExportError::Rejected { count: rejected_spans + rejected_records, message: message.clone() })
            }
            Outcome::Dropped { reason, message } => {
                Err(ExportError::Dropped { count: spans + records, reason: *reason, message: message.clone() })
            }
        };
        #[cfg(feature = "self-metrics")]
        self.shared.durations.record(self.started.elapsed(), error_type(&outcome));
        self.shared.settle(self.job.unit, spans, records, outcome);
        if let Some(reply) = self.job.reply.take() {
            // The caller may have stopped waiting.
            let _nobody_waits = reply.send(result);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_settled {
            let reason = if self.shared.lock().phase == Phase::Open { DropReason::Internal } else { DropReason::Shutdown };
            let (spans, records) = (self.job.request.spans as u64, self.job.request.records as u64);
            self.shared.settle(self.job.unit, spans, records, dropped(reason, "the delivery ended before its outcome"));
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

fn dropped(reason: DropReason, message: impl Into<String>) -> Outcome {
    Outcome::Dropped { reason, message: message.into() }
}

/// Doubles from [`FIRST_BACK_OFF`] to [`MAX_BACK_OFF`], times a random factor between 0.5 and 1.5.
pub(super) fn back_off(failures: u32) -> Duration {
    let delay = FIRST_BACK_OFF.saturating_mul(1 << failures.min(16)).min(MAX_BACK_OFF);
    delay.mul_f64(0.5 + rand::random::<f64>())
}
