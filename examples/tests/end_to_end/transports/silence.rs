//! Promises before a receiver that is there and says nothing, as one that is stopped, overloaded, or behind a broken wire.

use std::{sync::Arc, time::Duration};

use scouter_exporter::{Pipeline, QueueConfig};
use scouter_tonic::client::CallErrorKind;
use tokio::time::{Instant, sleep, timeout};

use super::{
    PATIENCE, Route,
    brokered::{Brokered, RabbitMq},
    built,
    contract::{push_spans, until_taken},
    proxy::Proxy,
    request, soon,
};
use crate::brokers::{Kind, Settings};

/// What a busy machine may add to a deadline.
const LATE: Duration = Duration::from_secs(8);

/// Whatever others wait for: one who has no time left must not wait for a connection that somebody with more time makes. The connections
/// of that time are gone afterwards, and what was sent then goes through.
pub(super) async fn each_call_ends_by_its_own_deadline_before_a_silent_receiver<R: Route>() {
    let route = R::open().await;
    let Some(address) = route.address() else { return };
    let proxy = Proxy::before(address).await;
    let transport = built(route.config_at(proxy.address));
    transport.send(request(0, 10), soon(PATIENCE)).await.expect("it is taken");
    proxy.fall_silent();

    let spawned = |number: u64, after: Duration| {
        let transport = Arc::clone(&transport);
        let begun = Instant::now();
        tokio::spawn(async move {
            let sent = transport.send(request(number, 10), begun + after).await;
            (sent, begun.elapsed().saturating_sub(after))
        })
    };
    // The first two have the connection that fell silent; the second gives it up, and somebody patient asks for another one meanwhile.
    let first = spawned(1, Duration::from_millis(1_500));
    let second = spawned(2, Duration::from_millis(500));
    sleep(Duration::from_millis(900)).await;
    let patient = spawned(3, PATIENCE);
    sleep(Duration::from_millis(100)).await;
    let others = (4..8).map(|number| spawned(number, Duration::from_millis(300 * number)));
    for call in [first, second].into_iter().chain(others) {
        let (sent, late) = timeout(PATIENCE / 2, call).await.expect("it is over").expect("no panic");
        let error = sent.expect_err("nobody answers");
        assert!(matches!(error.kind(), CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded), "{error}");
        assert!(late < LATE, "{late:?} after its deadline: {error}");
    }

    proxy.speak_again();
    let (taken, _) = patient.await.expect("no panic");
    // A connection of that time may be found dead first.
    if taken.is_err() {
        until_taken(&*transport, request(3, 10)).await;
    }
    for number in [1, 2, 4, 5, 6, 7] {
        until_taken(&*transport, request(number, 10)).await;
    }
    route.expect_spans(80).await;
    expect_connections(&proxy, 2).await;
}

/// With work in flight: a receiver that answers late gets the time there is, and one that never does costs no more than that.
pub(super) async fn a_shutdown_waits_for_a_slow_receiver_and_not_for_a_silent_one<R: Route>() {
    let route = R::open().await;
    let Some(address) = route.address() else { return };
    let proxy = Proxy::before(address).await;
    let pipeline = || {
        let queue = QueueConfig { max_batch_spans: 50, schedule_delay: Duration::from_millis(5), ..QueueConfig::default() };
        Pipeline::new(route.config_at(proxy.address), queue).expect("good settings")
    };
    let shut_down = |pipeline: Pipeline, timeout: Duration| tokio::task::spawn_blocking(move || pipeline.shutdown(timeout));

    let slow = pipeline();
    push_spans(&slow, 500);
    proxy.fall_silent();
    push_spans(&slow, 500);
    sleep(Duration::from_millis(100)).await;
    let ending = shut_down(slow, PATIENCE);
    sleep(Duration::from_millis(500)).await;
    proxy.speak_again();
    let report = ending.await.expect("no panic");
    assert_eq!((report.undelivered, report.stats.spans.exported, report.stats.spans.lost()), (0, 1_000, 0), "{report:?}");
    route.expect_spans(1_000).await;

    let silent = pipeline();
    push_spans(&silent, 100);
    let flushing = silent.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.expect("no panic").expect("it is delivered");
    proxy.fall_silent();
    push_spans(&silent, 500);
    sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let report = shut_down(silent, Duration::from_secs(1)).await.expect("no panic");
    assert!(begun.elapsed() < Duration::from_secs(1) + LATE, "{:?}", begun.elapsed());
    assert_eq!((report.undelivered, report.stats.spans.exported, report.stats.spans.pending()), (500, 100, 0), "{report:?}");
    // What was on its way may have come through: told as lost, at most, is what is there.
    proxy.speak_again();
    route.expect_at_least(1_100).await;
}

/// A RabbitMQ without room on its disk lets everybody in, and reads nothing more from whoever publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_rabbitmq_costs_deadlines_and_no_connections() {
    let route = RabbitMq(Brokered::open_with(Kind::RabbitMq, Settings { is_full: true, ..Settings::default() }, &[]).await);
    let proxy = Proxy::before(route.address().expect("it has one")).await;
    let transport = built(route.config_at(proxy.address));
    for number in 0..5 {
        let begun = Instant::now();
        let error = transport.send(request(number, 10), soon(Duration::from_secs(2))).await.expect_err("it takes nothing");
        assert!(matches!(error.kind(), CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2) + LATE, "{:?}", begun.elapsed());
    }
    expect_connections(&proxy, 1).await;
}

async fn expect_connections(proxy: &Proxy, at_most: usize) {
    let gone = async {
        while proxy.connections() > at_most {
            sleep(Duration::from_millis(50)).await;
        }
    };
    // Before a heartbeat, or an idle connection's end, does what the transport has to.
    assert!(timeout(Duration::from_secs(5), gone).await.is_ok(), "{} connections, expected at most {at_most}", proxy.connections());
}
