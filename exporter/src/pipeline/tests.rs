use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{Pipeline, delivery::back_off, state::Unit};
use crate::{
    DropReason, ExportError, GrpcConfig, QueueConfig,
    encode::{EncodedBatch, EncodedEnvelope, EncodedResource, ScopeRef},
};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn nobody_listens() -> Pipeline {
    let config = GrpcConfig { server_uri: "http://127.0.0.1:1".to_owned(), ..GrpcConfig::default() };
    Pipeline::new(config, QueueConfig::default()).unwrap()
}

fn batch_of_one() -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    batch.push(&EncodedEnvelope::new(EncodedResource::new([], None), &ScopeRef::default()), b"");
    batch
}

#[test]
fn c_50_a_send_overtaken_by_a_shutdown_has_an_outcome() {
    let pipeline = nobody_listens();
    let overtaking = pipeline.clone();
    let unit = Unit { spans: 1, ..Unit::default() };
    let send = pipeline.send_requests(unit, 1, move || {
        overtaking.shutdown(Duration::ZERO);
        // The worker holds the state until it has ended.
        let deadline = Instant::now() + PATIENCE;
        while Arc::strong_count(overtaking.shared()) > 1 {
            assert!(Instant::now() < deadline, "the worker does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        batch_of_one().requests(1 << 20)
    });
    let mut send = std::pin::pin!(send);
    let outcome = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(outcome, Poll::Ready(Err(ExportError::Dropped { count: 1, reason: DropReason::Shutdown, .. }))), "{outcome:?}");
    let stats = pipeline.stats();
    assert!(stats.spans.is_balanced() && stats.spans.pending() == 0, "{stats:?}");
}

#[test]
fn c_53_a_worker_that_dies_settles_what_it_held() {
    let pipeline = nobody_listens();
    let shared = Arc::clone(pipeline.shared());
    // As if the thread had started, and ended by a panic before it took anything.
    shared.note_worker(&mut shared.lock());
    let send = pipeline.send(batch_of_one());
    drop(super::worker::LastOneOut(&shared));
    let mut send = std::pin::pin!(send);
    let outcome = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(outcome, Poll::Ready(Err(ExportError::Dropped { reason: DropReason::Internal, .. }))), "{outcome:?}");
    let stats = pipeline.shutdown(Duration::ZERO).stats;
    assert!(stats.spans.is_balanced() && stats.spans.dropped.get(DropReason::Internal) == 1, "{stats:?}");
}

#[test]
fn c_35_back_off_doubles_up_to_a_limit_and_has_jitter() {
    for (failures, middle) in [(0, 200), (1, 400), (5, 6400), (6, 10_000), (40, 10_000), (u32::MAX, 10_000)] {
        let delays: Vec<Duration> = (0..100).map(|_| back_off(failures, Duration::from_secs(10))).collect();
        let (low, high) = (Duration::from_millis(middle / 2), Duration::from_millis(middle * 3 / 2));
        assert!(delays.iter().all(|delay| (low..=high).contains(delay)), "{failures}: {delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]), "{failures}: no jitter");
    }
}
