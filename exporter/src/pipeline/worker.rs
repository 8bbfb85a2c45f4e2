//! The worker: one thread, one runtime, and the loop that turns batches into deliveries.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::Context;
use scouter_tonic::client::quiet::{aloud, silence_this_thread};
use tokio::{task::JoinSet, time::sleep_until};

use super::{
    delivery::deliver,
    state::{Job, Phase, Shared, Step},
};
use crate::{DropReason, OutagePolicy, encode::keep_on_this_thread};

const THREAD_NAME: &str = "scouter-exporter";
/// At most one message about dropped spans in this time.
const WARN_INTERVAL: Duration = Duration::from_secs(30);
/// Requests that may wait for reasons of their own while others are sent in their place.
const MAX_SIDELINED: usize = 64;
/// Time the worker leaves between the deadline of a shutdown and giving up, so that answers in the last moment count.
const LAST_MOMENT: Duration = Duration::from_millis(5);

/// For an orderly end of connections.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause before the worker starts again after a panic, so that one that comes back does not cost a processor.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Starts the thread.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<()> {
    std::thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || run(&shared)).map(drop)
}

/// Settles what is left when the thread ends, however that happens: nobody waits for a thread that is gone.
pub(super) struct LastOneOut<'a>(pub(super) &'a Shared);

impl Drop for LastOneOut<'_> {
    fn drop(&mut self) {
        self.0.close_lanes();
        self.0.give_up(&mut self.0.lock(), DropReason::Internal);
    }
}

fn run(shared: &Arc<Shared>) {
    let _last_one_out = LastOneOut(shared);
    // Spans of our own calls must not become spans to send.
    keep_on_this_thread();
    silence_this_thread();
    let _suppressed = Context::enter_telemetry_suppressed_scope();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_name(THREAD_NAME)
        .on_thread_start(|| {
            silence_this_thread();
            std::mem::forget(Context::enter_telemetry_suppressed_scope());
        })
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            shared.lock().stats.last_error = Some(format!("cannot start the exporter's runtime: {error}"));
            return;
        }
    };
    // A panic of a delivery stays in its task. One of the loop itself costs a restart; what was in flight is dropped and counted.
    while catch_unwind(AssertUnwindSafe(|| runtime.block_on(work(shared)))).is_err() {
        shared.abandon_in_flight();
        aloud(|| tracing::error!("the exporter's worker panicked and starts again"));
        std::thread::sleep(RESTART_PAUSE);
    }
    // Name look-ups may hang in threads of their own; nobody waits for those.
    runtime.shutdown_background();
}

async fn work(shared: &Arc<Shared>) {
    // One more than may be in flight: while the destination fails, another request than the one that failed last tries next.
    let max_in_flight = shared.queue.max_in_flight;
    let mut deliveries = JoinSet::new();
    let mut shutdown = shared.shutdown.subscribe();
    let mut warnings = Warnings::default();
    loop {
        while deliveries.try_join_next().is_some() {}
        warnings.look(shared);
        let until = match shared.next_step(|sidelined| deliveries.len() <= max_in_flight + sidelined.min(MAX_SIDELINED)) {
            Step::Deliver(job) => {
                deliveries.spawn(deliver(Arc::clone(shared), job));
                continue;
            }
            Step::Cut(unit, batch) => {
                let (requests, too_large) = batch.requests_in(shared.transport.format(), shared.limits.max_request_bytes);
                shared.recycle(batch);
                // The account holds the outcome; nobody waits for this one.
                let _counted = shared.drop_too_large(unit, &too_large);
                let deadline = match shared.queue.outage {
                    OutagePolicy::Keep => None,
                    OutagePolicy::Drop => Some(Instant::now() + shared.limits.timeout),
                };
                for request in requests {
                    let job = Job { unit, request, deadline, reply: None };
                    deliveries.spawn(deliver(Arc::clone(shared), job));
                }
                continue;
            }
            Step::Wait(until) => until,
            Step::End => break,
        };
        let shutdown_at = *shutdown.borrow_and_update();
        if let Some(at) = shutdown_at
            && Instant::now() >= at + LAST_MOMENT
        {
            let mut state = shared.lock();
            if state.phase == Phase::Closing {
                shared.give_up(&mut state, DropReason::Shutdown);
            }
            break;
        }
        let until = [until, shutdown_at.map(|at| at + LAST_MOMENT)].into_iter().flatten().min();
        tokio::select! {
            () = shared.wake.notified() => {}
            _ = shutdown.changed() => {}
            _ = deliveries.join_next(), if !deliveries.is_empty() => {}
            () = sleep_until(until.unwrap_or_else(Instant::now).into()), if until.is_some() => {}
        }
    }
    warnings.last(shared);
    // Nobody waits for this: whoever shut down has his report already.
    let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
    let _ended_or_not = tokio::time::timeout_at(deadline, shared.transport.close(deadline)).await;
}

/// Says that something was dropped: at most once in a while, with totals, and from the worker's thread only.
#[derive(Default)]
struct Warnings {
    told: u64,
    told_at: Option<Instant>,
}

impl Warnings {
    fn look(&mut self, shared: &Shared) {
        if self.told_at.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            self.last(shared);
        }
    }

    fn last(&mut self, shared: &Shared) {
        let stats = shared.stats();
        let lost = stats.spans.lost() + stats.records.lost();
        if lost > self.told {
            let count = |reason| stats.spans.dropped.get(reason) + stats.records.dropped.get(reason);
            aloud(|| {
                tracing::warn!(
                    queue_full = count(DropReason::QueueFull),
                    too_large = count(DropReason::TooLarge),
                    export_timeout = count(DropReason::ExportTimeout),
                    refused = count(DropReason::Refused),
                    unauthenticated = count(DropReason::Unauthenticated),
                    shutdown = count(DropReason::Shutdown),
                    internal = count(DropReason::Internal),
                    rejected = stats.spans.rejected + stats.records.rejected,
                    last_error = stats.last_error.as_deref().unwrap_or_default(),
                    "spans or records did not reach the server; totals since the start"
                );
            });
            self.told = lost;
            self.told_at = Some(Instant::now());
        }
    }
}
