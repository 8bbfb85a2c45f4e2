//! The promises of `scouter_exporter::transport::Transport`, one function each.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use scouter_exporter::{
    MonitoringRecord, Pipeline, QueueConfig, Transport,
    encode::{EncodedEnvelope, EncodedResource, ScopeRef},
    message::{CustomMetricRecord, monitoring_record::Record},
};
use scouter_tonic::client::CallErrorKind;

use super::{PATIENCE, RECEIVERS_LIMIT, Route, START_UNIX_NANO, built, request, soon};

/// After an `Ok` the receiver may die at once.
pub(super) async fn ok_means_taken_over<R: Route>() {
    let mut route = R::open().await;
    let transport = built(route.config());
    for number in 0..3 {
        let sent = transport.send(request(number, 100), soon(PATIENCE)).await.expect("it is taken");
        assert_eq!((sent.rejected_spans, sent.rejected_records), (0, 0), "{sent:?}");
    }
    if route.kill().await {
        route.revive().await;
    }
    route.expect_spans(300).await;
}

/// Whoever is not sure sends again.
pub(super) async fn the_same_bytes_are_stored_once<R: Route>() {
    let mut route = R::open().await;
    let transport = built(route.config());
    for _ in 0..3 {
        transport.send(request(1, 64), soon(PATIENCE)).await.expect("it is taken");
    }
    if route.kill().await {
        route.revive().await;
    }
    until_taken(&*transport, request(1, 64)).await;
    transport.send(request(2, 1), soon(PATIENCE)).await.expect("it is taken");
    route.expect_spans(65).await;
}

/// A whole pipeline over it: many requests at once, of both kinds.
pub(super) async fn spans_and_records_travel_the_same_way<R: Route>() {
    let route = R::open().await;
    let pipeline = Pipeline::new(route.config(), QueueConfig { max_batch_spans: 64, ..QueueConfig::default() }).expect("good settings");
    push_spans(&pipeline, 2_000);
    let records: Vec<MonitoringRecord> = (0..500).map(record).collect();
    pipeline.send_records(records).await.expect("records are delivered");
    let stats = flushed(&pipeline).await;
    assert_eq!((stats.spans.exported, stats.records.exported), (2_000, 500), "{stats:?}");
    route.expect_spans(2_000).await;
    let arrived = async {
        while route.records().await < 500 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("the records arrive");
    assert_eq!(route.records().await, 500);
}

/// A receiver may take less than the transport does. Who sent too much is told so, nothing of it is stored, and all others go on.
pub(super) async fn what_the_receiver_finds_too_large_fails_alone<R: Route>() {
    let Some(route) = R::open_small().await else { return };
    let transport = built(route.config());
    let one = request(1, 1_000).len() / 1_000;
    let spans = |bytes: usize| (bytes / one) as u64;
    let fitting = request(1, spans(RECEIVERS_LIMIT * 9 / 10));
    let too_large = request(2, spans(RECEIVERS_LIMIT * 3 / 2));
    assert!(fitting.len() < RECEIVERS_LIMIT && too_large.len() > RECEIVERS_LIMIT && too_large.len() < transport.limits().max_request_bytes);
    // Whoever is found out must not take those with him who came before and after.
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..21 {
        let (transport, is_too_large) = (Arc::clone(&transport), number == 10);
        let request = if is_too_large { too_large.clone() } else { request(100 + number, 10) };
        sending.spawn(async move { (is_too_large, transport.send(request, soon(PATIENCE)).await) });
    }
    while let Some(sent) = sending.join_next().await {
        match sent.expect("no panic") {
            (false, sent) => drop(sent.expect("it is as large as any")),
            (true, sent) => {
                let error = sent.expect_err("it is above the receiver's limit");
                assert_eq!((error.kind(), error.code()), (CallErrorKind::Refused, tonic::Code::ResourceExhausted), "{error}");
            }
        }
    }
    transport.send(fitting, soon(PATIENCE)).await.expect("it fits");
    route.expect_spans(200 + spans(RECEIVERS_LIMIT * 9 / 10)).await;
}

/// A request near the transport's own limit is one message; one above it is refused and leaves nothing behind.
pub(super) async fn large_requests_arrive_whole_or_are_refused<R: Route>() {
    let route = R::open().await;
    let transport = built(route.config());
    let limit = transport.limits().max_request_bytes;
    let one = request(1, 1_000).len() as u64 / 1_000;
    let fitting = (limit as u64 * 9 / 10 / one).min(20_000);
    transport.send(request(1, fitting), soon(PATIENCE)).await.expect("it fits");
    let too_large = vec![0x1a; limit + 1024];
    let error = transport.send(too_large.into(), soon(PATIENCE)).await.expect_err("it is above the limit");
    assert_eq!((error.kind(), error.code()), (CallErrorKind::Refused, tonic::Code::ResourceExhausted), "{error}");
    transport.send(request(2, 1), soon(PATIENCE)).await.expect("it goes on");
    route.expect_spans(fitting + 1).await;
}

/// It fails by the deadline, in a way that says that sending again may help; and it does when the receiver is back.
pub(super) async fn a_receiver_that_is_gone_costs_the_deadline<R: Route>() {
    let mut route = R::open().await;
    let transport = built(route.config());
    transport.send(request(1, 10), soon(PATIENCE)).await.expect("it is taken");
    if route.kill().await {
        for number in 0..3 {
            let late = tokio::time::timeout(PATIENCE, transport.send(request(2 + number, 10), soon(Duration::from_secs(1))));
            let error = late.await.expect("it is over by its deadline").expect_err("nobody is there");
            assert!(matches!(error.kind(), CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded), "{error}");
        }
        route.revive().await;
    }
    until_taken(&*transport, request(1, 10)).await;
    transport.send(request(9, 10), soon(PATIENCE)).await.expect("it is taken again");
    // What was taken is there: of the others each may be.
    route.expect_at_least(20).await;
    let spans = route.spans().await;
    assert!(spans <= 50 && spans.is_multiple_of(10), "{spans} spans of 50");
}

/// The pipeline above it tries until the receiver is back, and nothing of what it counts as exported is missing or there twice.
pub(super) async fn nothing_is_lost_when_the_receiver_dies_under_load<R: Route>() {
    let mut route = R::open().await;
    let queue = QueueConfig { max_batch_spans: 50, schedule_delay: Duration::from_millis(5), ..QueueConfig::default() };
    let pipeline = Pipeline::new(route.config(), queue).expect("good settings");
    for part in 0..4 {
        push_spans(&pipeline, 1_000);
        if part == 1 || part == 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if route.kill().await {
                push_spans(&pipeline, 500);
                route.revive().await;
            } else {
                push_spans(&pipeline, 500);
            }
        }
    }
    let stats = flushed(&pipeline).await;
    assert_eq!((stats.spans.exported, stats.spans.lost()), (5_000, 0), "{stats:?}");
    route.expect_spans(5_000).await;
}

/// Dropped futures leave the transport as it was.
pub(super) async fn who_stops_waiting_harms_nothing<R: Route>() {
    let route = R::open().await;
    let transport = built(route.config());
    // It has logged in: a login that is cut off is a failed one to the server, which allows few of those.
    transport.send(request(0, 10), soon(PATIENCE)).await.expect("it is taken");
    for number in 0..20 {
        let sending = transport.send(request(number, 10), soon(PATIENCE));
        // Some of them are cut off before they began, others in the middle.
        let _cut_off = tokio::time::timeout(Duration::from_micros(number * 200), sending).await;
    }
    for number in 0..20 {
        transport.send(request(number, 10), soon(PATIENCE)).await.expect("it is taken");
    }
    route.expect_spans(200).await;
}

/// No attempt with a wrong password goes through, and no message shows it.
pub(super) async fn wrong_credentials_are_told_and_kept_secret<R: Route>() {
    let route = R::open().await;
    let Some(config) = route.config_with_wrong_password() else { return };
    assert!(!format!("{config:?}").contains("wrong-password"), "{config:?}");
    let transport = built(config);
    for _ in 0..2 {
        let error = transport.send(request(1, 10), soon(Duration::from_secs(20))).await.expect_err("the password is wrong");
        assert!(matches!(error.kind(), CallErrorKind::Credentials | CallErrorKind::Unauthenticated), "{error}");
        assert!(!format!("{error:?} {error} {transport:?}").contains("wrong-password"), "{error:?} {transport:?}");
    }
    assert!(transport.credentials_pause().is_some(), "nothing is tried for a while");
    assert_eq!(route.spans().await, 0);
}

/// Spans that wait when a shutdown begins are delivered by it.
pub(super) async fn a_shutdown_delivers_what_is_left<R: Route>() {
    let route = R::open().await;
    let queue = QueueConfig { schedule_delay: Duration::from_secs(3600), ..QueueConfig::default() };
    let pipeline = Pipeline::new(route.config(), queue).expect("good settings");
    push_spans(&pipeline, 1_900);
    let report = tokio::task::spawn_blocking(move || pipeline.shutdown(PATIENCE)).await.expect("no panic");
    assert_eq!((report.undelivered, report.stats.spans.exported), (0, 1_900), "{report:?}");
    route.expect_spans(1_900).await;
}

/// What is sent after a close is taken or fails, by its deadline.
pub(super) async fn a_closed_transport_does_not_hang<R: Route>() {
    let route = R::open().await;
    let transport = built(route.config());
    transport.send(request(1, 10), soon(PATIENCE)).await.expect("it is taken");
    for _ in 0..2 {
        tokio::time::timeout(PATIENCE, transport.close(soon(Duration::from_secs(5)))).await.expect("it closes");
    }
    let again = tokio::time::timeout(PATIENCE, transport.send(request(1, 10), soon(Duration::from_secs(5)))).await;
    let _taken_or_not = again.expect("it is over by its deadline");
    built(route.config()).send(request(2, 10), soon(PATIENCE)).await.expect("another one is not concerned");
    route.expect_spans(20).await;
}

/// As a pipeline does, which makes attempt after attempt: the first one may find a connection dead.
pub(super) async fn until_taken(transport: &dyn Transport, request: Bytes) {
    let deadline = soon(PATIENCE);
    while let Err(error) = transport.send(request.clone(), soon(Duration::from_secs(5))).await {
        assert!(error.kind() != CallErrorKind::Refused && soon(Duration::ZERO) < deadline, "the receiver is back and still: {error}");
    }
}

pub(super) fn push_spans(pipeline: &Pipeline, count: u64) {
    let envelope = EncodedEnvelope::new(EncodedResource::new([], None), &ScopeRef::default());
    for _ in 0..count {
        let mut span = Vec::new();
        // A trace id, a span id, a name and two times.
        span.extend([0x0a, 16]);
        span.extend(rand::random::<[u8; 16]>());
        span.extend([0x12, 8]);
        span.extend(rand::random::<[u8; 8]>());
        span.extend([0x2a, 4]);
        span.extend(b"work");
        for tag in [0x39, 0x41] {
            span.push(tag);
            span.extend(START_UNIX_NANO.to_le_bytes());
        }
        assert!(pipeline.try_push(&envelope, &span), "{:?}", pipeline.stats());
    }
}

fn record(number: u32) -> MonitoringRecord {
    let record = CustomMetricRecord {
        created_at_unix_nano: START_UNIX_NANO + u64::from(number),
        entity_uid: "contract".to_owned(),
        metric: "number".to_owned(),
        value: f64::from(number),
    };
    MonitoringRecord { record: Some(Record::Custom(record)) }
}

async fn flushed(pipeline: &Pipeline) -> scouter_exporter::Stats {
    let flushing = pipeline.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.expect("no panic").expect("everything is delivered");
    pipeline.stats()
}
