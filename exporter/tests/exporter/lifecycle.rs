//! Rules C-39 and C-50 to C-54: flush, shutdown, and what happens around them.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use scouter_exporter::{
    DropReason, ExportError, FlushError, GrpcConfig, GrpcSpanExporter, Pipeline, QueueConfig,
    opentelemetry_sdk::{error::OTelSdkError, trace::SpanExporter},
};
use tonic::Code;

use super::{
    server::{PATIENCE, Reply, Server, refused_address, silent_server, wait_until},
    spans::{assert_balanced, batch, block_on, envelope, pipeline, span, span_data},
};

/// Beyond a deadline, for a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn c_39_shutdown_waits_for_answers_under_way_and_records_what_is_undelivered() {
    let server = Server::start();
    server.script([Reply::Slow(Duration::from_millis(300))]);
    let patient = pipeline(&server);
    assert!(patient.try_push(&envelope(), &span(1, 10)));
    wait_until("the request is under way", || server.inserts().len() == 1);
    let report = patient.shutdown(PATIENCE);
    assert_eq!((report.undelivered, report.stats.spans.exported), (0, 1));

    server.script([Reply::Never]);
    let hasty = Pipeline::new(GrpcConfig { username: String::new(), ..server.config() }, QueueConfig::default()).unwrap();
    server.state().valid_token = None;
    assert!(hasty.try_push(&envelope(), &span(2, 10)));
    wait_until("the request is under way", || server.inserts().len() == 2);
    let report = hasty.shutdown(Duration::from_millis(100));
    assert_eq!((report.undelivered, report.stats.spans.dropped.get(DropReason::Shutdown)), (1, 1));
    assert_balanced(&report.stats);
}

#[test]
fn c_50_export_after_shutdown_says_so_and_is_counted() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    block_on(exporter.export(vec![span_data("before")])).unwrap();
    exporter.shutdown_with_timeout(Duration::from_secs(5)).unwrap();
    let after = block_on(exporter.export(vec![span_data("after")]));
    assert!(matches!(after, Err(OTelSdkError::AlreadyShutdown)));
    assert!(!exporter.pipeline().try_push(&envelope(), &span(1, 1)));
    assert!(matches!(exporter.pipeline().flush(PATIENCE), Err(FlushError::AlreadyShutdown)));
    let stats = exporter.stats();
    assert_eq!((stats.spans.exported, stats.spans.dropped.get(DropReason::Shutdown)), (1, 2));
    assert_balanced(&stats);
}

#[test]
fn c_51_shutdown_is_idempotent_and_delivers_what_is_queued() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    (0..1000).for_each(|number| assert!(pipeline.try_push(&envelope(), &span(number, 10))));
    let report = pipeline.shutdown(PATIENCE);
    assert_eq!((report.undelivered, report.was_shut_down, report.stats.spans.exported), (0, false, 1000));
    let again = pipeline.shutdown(PATIENCE);
    assert_eq!((again.undelivered, again.was_shut_down, again.stats.spans.exported), (0, true, 1000));
}

#[test]
fn c_51_a_second_shutdown_does_not_cut_the_first_one_short() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    server.script([Reply::Fail(Code::Unavailable, "busy"), Reply::Fail(Code::Unavailable, "busy")]);
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    let first = std::thread::spawn({
        let pipeline = pipeline.clone();
        move || pipeline.shutdown(PATIENCE)
    });
    wait_until("the first shutdown has begun", || !pipeline.try_push(&envelope(), &span(2, 10)));
    let second = pipeline.shutdown(Duration::ZERO);
    assert!(second.was_shut_down);
    assert_balanced(&second.stats);
    let report = first.join().unwrap();
    assert_eq!((report.undelivered, report.was_shut_down), (0, false));
    assert_eq!(report.stats.spans.exported, report.stats.spans.accepted);
}

#[test]
fn c_51_shutdown_keeps_its_time_in_every_fault() {
    let timeout = Duration::from_millis(300);
    let check = |name: &str, config: GrpcConfig, server: Option<&Server>| {
        let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
        (0..10).for_each(|number| assert!(pipeline.try_push(&envelope(), &span(number, 10))));
        let send = pipeline.send(batch(10..12));
        if let Some(server) = server {
            wait_until("the request is under way", || !server.inserts().is_empty());
        }
        let start = Instant::now();
        let report = pipeline.shutdown(timeout);
        assert!(start.elapsed() < timeout + SLACK, "{name}: {:?}", start.elapsed());
        assert_eq!(report.undelivered, 12, "{name}: {report:?}");
        assert_balanced(&report.stats);
        let error = block_on(send).unwrap_err();
        assert!(matches!(error, ExportError::Dropped { .. }), "{name}: {error}");
    };
    let refused = GrpcConfig { server_uri: format!("http://{}", refused_address()), ..GrpcConfig::default() };
    check("refused port", refused, None);
    let (_listener, silent) = silent_server();
    check("silent server", silent, None);
    let server = Server::start();
    server.state().default_reply = Some(Reply::Never);
    check("never answered", server.config(), Some(&server));
    let server = Server::start();
    server.state().default_reply = Some(Reply::Fail(Code::Unavailable, "busy"));
    check("unavailable for ever", server.config(), Some(&server));
}

#[test]
fn c_51_shutdown_interrupts_back_off_and_tries_once_more() {
    let mut server = Server::start();
    let pipeline = pipeline(&server);
    server.stop();
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    pipeline.flush(Duration::from_secs(2)).unwrap_err();
    assert!(pipeline.stats().retries > 1, "the back-off has grown by now");
    server.restart();
    let report = pipeline.shutdown(Duration::from_secs(10));
    assert_eq!((report.undelivered, report.stats.spans.exported), (0, 1));
}

#[test]
fn c_51_shutdown_without_anything_sent_starts_nothing() {
    let config = GrpcConfig { server_uri: format!("http://{}", refused_address()), ..GrpcConfig::default() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    let start = Instant::now();
    assert_eq!(pipeline.shutdown(PATIENCE).undelivered, 0);
    assert!(start.elapsed() < SLACK);
}

#[test]
fn c_52_flush_covers_everything_that_ended_before_it() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    for round in 1..=20_u64 {
        (0..37).for_each(|number| assert!(pipeline.try_push(&envelope(), &span(number, 10))));
        pipeline.flush(PATIENCE).unwrap();
        assert_eq!(pipeline.stats().spans.exported, round * 37);
    }
    let arrived: usize = server.inserts().iter().map(|insert| insert.spans().len()).sum();
    assert_eq!(arrived, 20 * 37);
}

#[test]
fn c_52_flush_keeps_its_time_and_leaves_the_rest_queued() {
    let server = Server::start();
    server.state().default_reply = Some(Reply::Never);
    let pipeline = pipeline(&server);
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    let start = Instant::now();
    let error = pipeline.flush(Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, FlushError::Timeout { pending: 1, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_millis(200) + SLACK);
    assert_eq!(pipeline.stats().spans.pending(), 1);
}

#[test]
fn c_52_a_flush_tells_once_of_spans_that_a_full_queue_did_not_take() {
    let server = Server::start();
    let queue = QueueConfig { max_spans: 10, max_batch_spans: 10, schedule_delay: Duration::from_secs(3600), ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    server.state().default_reply = Some(Reply::Never);
    let taken = (0..15).filter(|number| pipeline.try_push(&envelope(), &span(*number, 10))).count();
    assert_eq!(taken, 10);
    let error = pipeline.flush(Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, FlushError::Timeout { pending: 10, .. }), "{error}");
    pipeline.shutdown(Duration::ZERO);

    let pipeline = Pipeline::new(server.config(), QueueConfig { max_spans: 10, max_batch_spans: 10, ..QueueConfig::default() }).unwrap();
    server.state().default_reply = Some(Reply::Fail(Code::Unavailable, "busy"));
    assert_eq!((0..15).filter(|number| pipeline.try_push(&envelope(), &span(*number, 10))).count(), 10);
    assert_eq!(pipeline.stats().spans.dropped.get(DropReason::QueueFull), 5);
    server.state().default_reply = None;
    let error = pipeline.flush(PATIENCE).unwrap_err();
    assert!(matches!(error, FlushError::Lost { lost: 5, .. }), "{error}");
    pipeline.flush(PATIENCE).unwrap();
}

#[test]
fn c_52_a_flush_does_not_answer_for_what_ended_after_it() {
    let server = Server::start();
    let queue = QueueConfig { max_batch_spans: 1, max_in_flight: 2, ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
    // The first request is answered late, the second one is refused meanwhile.
    server.script([Reply::Slow(Duration::from_millis(600)), Reply::Fail(Code::InvalidArgument, "no")]);
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    wait_until("the first one is under way", || server.inserts().len() == 2);
    let flush = std::thread::spawn({
        let pipeline = pipeline.clone();
        move || pipeline.flush(PATIENCE)
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(pipeline.try_push(&envelope(), &span(2, 10)));
    wait_until("the second one is lost", || pipeline.stats().spans.lost() == 1);
    flush.join().unwrap().unwrap();
    let error = pipeline.flush(PATIENCE).unwrap_err();
    assert!(matches!(error, FlushError::Lost { lost: 1, .. }), "{error}");
}

#[test]
fn c_52_a_flush_tries_at_once_what_waits_for_a_pause_to_end() {
    let mut server = Server::start();
    let pipeline = pipeline(&server);
    server.stop();
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    pipeline.flush(Duration::from_secs(2)).unwrap_err();
    wait_until("pauses have grown", || pipeline.stats().retries > 3);
    server.restart();
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 1);
}

#[test]
fn c_52_flush_export_and_shutdown_may_meet() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    let pushed = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let envelope = envelope();
                for number in 0..100_000 {
                    pushed.fetch_add(1, Ordering::Relaxed);
                    pipeline.try_push(&envelope, &span(number, 10));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while pipeline.flush(PATIENCE).is_ok() {
                    let _outcome = block_on(pipeline.send(batch(0..3)));
                    pushed.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let report = pipeline.shutdown(PATIENCE);
        stop.store(true, Ordering::Relaxed);
        assert_balanced(&report.stats);
        assert_eq!(report.stats.spans.pending(), 0);
    });
    let stats = pipeline.stats();
    assert_eq!(stats.spans.ended, pushed.load(Ordering::Relaxed), "every ended span is in the account");
    let arrived: usize = server.inserts().iter().map(|insert| insert.spans().len()).sum();
    assert_eq!(stats.spans.exported, arrived as u64);
    assert_balanced(&stats);
}

#[test]
fn a_span_alone_is_sent_soon() {
    let server = Server::start();
    let queue = QueueConfig { schedule_delay: Duration::from_secs(3600), ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    wait_until("the first span arrives without the whole delay", || pipeline.stats().spans.exported == 1);
}

#[test]
fn a_full_batch_is_sent_at_once() {
    let server = Server::start();
    let queue = QueueConfig { schedule_delay: Duration::from_secs(3600), max_batch_spans: 10, ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    (0..20).for_each(|number| assert!(pipeline.try_push(&envelope(), &span(number, 10))));
    wait_until("both batches arrive", || pipeline.stats().spans.exported == 20);
}

#[test]
fn c_20_several_requests_are_in_flight_at_once() {
    let server = Server::start();
    block_on(pipeline(&server).send(batch(0..1))).unwrap();
    server.state().default_reply = Some(Reply::Never);
    let pipeline = pipeline(&server);
    let sends: Vec<_> = (0..6).map(|number| pipeline.send(batch([number]))).collect();
    wait_until("four are under way", || server.inserts().len() == 5);
    assert_eq!(pipeline.stats().spans.in_flight, 4);
    assert_eq!(pipeline.stats().spans.queued, 2);
    pipeline.shutdown(Duration::from_millis(50));
    drop(sends);
}

#[test]
fn dropping_the_last_handle_does_not_wait_but_still_delivers() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    (0..10).for_each(|number| assert!(pipeline.try_push(&envelope(), &span(number, 10))));
    drop(pipeline);
    wait_until("the spans arrive", || server.inserts().iter().map(|insert| insert.spans().len()).sum::<usize>() == 10);
}

#[test]
fn dropping_with_a_silent_server_does_not_block() {
    let (_listener, config) = silent_server();
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    let start = Instant::now();
    drop(pipeline);
    assert!(start.elapsed() < SLACK);
}

#[test]
fn the_child_of_a_fork_has_a_queue_and_an_account_of_its_own() {
    // The hook is what is tested here: a test process with threads cannot fork safely.
    let server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    assert!(pipeline.try_push(&envelope(), &span(5, 10)));
    pipeline.after_fork_in_child();
    assert_eq!(pipeline.stats().spans.ended, 0);
    block_on(pipeline.send(batch(1..2))).unwrap();
    assert!(pipeline.try_push(&envelope(), &span(6, 10)));
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 2);
    assert_eq!(server.state().logins, 2, "the child has its own connection and token");
}
