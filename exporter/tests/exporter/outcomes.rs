//! What follows from an answer: done, retried, dropped, rejected.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use scouter_exporter::{DropReason, ExportError, GrpcConfig, OutagePolicy, Pipeline, QueueConfig};
use tonic::Code;

use super::{
    server::{PATIENCE, Reply, Server, refused_address, silent_server, throttle, wait_until},
    spans::{assert_balanced, batch, block_on, envelope, pipeline, span},
};

#[test]
fn c_33_retryable_answers_are_retried_with_the_same_bytes() {
    for code in [Code::Cancelled, Code::DeadlineExceeded, Code::Aborted, Code::OutOfRange, Code::Unavailable, Code::DataLoss] {
        let server = Server::start();
        server.script([Reply::Fail(code, "later")]);
        let pipeline = pipeline(&server);
        block_on(pipeline.send(batch(0..2))).unwrap();
        let inserts = server.inserts();
        assert_eq!(inserts.len(), 2, "{code:?}");
        assert_eq!(inserts[0].body, inserts[1].body, "{code:?}");
        let stats = pipeline.stats();
        assert_eq!((stats.spans.exported, stats.retries), (2, 1), "{code:?}");
    }
}

#[test]
fn c_34_other_answers_drop_the_batch_and_count_it() {
    let codes = [
        Code::Unknown,
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::Internal,
    ];
    let server = Server::start();
    let pipeline = pipeline(&server);
    for (index, code) in codes.into_iter().enumerate() {
        server.script([Reply::Fail(code, "the server's words")]);
        let error = block_on(pipeline.send(batch(0..2))).unwrap_err();
        assert!(matches!(error, ExportError::Dropped { count: 2, reason: DropReason::Refused, .. }), "{code:?}: {error}");
        assert!(error.to_string().contains("the server's words"), "{error}");
        assert_eq!(server.inserts().len(), index + 1, "{code:?} is not retried");
    }
    let stats = pipeline.stats();
    assert_eq!(stats.spans.dropped.get(DropReason::Refused), 2 * codes.len() as u64);
    assert!(stats.last_error.as_ref().is_some_and(|error| error.contains("the server's words")));
    assert_balanced(&stats);
}

#[test]
fn c_33_resource_exhausted_is_retried_exactly_when_the_server_says_when() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    server.script([throttle(Code::ResourceExhausted, 0, 1_000_000)]);
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.script([Reply::Fail(Code::ResourceExhausted, "too large")]);
    block_on(pipeline.send(batch(0..1))).unwrap_err();
}

#[test]
fn c_36_retry_info_throttles_the_whole_destination() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.script([throttle(Code::Unavailable, 0, 600_000_000)]);
    let start = Instant::now();
    let first = pipeline.send(batch(1..2));
    wait_until("the server asked for patience", || server.inserts().len() == 2);
    let second = pipeline.send(batch(2..3));
    block_on(first).unwrap();
    block_on(second).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
}

#[test]
fn c_37_absurd_retry_info_neither_blocks_nor_spins() {
    for (seconds, nanos) in [(0, 0), (-5, 0), (1, -1), (0, 2_000_000_000), (i64::MAX, 0)] {
        let server = Server::start();
        server.script([throttle(Code::Unavailable, seconds, nanos)]);
        let config = GrpcConfig { timeout: Duration::from_secs(2), ..server.config() };
        let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
        let start = Instant::now();
        let result = block_on(pipeline.send(batch(0..1)));
        assert_eq!(result.is_ok(), seconds != i64::MAX, "{seconds} s {nanos} ns: {result:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(server.inserts().len() <= 2);
    }
}

#[test]
fn malformed_status_details_do_not_hurt() {
    let server = Server::start();
    server.script([Reply::FailWith(Code::Unavailable, vec![("google.rpc.retryinfo-bin", vec![0xff, 0xff, 0xff])])]);
    block_on(pipeline(&server).send(batch(0..1))).unwrap();
}

#[test]
fn c_31_a_partial_success_is_counted_and_not_retried() {
    let server = Server::start();
    server.script([Reply::Reject { spans: 2, records: 0, message: "two had no id" }]);
    let pipeline = pipeline(&server);
    let error = block_on(pipeline.send(batch(0..5))).unwrap_err();
    assert!(matches!(&error, ExportError::Rejected { count: 2, message } if message == "two had no id"), "{error}");
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.spans.rejected, stats.retries), (3, 2, 0));
    assert_eq!(stats.last_error.as_deref(), Some("two had no id"));
    assert_balanced(&stats);
}

#[test]
fn c_32_a_warning_is_a_success() {
    let server = Server::start();
    server.script([Reply::Reject { spans: 0, records: 0, message: "please update" }]);
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..5))).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 5);
}

#[test]
fn c_31_a_server_that_rejects_more_than_it_got_does_not_unbalance_the_account() {
    let server = Server::start();
    server.script([Reply::Reject { spans: i64::MAX, records: -7, message: "nonsense" }]);
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..5))).unwrap_err();
    let stats = pipeline.stats();
    assert_eq!(stats.spans.rejected, 5);
    assert_balanced(&stats);
}

#[test]
fn c_29_an_answer_above_the_limit_is_not_retried() {
    let server = Server::start();
    server.script([Reply::Huge(5 * 1024 * 1024)]);
    let pipeline = pipeline(&server);
    let error = block_on(pipeline.send(batch(0..1))).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
    assert_eq!(server.inserts().len(), 1);
}

#[test]
fn c_38_the_server_comes_back_on_the_same_port() {
    let mut server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.stop();
    let send = pipeline.send(batch(1..2));
    server.restart();
    block_on(send).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 2);
}

#[test]
fn c_53_a_server_that_accepts_and_is_silent_costs_the_deadline() {
    let (_listener, config) = silent_server();
    let timeout = Duration::from_millis(500);
    let pipeline = Pipeline::new(GrpcConfig { timeout, ..config }, QueueConfig::default()).unwrap();
    let start = Instant::now();
    let error = block_on(pipeline.send(batch(0..1))).unwrap_err();
    assert!(matches!(error, ExportError::Dropped { reason: DropReason::ExportTimeout, .. }), "{error}");
    assert!(start.elapsed() < timeout + Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn c_53_a_call_that_is_never_answered_costs_the_deadline() {
    let server = Server::start();
    server.script([Reply::Never]);
    let timeout = Duration::from_millis(500);
    let pipeline = Pipeline::new(GrpcConfig { timeout, ..server.config() }, QueueConfig::default()).unwrap();
    let start = Instant::now();
    block_on(pipeline.send(batch(0..1))).unwrap_err();
    assert!(start.elapsed() < timeout + Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn an_absent_server_is_named_with_the_reason() {
    let config =
        GrpcConfig { server_uri: format!("http://{}", refused_address()), timeout: Duration::from_millis(500), ..GrpcConfig::default() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    let error = block_on(pipeline.send(batch(0..1))).unwrap_err().to_string();
    assert!(error.contains("onnection refused"), "{error}");
    let stats = pipeline.stats();
    assert_eq!(stats.spans.dropped.get(DropReason::ExportTimeout), 1);
    assert!(stats.retries > 0);
}

#[test]
fn queued_spans_outlive_an_outage_longer_than_the_timeout() {
    let mut server = Server::start();
    let config = GrpcConfig { timeout: Duration::from_millis(200), ..server.config() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    server.stop();
    for number in 0..100 {
        assert!(pipeline.try_push(&envelope(), &span(number, 10)));
    }
    pipeline.flush(Duration::from_millis(800)).unwrap_err();
    assert_eq!(pipeline.stats().spans.pending(), 100);
    server.restart();
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 100);
}

#[test]
fn with_the_drop_policy_an_outage_longer_than_the_timeout_is_counted() {
    let config =
        GrpcConfig { server_uri: format!("http://{}", refused_address()), timeout: Duration::from_secs(1), ..GrpcConfig::default() };
    let pipeline = Pipeline::new(config, QueueConfig { outage: OutagePolicy::Drop, ..QueueConfig::default() }).unwrap();
    for number in 0..100 {
        assert!(pipeline.try_push(&envelope(), &span(number, 10)));
    }
    let error = pipeline.flush(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("100 lost") && error.contains("onnection refused"), "{error}");
    let stats = pipeline.stats();
    assert_eq!(stats.spans.dropped.get(DropReason::ExportTimeout), 100);
    assert_balanced(&stats);
}

#[test]
fn a_full_queue_drops_and_counts_by_spans_and_by_bytes() {
    for queue in [
        QueueConfig { max_spans: 10, max_batch_spans: 5, ..QueueConfig::default() },
        QueueConfig { max_bytes: 1000, ..QueueConfig::default() },
    ] {
        let config = GrpcConfig { server_uri: format!("http://{}", refused_address()), ..GrpcConfig::default() };
        let pipeline = Pipeline::new(config, queue).unwrap();
        let taken = (0..100).filter(|number| pipeline.try_push(&envelope(), &span(*number, 10))).count() as u64;
        let stats = pipeline.stats();
        assert!((1..100).contains(&taken));
        assert!(stats.pending_bytes <= 1100 && stats.pending_bytes <= stats.pending_bytes_high_water, "{stats:?}");
        assert_eq!((stats.spans.accepted, stats.spans.ended), (taken, 100));
        assert_eq!(stats.spans.dropped.get(DropReason::QueueFull), 100 - taken);
        assert_balanced(&stats);
        let report = pipeline.shutdown(Duration::from_secs(3));
        assert_eq!(report.undelivered, taken);
        assert_balanced(&report.stats);
    }
}

#[test]
fn a_request_that_only_fails_itself_holds_nobody_up_and_is_given_up_in_the_end() {
    let server = Server::start();
    server.state().poison = Some(("span 3", Code::Unavailable));
    let queue = QueueConfig { max_batch_spans: 1, max_in_flight: 1, ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    let envelope = envelope();
    let pushed = Cell::new(0);
    // It is tried between the others; each flush lets it try at once.
    wait_until("the poisoned request is given up", || {
        assert!(pipeline.try_push(&envelope, &span(pushed.get(), 10)));
        pushed.set(pushed.get() + 1);
        let _timeout = pipeline.flush(Duration::from_millis(20));
        pipeline.stats().spans.dropped.get(DropReason::Refused) == 1
    });
    pipeline.flush(PATIENCE).unwrap();
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.spans.dropped.total()), (pushed.get() - 1, 1));
    let error = server.inserts().iter().filter(|insert| insert.spans()[0].name == "span 3").count();
    assert!((30..=60).contains(&error), "{error} attempts");
    assert_balanced(&stats);
}

#[test]
fn while_the_server_is_away_one_attempt_at_a_time_asks_for_it() {
    let server = Server::start();
    let queue = QueueConfig { max_batch_spans: 1, ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.state().default_reply = Some(Reply::Fail(Code::Unavailable, "away"));
    let envelope = envelope();
    (0..500).for_each(|number| assert!(pipeline.try_push(&envelope, &span(number, 10))));
    wait_until("it is known to be away", || server.inserts().len() >= 5);
    let (before, start) = (server.inserts().len(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let attempts = server.inserts().len() - before;
    // Pauses begin at 0.1 s and double: in a second there is no room for many.
    assert!(attempts <= 6, "{attempts} attempts in {:?}", start.elapsed());
    server.state().default_reply = None;
    wait_until("all arrive", || pipeline.stats().spans.exported == 501);
    assert_balanced(&pipeline.stats());
}

#[test]
fn c_36_a_flush_does_not_cut_short_what_the_server_asked_for() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    server.script([throttle(Code::Unavailable, 1, 0)]);
    let start = Instant::now();
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    pipeline.flush(PATIENCE).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}
